"""Tensors on their way between a client and a model."""

import ml_dtypes
import numpy as np
import pytest

from triton_stub.core.tensor import Tensor
from triton_stub.datatypes import BF16, BYTES, DATATYPES

FIXED = [row for row in DATATYPES if row is not BYTES]
NAMES = [row.name for row in FIXED]


def through_the_wire(tensor):
    return Tensor(tensor.name, tensor.datatype, tensor.shape, bytes(tensor.to_bytes()))


@pytest.mark.parametrize("datatype", FIXED, ids=NAMES)
@pytest.mark.parametrize("shape", [(), (1,), (2, 3), (0,), (2, 0, 3)], ids=str)
def test_every_datatype_and_shape_survives_the_wire(datatype, shape):
    array = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(datatype.numpy)
    tensor = Tensor.from_numpy("x", array)
    assert tensor.datatype is datatype
    assert tensor.byte_size == len(tensor.to_bytes()) == array.nbytes
    back = through_the_wire(tensor).to_numpy()
    assert back.dtype == array.dtype
    assert back.shape == shape
    assert (back == array).all()


@pytest.mark.parametrize(
    ("array", "items"),
    [
        (np.array([b"a", b"", b"\xff\x00"], object), [b"a", b"", b"\xff\x00"]),
        (np.array(["é", "b"]), ["é".encode(), b"b"]),
        (np.array([b"ab", b"c"]), [b"ab", b"c"]),
        (np.array(["é", 7, None], object), ["é".encode(), b"7", b"None"]),
        (np.array([], object), []),
        (np.array("x"), [b"x"]),
    ],
    ids=["bytes", "text", "byte strings", "objects", "empty", "0-d"],
)
def test_whatever_becomes_bytes(array, items):
    tensor = Tensor.from_numpy("x", array)
    assert tensor.datatype is BYTES
    assert tensor.shape == array.shape
    assert tensor.to_numpy().ravel().tolist() == items
    assert through_the_wire(tensor).to_numpy().shape == array.shape
    assert tensor.byte_size == sum(4 + len(item) for item in items)


def test_bfloat16_has_its_own_datatype():
    tensor = Tensor.from_numpy("x", np.array([1.5], ml_dtypes.bfloat16))
    assert tensor.datatype is BF16
    assert bytes(tensor.to_bytes()) == b"\xc0\x3f"


@pytest.mark.parametrize("dtype", [">f4", ">i8", ">u2"])
def test_big_endian_values_are_sent_little_endian(dtype):
    array = np.array([1, 2], dtype)
    tensor = Tensor.from_numpy("x", array)
    assert tensor.to_numpy().dtype.isnative
    assert tensor.to_numpy().tolist() == [1, 2]
    assert bytes(tensor.to_bytes()) == array.astype(array.dtype.newbyteorder("<")).tobytes()


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.float32).reshape(2, 3).T,
        np.arange(6, dtype=np.float32)[::2],
        np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)),
        np.broadcast_to(np.float32(3), (2, 2)),
        np.array([["a", "b"], ["c", "d"]], object).T,
    ],
    ids=["transposed", "strided", "fortran", "broadcast", "objects"],
)
def test_values_are_in_c_order(array):
    tensor = Tensor.from_numpy("x", array)
    assert tensor.to_numpy().flags.c_contiguous
    expected = [str(item) for item in array.ravel(order="C")]
    found = through_the_wire(tensor).to_numpy().ravel().tolist()
    assert [item.decode() if isinstance(item, bytes) else str(item) for item in found] == expected


def test_what_numpy_makes_an_array_of():
    assert Tensor.from_numpy("x", [[1, 2]]).shape == (1, 2)
    assert Tensor.from_numpy("x", 2.5).shape == ()
    assert Tensor.from_numpy("x", np.float16(2)).datatype.name == "FP16"


@pytest.mark.parametrize("dtype", ["complex64", "datetime64[s]", "V4", "float128"])
def test_a_dtype_that_triton_does_not_have(dtype):
    with pytest.raises(TypeError, match=r"input 'x' is an array of dtype .*convert it first"):
        Tensor.from_numpy("x", np.zeros(2, dtype))


def test_masked_elements_are_refused():
    with pytest.raises(TypeError, match=r"input 'x' .* masked .*filled"):
        Tensor.from_numpy("x", np.ma.array([1.0, 2.0], mask=[False, True]))


def test_a_mask_that_hides_nothing_is_no_matter():
    assert Tensor.from_numpy("x", np.ma.array([1.0, 2.0])).to_numpy().tolist() == [1, 2]


def test_an_element_without_text_fails_where_it_is_given():
    class Mute:
        def __str__(self):
            raise ValueError("no text")

    with pytest.raises(ValueError, match="no text"):
        Tensor.from_numpy("x", np.array([Mute()], object))


def test_values_are_shared_until_they_are_copied():
    array = np.zeros(2, np.float32)
    tensor = Tensor.from_numpy("x", array)
    copy = tensor.copy()
    array[:] = 7
    assert tensor.to_numpy().tolist() == [7, 7]
    assert copy.to_numpy().tolist() == [0, 0]


def test_a_copy_of_a_view_of_a_body_holds_its_own_bytes():
    body = bytearray(b"\x01\x02")
    copy = Tensor("x", FIXED[1], (2,), memoryview(body)).copy()
    body[:] = b"\x07\x07"
    assert copy.to_numpy().tolist() == [1, 2]


def test_another_shape():
    tensor = Tensor.from_numpy("x", np.arange(4, dtype=np.int8))
    assert tensor.with_shape((2, 2)).to_numpy().tolist() == [[0, 1], [2, 3]]


def test_dlpack():
    array = np.arange(3, dtype=np.int32)
    assert np.from_dlpack(Tensor.from_numpy("x", array)).tolist() == [0, 1, 2]
