"""Messages of inference with large raw tensors, which stay where they are.

Protobuf copies each of them when it reads a message, again when somebody asks for it, and twice
more when it writes one. So what is large is found by the wire format's own rules: every field of
these messages is its tag, its length, and so many bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
from tritonclient.grpc.service_pb2 import ModelInferRequest, ModelInferResponse

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_SERVICE = "/inference.GRPCInferenceService"
#: Messages with fewer bytes are protobuf's alone, which is faster then.
LARGE = 1 << 16
_BYTES_KIND = 2  # of a field that is so many bytes, in the lowest three bits of its tag
_RAW_INPUT = 7 << 3 | _BYTES_KIND
_RAW_OUTPUT = bytes([6 << 3 | _BYTES_KIND])
# A number is given in bytes of seven bits, of which all but the last have the eighth set.
_LONGEST_VARINT = 10
_LONGEST_TAG = 5
_MORE = 0x80


class LargeRequest:
    """A ``ModelInferRequest`` to whoever reads it; its raw tensors are views of what came."""

    def __init__(self, message: ModelInferRequest, raw: Sequence[memoryview]) -> None:
        self._message = message
        self.raw_input_contents = raw

    def __getattr__(self, name: str) -> Any:
        return getattr(self._message, name)


@dataclass(frozen=True, slots=True)
class LargeResponse:
    """A ``ModelInferResponse`` without its raw tensors, and these."""

    message: ModelInferResponse
    blobs: Sequence[bytes | memoryview]


class LargeMessages(grpc.ServerInterceptor):  # type: ignore[misc]  # grpc has no types
    """Has requests to models read and answers written by ``read`` and ``write``."""

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], grpc.RpcMethodHandler | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler | None:
        """What is to answer a call; gRPC asks that for each."""
        handler = continuation(handler_call_details)
        if handler is not None and handler_call_details.method == f"{_SERVICE}/ModelInfer":
            return grpc.unary_unary_rpc_method_handler(handler.unary_unary, read, write)
        if handler is not None and handler_call_details.method == f"{_SERVICE}/ModelStreamInfer":
            return grpc.stream_stream_rpc_method_handler(
                handler.stream_stream, read, handler.response_serializer
            )
        return handler


def read(body: bytes) -> ModelInferRequest | LargeRequest:
    """A message; protobuf's DecodeError if it is none."""
    found = _split(body) if len(body) >= LARGE else None
    if found is None:
        return ModelInferRequest.FromString(body)
    rest, raw = found
    return LargeRequest(ModelInferRequest.FromString(rest), raw)


def write(answer: ModelInferResponse | LargeResponse) -> bytes:
    """A message as protobuf writes it: the raw tensors have the greatest number, and are last."""
    if isinstance(answer, ModelInferResponse):
        whole: bytes = answer.SerializeToString()
        return whole
    parts: list[bytes | memoryview] = [answer.message.SerializeToString()]
    for blob in answer.blobs:
        parts += (_RAW_OUTPUT, _varint(len(blob)), blob)
    return b"".join(parts)


def _split(body: bytes) -> tuple[bytes, list[memoryview]] | None:
    """All fields but the raw tensors, and these; None if protobuf should say what is wrong."""
    view = memoryview(body)
    rest: list[memoryview] = []
    raw: list[memoryview] = []
    at = 0
    while at < len(body):
        start = at
        tag, at = _read_varint(body, at)
        if at - start > _LONGEST_TAG:
            return None
        size, at = _read_varint(body, at)
        if tag & 7 != _BYTES_KIND or at + size > len(body):
            return None
        if tag == _RAW_INPUT:
            raw.append(view[at : at + size])
        else:
            rest.append(view[start : at + size])
        at += size
    return b"".join(rest), raw


def _read_varint(body: bytes, at: int) -> tuple[int, int]:
    """A number and where it ends; one that is none is larger than any message."""
    number = 0
    for index, byte in enumerate(body[at : at + _LONGEST_VARINT]):
        number |= (byte & 0x7F) << 7 * index
        if not byte & _MORE:
            return number, at + index + 1
    return len(body) << 3 | _BYTES_KIND, len(body)


def _varint(number: int) -> bytes:
    parts = bytearray()
    while number >= _MORE:
        parts.append(number & 0x7F | _MORE)
        number >>= 7
    parts.append(number)
    return bytes(parts)
