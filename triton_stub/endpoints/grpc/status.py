"""How a failure gets to a client: gRPC's status code, and the text.

Source: server ``src/grpc/grpc_utils.cc``, ``GrpcStatusUtil``.
"""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Any

import grpc

from triton_stub.errors import ServerError, StatusCode
from triton_stub.pb_utils.logger import LogLevel

if TYPE_CHECKING:
    from collections.abc import Callable

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
    # As bytes: a text of a model may be none that is UTF-8.
    details: Any = error.message.encode("utf-8", "surrogateescape")
    context.abort(_CODES[error.code], details)


class Refusals(grpc.ServerInterceptor):  # type: ignore[misc]  # grpc has no types
    """Turns the errors of what answers once into statuses; streams have their own way."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], grpc.RpcMethodHandler | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler | None:
        """GRPC asks for each call what is to answer it."""
        handler = continuation(handler_call_details)
        if handler is None or handler.response_streaming:
            return handler
        answer = handler.unary_unary

        def behaviour(request: Any, context: grpc.ServicerContext) -> Any:
            try:
                return answer(request, context)
            except ServerError as error:
                abort(context, error)
            except Exception as error:  # noqa: BLE001 - gRPC would tell standard error
                if not context.is_active():
                    # The client has gone, and nothing can be told any more.
                    return None
                self._log.note(LogLevel.ERROR, traceback.format_exc())
                abort(
                    context,
                    ServerError(
                        "triton_stub failed to answer this request: "
                        f"{type(error).__name__}: {error}. This is a defect of triton_stub; the "
                        "server's log has the traceback."
                    ),
                )

        return grpc.unary_unary_rpc_method_handler(
            behaviour, handler.request_deserializer, handler.response_serializer
        )
