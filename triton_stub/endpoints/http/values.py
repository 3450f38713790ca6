"""The ``data`` of a tensor in JSON: a list of numbers, truth values or text, nested or not.

Source: server ``src/http_server.cc``, ``ReadDataFromJson`` and ``WriteDataToJson`` (26.08; some
texts are new since 26.04).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from triton_stub.datatypes import BF16, BYTES, from_name
from triton_stub.endpoints.http.documents import INT64_MAX, INT64_MIN, UINT64_MAX
from triton_stub.errors import InferenceError, StatusCode

if TYPE_CHECKING:
    from triton_stub.core.tensor import Tensor
    from triton_stub.datatypes import Array, Datatype

_FP16 = from_name("FP16")
_LENGTH_SIZE = 4
_MOST_LEVELS = 100
_TOO_MANY = "Unable to parse 'data': Shape does not match true shape of 'data' field"
_TOO_FEW = "Failed to parse 'data' field: shape does not match true shape"
_NO_TEXTS = "Failed to parse 'data' field: output buffer unavailable"


def read(name: str, datatype: Datatype, count: int, data: list[Any]) -> Array | bytes:
    """The values of an input, ``count`` of them; how they are nested does not matter.

    Integers that do not fit are cut to their low bits, as C++ does. BYTES come back framed, in
    any number: the core counts them.
    """
    if datatype in (_FP16, BF16):
        raise InferenceError(
            f"receiving {datatype.name} data via JSON is not supported. Please use the binary "
            f"data format for input {name}",
            StatusCode.INVALID_ARG,
        )
    if datatype is BYTES:
        texts = frame(data)
        if not texts:
            raise InferenceError(_NO_TEXTS, StatusCode.INTERNAL)
        return texts
    if not _is_flat(data):
        data = _flatten(data, "Unable to parse 'data': ")
    # The server stops at the first value too many, so it never sees what comes after.
    array = _to_array(data[:count], datatype)
    if len(data) != count:
        text = _TOO_FEW if len(data) < count else _TOO_MANY
        raise InferenceError(text, StatusCode.INTERNAL)
    return array


def frame(data: list[Any]) -> bytes:
    """Texts, nested or not, as the wire has them; empty if there is none."""
    return _framed(data if _is_flat(data) else _flatten(data, ""))


def write(tensor: Tensor) -> list[Any]:
    """The values of an output as one flat list; text that is no UTF-8 as surrogate escapes."""
    datatype, data = tensor.datatype, tensor.to_bytes()
    if datatype in (_FP16, BF16):
        raise InferenceError(
            f"sending {datatype.name} data via JSON is not supported. Please use the binary data "
            "format for output",
            StatusCode.INVALID_ARG,
        )
    count = math.prod(tensor.shape)
    if datatype is BYTES:
        return _unframed(tensor.name, memoryview(data), count)
    if len(data) != count * datatype.itemsize:
        raise _size_mismatch(tensor.name, "Failed to write 'data' field: ")
    values: list[Any] = np.frombuffer(data, datatype.numpy).tolist()
    return values


def _is_flat(data: list[Any]) -> bool:
    return list not in set(map(type, data))


def _flatten(data: list[Any], complaint: str) -> list[Any]:
    """What is in the lists of lists, which since 25.05 may not be nested without end."""
    leaves: list[Any] = []
    rests = [iter(data)]
    while rests:
        for item in rests[-1]:
            if type(item) is list:
                rests.append(iter(item))
                if len(rests) == _MOST_LEVELS and item:
                    raise InferenceError(
                        f"{complaint}JSON nesting depth exceeds maximum allowed limit "
                        f"({_MOST_LEVELS})",
                        StatusCode.INVALID_ARG,
                    )
                break
            leaves.append(item)
        else:
            rests.pop()
    return leaves


def _to_array(values: list[Any], datatype: Datatype) -> Array:
    types = set(map(type, values))
    kind = datatype.numpy.kind
    if kind == "b":
        _check(types <= {bool}, "attempt to access JSON non-boolean as boolean")
        return np.array(values, np.bool_)
    if kind == "f":
        _check(types <= {int, float}, "attempt to access JSON non-number as double")
        with np.errstate(over="ignore"):  # what is too large for FP32 becomes infinite
            return np.array(values, np.float64).astype(datatype.numpy)
    low, high, wide = (
        (0, UINT64_MAX, np.uint64) if kind == "u" else (INT64_MIN, INT64_MAX, np.int64)
    )
    what = "unsigned" if kind == "u" else "signed"
    _check(
        types <= {int} and all(low <= value <= high for value in values),
        f"attempt to access JSON non-{what}-integer as {what}-integer",
    )
    array: Array = np.array(values, wide).astype(datatype.numpy)
    return array


def _check(condition: bool, complaint: str) -> None:  # noqa: FBT001
    if not condition:
        raise InferenceError(f"Unable to parse 'data': {complaint}", StatusCode.INTERNAL)


def _framed(values: list[Any]) -> bytes:
    if not set(map(type, values)) <= {str}:
        raise InferenceError(
            "Unable to parse JSON bytes array: attempt to access JSON non-string as string",
            StatusCode.INTERNAL,
        )
    parts: list[bytes] = []
    for value in values:
        item = value.encode(errors="surrogateescape")
        parts += (len(item).to_bytes(_LENGTH_SIZE, "little"), item)
    return b"".join(parts)


def _unframed(name: str, data: memoryview, count: int) -> list[str]:
    values: list[str] = []
    offset = 0
    for _ in range(count):
        start = offset + _LENGTH_SIZE
        offset = start + int.from_bytes(data[offset:start], "little")
        if offset > len(data):
            raise _size_mismatch(name)
        values.append(str(data[start:offset], "utf-8", "surrogateescape"))
    return values


def _size_mismatch(name: str, prefix: str = "") -> InferenceError:
    return InferenceError(
        f"{prefix}output tensor shape does not match size of output for '{name}'",
        StatusCode.INTERNAL,
    )
