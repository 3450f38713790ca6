"""The one table of Triton's datatypes, and the framing of BYTES tensors.

A datatype has three spellings: ``FP32`` on the wire, ``TYPE_FP32`` in a model configuration and
``numpy.float32`` in memory. Sources: core ``src/model_config.cc``; python_backend
``src/pb_stub_utils.cc``; KServe v2 "Tensor Data Types".
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Datatype:
    """One row of the table. ``itemsize`` is in bytes, 0 for BYTES (length varies).

    ``dlpack`` is the type code and the bits of an element, (0, 0) for BYTES, which DLPack has not.
    """

    name: str
    config_name: str
    number: int
    numpy: np.dtype[Any]
    itemsize: int
    dlpack: tuple[int, int] = (0, 0)

    def __reduce__(self) -> Any:
        # Rows are compared by identity.
        if self.number:
            return from_number, (self.number,)
        return Datatype, tuple(getattr(self, field.name) for field in fields(self))


# dlpack.h, DLDataTypeCode, by numpy's kind; bfloat16 is of numpy's kind V.
_DLPACK_CODES = {"i": 0, "u": 1, "f": 2, "V": 4, "b": 6}


def _row(name: str, config_name: str, number: int, numpy_type: object) -> Datatype:
    dtype: np.dtype[Any] = np.dtype(numpy_type)  # type: ignore[call-overload]
    itemsize = 0 if dtype.hasobject else dtype.itemsize
    dlpack = (_DLPACK_CODES.get(dtype.kind, 0), 8 * itemsize)
    return Datatype(name, config_name, number, dtype, itemsize, dlpack)


DATATYPES = (
    _row("BOOL", "TYPE_BOOL", 1, np.bool_),
    _row("UINT8", "TYPE_UINT8", 2, np.uint8),
    _row("UINT16", "TYPE_UINT16", 3, np.uint16),
    _row("UINT32", "TYPE_UINT32", 4, np.uint32),
    _row("UINT64", "TYPE_UINT64", 5, np.uint64),
    _row("INT8", "TYPE_INT8", 6, np.int8),
    _row("INT16", "TYPE_INT16", 7, np.int16),
    _row("INT32", "TYPE_INT32", 8, np.int32),
    _row("INT64", "TYPE_INT64", 9, np.int64),
    _row("FP16", "TYPE_FP16", 10, np.float16),
    _row("FP32", "TYPE_FP32", 11, np.float32),
    _row("FP64", "TYPE_FP64", 12, np.float64),
    _row("BYTES", "TYPE_STRING", 13, np.object_),
    _row("BF16", "TYPE_BF16", 14, ml_dtypes.bfloat16),
)
BYTES = DATATYPES[12]
BF16 = DATATYPES[13]

_BY_NAME = {row.name: row for row in DATATYPES}
_BY_CONFIG_NAME = {row.config_name: row for row in DATATYPES}
_BY_NUMBER = {row.number: row for row in DATATYPES}
_BY_DTYPE = {row.numpy: row for row in DATATYPES}
_BY_DLPACK = {row.dlpack: row for row in DATATYPES if row is not BYTES}


def from_name(name: str) -> Datatype:
    """Row of a wire name such as ``FP32``; KeyError if there is none."""
    return _BY_NAME[name]


def from_config_name(name: str) -> Datatype:
    """Row of a configuration name such as ``TYPE_FP32``; KeyError if there is none."""
    return _BY_CONFIG_NAME[name]


def from_number(number: int) -> Datatype:
    """Row of a ``DataType`` enum value of the configuration schema; KeyError if there is none."""
    return _BY_NUMBER[number]


def from_dtype(dtype: np.dtype[Any]) -> Datatype | None:
    """Row of a numpy dtype in any byte order, or None if Triton has no such datatype.

    Byte strings (``S<n>``) and text (``<U<n>``) are BYTES, as in tritonclient.
    """
    row = _BY_DTYPE.get(dtype)  # nearly always: another byte order makes a new dtype
    if row is not None:
        return row
    return BYTES if dtype.kind in "SU" else _BY_DTYPE.get(dtype.newbyteorder("="))


def from_dlpack(code: int, bits: int) -> Datatype | None:
    """Row of an element's type code and bits in DLPack, or None if Triton has no such datatype."""
    return _BY_DLPACK.get((code, bits))


def encode_bytes(array: Array) -> bytes:
    """Frame the elements of a BYTES array: little-endian uint32 length, then the bytes, C order.

    Text is encoded as UTF-8; anything that is neither bytes nor text goes through ``str`` first,
    as NVIDIA's ``serialize_byte_tensor`` does.
    """
    parts: list[bytes] = []
    for item in np.asarray(array).ravel().tolist():
        data = item if type(item) is bytes else str(item).encode()
        parts.append(len(data).to_bytes(4, "little"))
        parts.append(data)
    return b"".join(parts)


def decode_bytes(data: Any) -> Array:
    """Undo ``encode_bytes``: a 1-d object array of ``bytes``, out of any buffer with a length.

    Raises struct.error if the data ends inside a length or an element.
    """
    items: list[bytes] = []
    offset = 0
    while offset < len(data):
        (length,) = struct.unpack_from("<I", data, offset)
        offset += 4
        (item,) = struct.unpack_from(f"<{length}s", data, offset)
        items.append(item)
        offset += length
    array: Array = np.empty(len(items), dtype=np.object_)
    array[:] = items
    return array


def format_shape(shape: Sequence[int]) -> str:
    """A shape as the server prints it: ``[1,224,224,3]``."""
    return "[" + ",".join(map(str, shape)) + "]"
