"""The values of an input tensor: raw, in the fields for each type, or in shared memory.

Source: server ``src/grpc/infer_handler.cc``, ``InferGRPCToInput``; ``src/grpc/grpc_utils.h``,
``ParseSharedMemoryParams`` (26.08, which differs from 2.51 in nothing that shows).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from triton_stub import datatypes
from triton_stub.datatypes import BYTES, Datatype
from triton_stub.errors import InferenceError, StatusCode

if TYPE_CHECKING:
    from tritonclient.grpc.service_pb2 import ModelInferRequest

    from triton_stub.server import Server

# What the server makes of a name that it does not know; the core then tells it to the client.
_INVALID = Datatype("<invalid>", "TYPE_INVALID", 0, np.dtype(np.uint8), 0)
_UINT64 = 2**64


class Place(NamedTuple):
    """A part of a shared memory region, as a request names it; sizes in bytes."""

    region: str
    offset: int
    byte_size: int


def datatype(name: str) -> Datatype:
    """The datatype of a name, also of one that there is not."""
    try:
        return datatypes.from_name(name)
    except KeyError:
        return _INVALID


def place(tensor: Any) -> Place | None:
    """Where in shared memory an input or output is; None if it is not there at all."""
    parameters = tensor.parameters
    there = "shared_memory_region" in parameters
    region, offset, byte_size = "", 0, 0
    if there:
        region = _of_type("string_param", tensor, "shared_memory_region")
    for name in ("shared_memory_offset", "shared_memory_byte_size"):
        if name in parameters:
            if not there:
                raise refused(
                    f"'{name}' can not be specified without 'shared_memory_region' parameter for "
                    f"tensor '{tensor.name}'"
                )
            value = _of_type("int64_param", tensor, name) % _UINT64
            if name == "shared_memory_offset":
                offset = value
            else:
                byte_size = value
        elif there and name == "shared_memory_byte_size":
            raise refused(
                f"'{name}' must be specified along with 'shared_memory_region' parameter for "
                f"tensor '{tensor.name}'"
            )
    return Place(region, offset, byte_size) if there else None


def _of_type(kind: str, tensor: Any, name: str) -> Any:
    parameter = tensor.parameters[name]
    if parameter.WhichOneof("parameter_choice") != kind:
        raise refused(
            f"invalid value type for '{name}' parameter for tensor '{tensor.name}', expected "
            f"{kind}."
        )
    return getattr(parameter, kind)


class InputData:
    """The values of a request's inputs, one input after the other."""

    def __init__(self, message: ModelInferRequest, server: Server) -> None:
        self._model_name = message.model_name
        self._raw = message.raw_input_contents
        self._server = server
        self._next_raw = 0
        #: Views of the shared memory that was read.
        self.used: list[memoryview] = []

    def of(self, entry: Any) -> bytes | memoryview:
        """Of one input, as raw bytes, whose size nobody has checked against the shape yet."""
        where = place(entry)
        if where is not None:
            if entry.HasField("contents"):
                raise refused(
                    "unexpected 'content' provided when using shared memory for input tensor "
                    f"'{entry.name}' for model '{self._model_name}'"
                )
            self.used.append(self._server.shared_memory.view(*where))
            return bytes(self.used[-1])  # it may change at any time
        if entry.HasField("contents"):
            if self._raw:
                raise refused(
                    "contents field must not be specified when using raw_input_contents for "
                    f"'{entry.name}' for model '{self._model_name}'"
                )
            return self._typed(entry)
        if self._next_raw < len(self._raw):
            self._next_raw += 1
            raw: bytes | memoryview = self._raw[self._next_raw - 1]
            return raw
        raise refused(
            f"unable to find data for input tensor '{entry.name}' for model "
            f"'{self._model_name}' in request."
        )

    def _typed(self, entry: Any) -> bytes:
        """The one field that has values; an input without any may have no elements."""
        wanted = datatype(entry.datatype)
        data = b""
        for field, own in _FIELDS.items():
            values = getattr(entry.contents, field)
            if not values:
                continue
            if data:
                raise refused(
                    f"unexpected explicit tensor data for input tensor '{entry.name}' for model "
                    f"'{self._model_name}', binary data was already supplied."
                )
            if wanted.name not in own:
                raise refused(
                    f"unexpected explicit tensor data for input tensor '{entry.name}' for model "
                    f"'{self._model_name}' of type '{own[0]}', expected datatype '{wanted.name}'"
                )
            data = _framed(values) if wanted is BYTES else _numbers(values, wanted)
        return data


# Of which types the values of a field may be. A field of another type is told to be of the first.
_FIELDS = {
    "bool_contents": ("BOOL",),
    "int_contents": ("INT32", "INT8", "INT16"),
    "int64_contents": ("INT64",),
    "uint_contents": ("UINT32", "UINT8", "UINT16"),
    "uint64_contents": ("UINT64",),
    "fp32_contents": ("FP32",),
    "fp64_contents": ("FP64",),
    "bytes_contents": ("BYTES",),
}
_WIDE = {"i": np.int64, "u": np.uint64}


def _numbers(values: Any, datatype: Datatype) -> bytes:
    # What does not fit into a small integer loses its upper bytes.
    wide = _WIDE.get(datatype.numpy.kind, datatype.numpy)
    return np.array(values, wide).astype(datatype.numpy).tobytes()


def _framed(values: Any) -> bytes:
    return b"".join(part for item in values for part in (len(item).to_bytes(4, "little"), item))


def refused(message: str) -> InferenceError:
    """What is said of a request that is not as it should be."""
    return InferenceError(message, StatusCode.INVALID_ARG)
