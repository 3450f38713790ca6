"""The plain-Python helpers of ``triton_python_backend_utils``, quirks included."""

import struct

import numpy as np
import pytest
from instances import request

from triton_stub.pb_utils import InferenceResponse, Tensor, helpers

TYPES = {
    "TYPE_BOOL": (1, np.bool_),
    "TYPE_UINT8": (2, np.uint8),
    "TYPE_UINT16": (3, np.uint16),
    "TYPE_UINT32": (4, np.uint32),
    "TYPE_UINT64": (5, np.uint64),
    "TYPE_INT8": (6, np.int8),
    "TYPE_INT16": (7, np.int16),
    "TYPE_INT32": (8, np.int32),
    "TYPE_INT64": (9, np.int64),
    "TYPE_FP16": (10, np.float16),
    "TYPE_FP32": (11, np.float32),
    "TYPE_FP64": (12, np.float64),
    "TYPE_STRING": (13, np.object_),
}
every_type = pytest.mark.parametrize(("name", "number", "numpy_type"), [
    (name, number, numpy_type) for name, (number, numpy_type) in TYPES.items()
])  # fmt: skip


@every_type
def test_types_by_name_and_number(name, number, numpy_type):
    assert helpers.triton_to_numpy_type(number) is numpy_type
    assert helpers.numpy_to_triton_type(numpy_type) == number
    assert helpers.numpy_to_triton_type(np.dtype(numpy_type)) == number
    expected = bool if name == "TYPE_BOOL" else numpy_type
    assert helpers.triton_string_to_numpy(name) is expected
    assert helpers.TRITON_STRING_TO_NUMPY[name] is expected


def test_there_is_no_bf16():
    assert list(helpers.TRITON_STRING_TO_NUMPY) == list(TYPES)
    assert helpers.triton_to_numpy_type(14) is None
    with pytest.raises(KeyError):
        helpers.triton_string_to_numpy("TYPE_BF16")


@pytest.mark.parametrize("number", [-1, 0, 15, "TYPE_FP32", None])
def test_numbers_without_a_type(number):
    assert helpers.triton_to_numpy_type(number) is None


@pytest.mark.parametrize("data_type", ["float32", bool, object, np.str_, np.dtype("S3"), ">f4"])
def test_what_is_no_numpy_type_of_triton(data_type):
    assert helpers.numpy_to_triton_type(data_type) is None


@pytest.mark.parametrize("data_type", [np.bytes_, np.dtype("S"), np.object_, np.dtype("O")])
def test_kinds_of_strings(data_type):
    assert helpers.numpy_to_triton_type(data_type) == 13


def test_strings_are_serialized_and_back():
    array = np.array([[b"a", "ü"], [None, b"c\0"]], object)
    data = helpers.serialize_byte_tensor(array)
    assert helpers.deserialize_bytes_tensor(data).tolist() == [b"a", "ü".encode(), b"None", b"c\0"]


@pytest.mark.parametrize(
    "data", [b"\1\0\0\0a", bytearray(b"\1\0\0\0a"), np.frombuffer(b"\1\0\0\0a", np.uint8)]
)
def test_deserializing_bytes_or_an_array(data):
    assert helpers.deserialize_bytes_tensor(data).tolist() == [b"a"]


def test_an_empty_array_becomes_an_empty_tuple_and_back():
    data = helpers.serialize_byte_tensor(np.array([], object))
    assert data == ()
    assert helpers.deserialize_bytes_tensor(data).tolist() == []


def test_only_strings_are_serialized():
    assert helpers.serialize_byte_tensor(np.array([1.0])) is None
    assert helpers.serialize_byte_tensor(np.array(["a"])) is None
    with pytest.raises(AttributeError):
        helpers.serialize_byte_tensor([b"a"])


def test_data_that_is_cut_short():
    with pytest.raises(struct.error):
        helpers.deserialize_bytes_tensor(b"\5\0\0\0ab")


def test_tensors_by_name():
    asked = request(A=np.zeros(1), B=np.zeros(2))
    assert helpers.get_input_tensor_by_name(asked, "B").shape() == [2]
    assert helpers.get_input_tensor_by_name(asked, "C") is None
    response = InferenceResponse([Tensor("A", np.zeros(1)), Tensor("A", np.zeros(2))])
    assert helpers.get_output_tensor_by_name(response, "A").shape() == [1]
    assert helpers.get_output_tensor_by_name(response, "C") is None


def test_configurations_by_name():
    first, second = {"name": "A"}, {"name": "B"}
    config = {"input": [first, second], "output": [second]}
    assert helpers.get_input_config_by_name(config, "B") is second
    assert helpers.get_output_config_by_name(config, "B") is second
    assert helpers.get_output_config_by_name(config, "A") is None
    assert helpers.get_input_config_by_name({}, "A") is None


def test_whether_a_model_is_decoupled():
    decoupled = helpers.using_decoupled_model_transaction_policy
    assert decoupled({}) is False
    assert decoupled({"model_transaction_policy": {"decoupled": True}}) is True
    with pytest.raises(KeyError, match="decoupled"):
        decoupled({"model_transaction_policy": {}})


def test_constants():
    assert helpers.TRITONSERVER_REQUEST_FLAG_SEQUENCE_START == 1
    assert helpers.TRITONSERVER_REQUEST_FLAG_SEQUENCE_END == 2
    assert helpers.TRITONSERVER_RESPONSE_COMPLETE_FINAL == 1
    assert helpers.TRITONSERVER_REQUEST_RELEASE_ALL == 1
    assert helpers.TRITONSERVER_REQUEST_RELEASE_RESCHEDULE == 2
