"""How a failure gets to a client: gRPC's status code, and the text.

Source: server ``src/grpc/grpc_utils.cc``, ``GrpcStatusUtil``.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.message import DecodeError

from triton_stub.endpoints.defects import defect
from triton_stub.errors import InferenceError, LoadError, ServerError, StatusCode
from triton_stub.pb_utils.casters import c_string

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from triton_stub.core.log import Log

_CODES = {
    StatusCode.UNKNOWN: grpc.StatusCode.UNKNOWN,
    StatusCode.INTERNAL: grpc.StatusCode.INTERNAL,
    StatusCode.NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    StatusCode.INVALID_ARG: grpc.StatusCode.INVALID_ARGUMENT,
    StatusCode.UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    StatusCode.UNSUPPORTED: grpc.StatusCode.UNIMPLEMENTED,
    StatusCode.ALREADY_EXISTS: grpc.StatusCode.ALREADY_EXISTS,
    StatusCode.CANCELLED: grpc.StatusCode.CANCELLED,
}


def abort(context: grpc.ServicerContext, error: ServerError) -> None:
    """End a call with an error; it does not return."""
    text = error.told if isinstance(error, LoadError) else error.message
    # As bytes: a text of a model may be none that is UTF-8.
    details: Any = c_string(text).encode("utf-8", "surrogateescape")
    context.abort(_CODES[error.code], details)


class Refusals(grpc.ServerInterceptor):  # type: ignore[misc]  # grpc has no types
    """Turns the errors of what answers once into statuses; streams have their own way."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], grpc.RpcMethodHandler | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler:
        """What is to answer a call; gRPC asks that for each."""
        handler = continuation(handler_call_details)
        if handler is None:
            return _UNKNOWN
        if handler.request_streaming:
            return _of_stream(handler)

        def answer(body: bytes, context: grpc.ServicerContext) -> Any:
            try:
                return handler.unary_unary(_read(handler, body), context)
            except ServerError as error:
                abort(context, error)
            except Exception as error:  # noqa: BLE001 - gRPC would tell standard error
                abort(context, defect(self._log, error))

        return grpc.unary_unary_rpc_method_handler(
            answer, response_serializer=handler.response_serializer
        )


def _of_stream(handler: grpc.RpcMethodHandler) -> grpc.RpcMethodHandler:
    """What answers a stream: as on the server, one that cannot be read on has ended."""

    def messages(bodies: Iterator[bytes]) -> Iterator[Any]:
        with contextlib.suppress(DecodeError):
            yield from map(handler.request_deserializer, bodies)

    return grpc.stream_stream_rpc_method_handler(
        lambda bodies, context: handler.stream_stream(messages(bodies), context),
        response_serializer=handler.response_serializer,
    )


def _read(handler: grpc.RpcMethodHandler, body: bytes) -> Any:
    if handler.request_deserializer is None:
        return body
    try:
        return handler.request_deserializer(body)
    except DecodeError:
        raise InferenceError("Unable to parse request") from None


def _unknown(_requests: Any, context: grpc.ServicerContext) -> Any:
    context.abort(grpc.StatusCode.UNIMPLEMENTED, "")


# The server has nothing to say of a method that there is not.
_UNKNOWN = grpc.stream_stream_rpc_method_handler(_unknown)
