"""Tensors and memory of the in-process API."""

import sys
import weakref

import ml_dtypes
import numpy as np
import pytest
from in_process_models import refused

import triton_stub as tritonserver
from triton_stub import datatypes
from triton_stub.server.tensor import from_core, from_object, to_core

ARRAY = np.arange(12, dtype=np.float32).reshape(3, 4)
BYTES = tritonserver.Tensor.from_bytes_array([b"a", b"bc"])


class Foreign:
    """An array of another framework."""

    def __init__(self, array, device=(1, 0)):
        self.array, self.device = array, device

    def __dlpack__(self, **_):
        return self.array.__dlpack__()

    def __dlpack_device__(self):
        return self.device


def test_memory_is_shared_both_ways():
    tensor = tritonserver.Tensor.from_dlpack(ARRAY)
    again = np.from_dlpack(tensor)
    np.testing.assert_array_equal(again, ARRAY)
    assert tensor.data_ptr == ARRAY.ctypes.data == again.ctypes.data
    assert tensor.size == ARRAY.nbytes
    assert tensor.memory_buffer.owner is ARRAY
    assert tensor.__dlpack_device__() == (tritonserver.DLDeviceType.kDLCPU, 0)


def test_memory_lives_as_long_as_anybody_needs_it():
    owner = np.ones(1 << 10)
    assert sys.getrefcount(owner) == 2
    tensor = tritonserver.Tensor.from_dlpack(owner)
    assert (sys.getrefcount(owner), sys.getrefcount(tensor)) == (3, 2)
    del owner
    first = np.from_dlpack(tensor)
    assert sys.getrefcount(tensor) == 3
    tensor.shape = [2, 1 << 9]
    second = np.from_dlpack(tensor)
    left = weakref.ref(tensor)
    del tensor
    assert first.shape == (1 << 10,)
    assert second.shape == (2, 1 << 9)
    assert (first == 1).all()
    assert (second == 1).all()
    assert left() is not None
    del first, second
    assert left() is None


@pytest.mark.parametrize("row", [r for r in datatypes.DATATYPES if r.name not in ("BYTES", "BF16")])
def test_every_datatype_goes_in_and_out(row):
    array = np.array([0, 1, 1], row.numpy)
    for tensor in (tritonserver.Tensor.from_dlpack(array), from_object(array)):
        assert tensor.data_type == tritonserver.DataType[row.name]
        assert np.from_dlpack(tensor).tolist() == array.tolist()
        assert to_core("x", tensor).datatype is row
        assert from_core(to_core("x", tensor)).data_type == tensor.data_type


def test_the_numbers_are_those_of_the_configuration():
    assert {t.name: t.value for t in tritonserver.DataType if t} == {
        row.name: row.number for row in datatypes.DATATYPES
    }


def test_bf16():
    array = np.array([1, 2], ml_dtypes.bfloat16)
    tensor = from_object(array)
    assert tensor.data_type == tritonserver.DataType.BF16
    assert to_core("x", tensor).to_numpy().tolist() == [1, 2]
    again = tritonserver.Tensor.from_dlpack(tensor)
    assert (again.data_type, again.shape) == (tritonserver.DataType.BF16, [2])


@pytest.mark.parametrize("array", [np.empty((0,), np.int32), np.empty((2, 0), np.int32)])
def test_no_elements(array):
    tensor = from_object(array)
    assert np.from_dlpack(tensor).shape == array.shape
    assert to_core("x", tensor).to_numpy().shape == array.shape


def test_bytes():
    assert BYTES.data_type == tritonserver.DataType.BYTES
    assert BYTES.shape == (2,)
    assert BYTES.size == 4 + 1 + 4 + 2
    assert BYTES.to_bytes_array().tolist() == [b"a", b"bc"]
    assert BYTES.to_string_array().tolist() == ["a", "bc"]
    assert to_core("x", BYTES).to_numpy().tolist() == [b"a", b"bc"]
    deep = tritonserver.Tensor.from_string_array([["a"], ["b"]])
    assert deep.to_string_array().tolist() == [["a"], ["b"]]
    assert from_object([]).data_type == tritonserver.DataType.FP64


def test_text_that_is_not_ascii_has_bytes_only():
    tensor = tritonserver.Tensor.from_string_array(["\u00f6"])
    assert tensor.to_bytes_array().tolist() == ["\u00f6".encode()]
    with pytest.raises(UnicodeDecodeError):
        tensor.to_string_array()


def test_other_tensors_are_no_bytes():
    error = tritonserver.InvalidArgumentError
    assert "to Triton BYTES Tensor" in refused(error, tritonserver.Tensor.from_bytes_array, [1])
    assert "has data type" in refused(error, from_object(ARRAY).to_bytes_array)
    assert "Can't convert" in refused(error, BYTES.__dlpack__)


@pytest.mark.parametrize("device", ["cpu", "CPU", "cpu:0", tritonserver.MemoryType.CPU])
def test_everything_is_in_cpu_memory(device):
    tensor = from_object(ARRAY)
    assert tensor.to_device(device) is tensor
    assert tensor.to_host() is tensor
    assert tensor.to_device((tritonserver.MemoryType.CPU, 0)) is tensor
    assert tensor.to_device((tritonserver.DLDeviceType.kDLCPU, 0)) is tensor


def test_pinned_memory_is_cpu_memory():
    tensor = from_object(ARRAY)
    tensor.memory_buffer.memory_type = tritonserver.MemoryType.CPU_PINNED
    assert tensor.to_host() is tensor
    assert tensor.__dlpack_device__() == (tritonserver.DLDeviceType.kDLCPU, 0)


def test_there_is_no_gpu():
    tensor = from_object(ARRAY)
    text = refused(tritonserver.UnsupportedError, tensor.to_device, "gpu:1")
    assert text.startswith("Conversion from ")
    foreign = Foreign(ARRAY, device=(2, 0))
    text = refused(tritonserver.InvalidArgumentError, tritonserver.Tensor.from_dlpack, foreign)
    assert text.startswith("Object does not support DLPack protocol: this is memory of a GPU")


@pytest.mark.parametrize("stream", [None, 0])
def test_streams_of_cpu_memory(stream):
    assert from_object(ARRAY).__dlpack__(stream=stream) is not None


@pytest.mark.parametrize("stream", [1, "0"])
def test_streams_that_there_are_not(stream):
    tensor = from_object(ARRAY)
    text = refused(tritonserver.UnsupportedError, tensor.__dlpack__, stream=stream)
    assert f"stream {stream} not supported" in text


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("text", "Object does not support DLPack protocol"),
        (Foreign(ARRAY.T), "Only contiguous memory is supported"),
        (ARRAY[::2], "Only contiguous memory is supported"),
        (np.ones(2, np.complex64), "Unsupported DLPack data type"),
        (np.broadcast_to(np.float32(1), 3), "Object does not support DLPack protocol"),
    ],
)
def test_what_is_no_memory_of_a_tensor(given, text):
    error = tritonserver.InvalidArgumentError
    assert refused(error, tritonserver.Tensor.from_dlpack, given).startswith(text)


def test_a_memory_buffer():
    buffer = tritonserver.MemoryBuffer.from_dlpack(ARRAY)
    assert buffer == tritonserver.MemoryBuffer(
        ARRAY.ctypes.data, tritonserver.MemoryType.CPU, 0, 48, buffer.owner
    )
    assert buffer.owner is ARRAY
    text = refused(tritonserver.InvalidArgumentError, tritonserver.MemoryBuffer.from_dlpack, "text")
    assert text == "Object does not support DLpack protocol"
