"""``Tensor`` of the in-process API: typed, shaped memory that goes in and comes out by DLPack.

Source of rules and texts: core, ``python/tritonserver/_api/_tensor.py``. What that API sends in
the wrong order without a word is refused here: arrays that are not contiguous, or whose bytes
are not in the machine's order. NumPy arrays of ``ml_dtypes.bfloat16`` are taken as BF16 besides.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from triton_stub import datatypes
from triton_stub.core import tensor as core_tensor
from triton_stub.errors import InvalidArgumentError, UnsupportedError
from triton_stub.pb_utils import dlpack
from triton_stub.server.enums import DataType, DLDeviceType, MemoryType
from triton_stub.server.memory import MemoryBuffer, device_of, parse, shared

if TYPE_CHECKING:
    from collections.abc import Sequence

    from triton_stub.datatypes import Array, Datatype
    from triton_stub.server.memory import DeviceOrMemoryType

_CONVERTED: Final = (np.ndarray, np.generic, list)


@dataclass
class Tensor:
    """Datatype, shape and memory. BYTES are framed as on the wire, each with its length."""

    data_type: DataType
    shape: Sequence[int]
    memory_buffer: MemoryBuffer

    @property
    def data_ptr(self) -> int:
        """Address of the values."""
        return self.memory_buffer.data_ptr

    @property
    def memory_type(self) -> MemoryType:
        """Where the values are; always CPU memory here."""
        return self.memory_buffer.memory_type

    @property
    def memory_type_id(self) -> int:
        """Which memory of its type."""
        return self.memory_buffer.memory_type_id

    @property
    def size(self) -> int:
        """Size of the values in bytes."""
        return self.memory_buffer.size

    @staticmethod
    def from_dlpack(obj: Any) -> Tensor:
        """The memory of another framework's tensor, shared; InvalidArgumentError if it has none."""
        return Tensor(*shared(obj))

    @staticmethod
    def from_bytes_array(bytes_array: list[str] | list[bytes] | Array) -> Tensor:
        """A BYTES tensor of byte strings, or of text as UTF-8."""
        tensor = from_object(bytes_array)
        if tensor.data_type != DataType.BYTES:
            raise InvalidArgumentError(
                f"Unsupported conversion from {bytes_array} to Triton BYTES Tensor. Got "
                f"{tensor.data_type}"
            )
        return tensor

    @staticmethod
    def from_string_array(string_array: list[str] | Array) -> Tensor:
        """The same as ``from_bytes_array``."""
        return Tensor.from_bytes_array(string_array)

    def to_bytes_array(self) -> Array:
        """The elements of a BYTES tensor as an object array of ``bytes``."""
        if self.data_type != DataType.BYTES:
            raise InvalidArgumentError(
                f"Tensor has data type {self.data_type} not {DataType.BYTES}"
            )
        return datatypes.decode_bytes(self._bytes()).reshape(self.shape)

    def to_string_array(self) -> Array:
        """The elements of a BYTES tensor as text, which has to be ASCII, as in that API."""
        return self.to_bytes_array().astype(str)

    def to_host(self) -> Tensor:
        """The values in CPU memory."""
        return self.to_device("cpu")

    def to_device(self, device: DeviceOrMemoryType) -> Tensor:
        """The values in another memory: itself, as there is only CPU memory here."""
        here, there = (self.memory_type, self.memory_type_id), parse(device)
        if here == there or (here[0] == MemoryType.CPU_PINNED and there[0] == MemoryType.CPU):
            return self
        raise UnsupportedError(f"Conversion from {here} to {there} not supported.")

    def __dlpack__(self, *, stream: Any = None) -> Any:
        if (stream is not None and not isinstance(stream, int)) or stream not in (None, 0):
            raise UnsupportedError(
                f"DLPack stream synchronization on memory type {self.memory_type} and stream "
                f"{stream} not supported"
            )
        if self.data_type == DataType.BYTES:
            raise InvalidArgumentError(
                f"Unsupported Triton server data type. Can't convert {self.data_type} to DLPack "
                "data type"
            )
        row = self._row()
        memory: Array = np.ndarray(tuple(self.shape), row.numpy, self._bytes())
        return dlpack.capsule_of(memory, row, self)

    def __dlpack_device__(self) -> tuple[DLDeviceType, int]:
        return device_of(self.memory_type), self.memory_type_id

    def _row(self) -> Datatype:
        return datatypes.from_number(self.data_type)

    def _bytes(self) -> Any:
        buffer = self.memory_buffer
        return dlpack.memory_at(buffer.data_ptr, buffer.size, buffer.owner)


def from_object(value: Any) -> Tensor:
    """A tensor of a NumPy array, a list, or anything that has ``__dlpack__``."""
    if type(value) is list:
        try:
            return _from_numpy(np.array(value))
        except Exception as error:
            raise InvalidArgumentError(f"Conversion from {value} to tensor not supported.") from (
                error
            )
    if type(value) is np.ndarray:
        return _from_numpy(value)
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise InvalidArgumentError("an array with masked elements, and a tensor has no mask")
    if hasattr(value, "__dlpack__"):
        return Tensor.from_dlpack(value)
    raise InvalidArgumentError(
        f"Input type {type(value)} not supported. Must be one of {list(_CONVERTED)} or the type "
        "must support __dlpack__"
    )


def _from_numpy(array: Array) -> Tensor:
    row = datatypes.from_dtype(array.dtype)
    if row is None:
        raise InvalidArgumentError(
            f"Unsupported Numpy data type. Can't convert {array.dtype.type} to Triton server data "
            "type"
        )
    shape = array.shape
    if row is datatypes.BYTES:
        array = np.frombuffer(datatypes.encode_bytes(array), np.uint8)
    elif not array.flags.c_contiguous or not array.dtype.isnative:
        raise InvalidArgumentError(
            "the array is not C-contiguous, or not in the machine's byte order. NVIDIA's API "
            "sends its memory as it lies, so the model gets other values; give it "
            "numpy.ascontiguousarray(array), in native byte order"
        )
    return _of_memory(row, shape, array)


def _of_memory(row: Datatype, shape: Sequence[int], memory: Array) -> Tensor:
    buffer = MemoryBuffer(memory.ctypes.data, MemoryType.CPU, 0, memory.nbytes, memory)
    return Tensor(DataType(row.number), shape, buffer)


def from_core(tensor: core_tensor.Tensor) -> Tensor:
    """An output of a model."""
    if tensor.datatype is datatypes.BYTES:
        memory: Array = np.frombuffer(tensor.to_bytes(), np.uint8)
    else:
        memory = np.ascontiguousarray(tensor.to_own_numpy())
    return _of_memory(tensor.datatype, np.array(tensor.shape, np.int64), memory)  # type: ignore[arg-type]


def to_core(name: str, value: Any) -> core_tensor.Tensor:
    """An input of a model, in memory of its own.

    What does not fit into its shape is left as it is, for the server to refuse.
    """
    if isinstance(value, core_tensor.OnGpu):
        return core_tensor.Tensor.from_numpy(name, value).copy()
    tensor = value if isinstance(value, Tensor) else from_object(value)
    # Of a list: a tuple of an iterator is shrunk to its length, and CPython keeps such tuples for
    # later ones of that length, up to 2000 of them.
    row, shape = tensor._row(), tuple([int(size) for size in tensor.shape])
    raw = tensor._bytes()
    if row is not datatypes.BYTES and math.prod(shape) * row.itemsize == len(raw):
        values: Array = np.ndarray(shape, row.numpy, raw)
        return core_tensor.Tensor(name, row, shape, values.copy())
    return core_tensor.Tensor(name, row, shape, bytes(raw))
