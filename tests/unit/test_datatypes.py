"""The table of datatypes, and the framing of BYTES."""

import struct

import ml_dtypes
import numpy as np
import pytest

from triton_stub import config, datatypes
from triton_stub.datatypes import BF16, BYTES, DATATYPES

every_row = pytest.mark.parametrize("row", DATATYPES, ids=lambda row: row.name)


def test_the_table_is_that_of_the_configuration_schema():
    schema = dict(config.schema().DataType.items())
    del schema["TYPE_INVALID"]
    assert {row.config_name: row.number for row in DATATYPES} == schema


@every_row
def test_a_row_is_found_by_each_of_its_names(row):
    assert datatypes.from_name(row.name) is row
    assert datatypes.from_config_name(row.config_name) is row
    assert datatypes.from_number(row.number) is row
    assert datatypes.from_dtype(row.numpy) is row


@every_row
def test_item_size_is_that_of_the_array(row):
    assert row.itemsize == (0 if row is BYTES else np.empty(1, row.numpy).nbytes)


@pytest.mark.parametrize(
    ("find", "unknown"),
    [
        (datatypes.from_name, "TYPE_FP32"),
        (datatypes.from_config_name, "FP32"),
        (datatypes.from_number, 0),
    ],
)
def test_an_unknown_name_is_a_key_error(find, unknown):
    with pytest.raises(KeyError):
        find(unknown)


@pytest.mark.parametrize("dtype", ["S", "S3", "U", "U7", object])
def test_strings_are_bytes(dtype):
    assert datatypes.from_dtype(np.dtype(dtype)) is BYTES


@pytest.mark.parametrize(
    ("dtype", "name"), [(">f4", "FP32"), (">i2", "INT16"), (np.longlong, "INT64")]
)
def test_neither_byte_order_nor_the_name_in_c_matters(dtype, name):
    assert datatypes.from_dtype(np.dtype(dtype)).name == name


def test_bfloat16_is_known():
    assert datatypes.from_dtype(np.dtype(ml_dtypes.bfloat16)) is BF16


@pytest.mark.parametrize("dtype", ["c8", "M8[s]", "m8[s]", "longdouble", "V4", "f4,i4"])
def test_what_triton_has_no_datatype_for(dtype):
    assert datatypes.from_dtype(np.dtype(dtype)) is None


def test_elements_are_framed_by_their_length():
    assert datatypes.encode_bytes(np.array([b"a", b"", b"bc"], object)) == (
        b"\x01\0\0\0a" + b"\0\0\0\0" + b"\x02\0\0\0bc"
    )


def test_elements_are_framed_in_c_order():
    array = np.array([[b"a", b"b"], [b"c", b"d"]], object)
    decoded = datatypes.decode_bytes(datatypes.encode_bytes(array.T))
    assert decoded.tolist() == [b"a", b"c", b"b", b"d"]


@pytest.mark.parametrize(
    ("element", "framed"),
    [
        ("ü", "ü".encode()),
        (None, b"None"),
        (1, b"1"),
        (bytearray(b"q"), b"bytearray(b'q')"),
        (np.bytes_(b"n"), b"b'n'"),
        (b"nul\0", b"nul\0"),
    ],
)
def test_what_is_not_bytes_becomes_text(element, framed):
    array = np.array([element, b"more"], object)
    assert datatypes.decode_bytes(datatypes.encode_bytes(array))[0] == framed


def test_byte_string_arrays_lose_trailing_nuls():
    framed = datatypes.encode_bytes(np.array([b"a\0", b"bcd"]))
    assert datatypes.decode_bytes(framed).tolist() == [b"a", b"bcd"]


def test_no_elements():
    decoded = datatypes.decode_bytes(datatypes.encode_bytes(np.array([], object)))
    assert decoded.shape == (0,)
    assert decoded.dtype == object


@pytest.mark.parametrize("data", [b"\1", b"\1\0\0", b"\2\0\0\0a", b"\1\0\0\0a\1"])
def test_data_that_ends_too_early(data):
    with pytest.raises(struct.error):
        datatypes.decode_bytes(data)


@pytest.mark.parametrize(
    ("shape", "text"), [((), "[]"), ([3], "[3]"), ((1, 224, -1), "[1,224,-1]")]
)
def test_a_shape_is_printed_without_blanks(shape, text):
    assert datatypes.format_shape(shape) == text
