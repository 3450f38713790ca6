"""Inference requests over gRPC that are answered once.

Source: server ``src/grpc/infer_handler.cc``, ``ModelInferHandler``.
"""

from __future__ import annotations

import functools
import threading
from typing import TYPE_CHECKING

import grpc
from tritonclient.grpc.service_pb2 import ModelInferResponse

from triton_stub.core.request import InferenceResponse
from triton_stub.endpoints.grpc import codec
from triton_stub.endpoints.grpc.blobs import LARGE, LargeResponse
from triton_stub.errors import InferenceError, StatusCode
from triton_stub.pb_utils.casters import c_string

if TYPE_CHECKING:
    from collections.abc import Callable

    from tritonclient.grpc.service_pb2 import ModelInferRequest

    from triton_stub.core.responses import Responses
    from triton_stub.endpoints.headers import ForwardedHeaders
    from triton_stub.server import Server


#: What becomes of requests while models finish (since 25.05; before, the models are gone).
STOPPING = "GRPC server is shutting down and has stopped accepting new requests."


class Inference:
    """Requests to models that answer once."""

    def __init__(
        self, server: Server, compression: grpc.Compression, headers: ForwardedHeaders
    ) -> None:
        self._server = server
        self._compression = compression
        self._headers = headers

    def ModelInfer(  # noqa: N802 - the protocol's name
        self, request: ModelInferRequest, context: grpc.ServicerContext
    ) -> ModelInferResponse | LargeResponse:
        """Send a request to a model, and wait for its answer."""
        tracer = self._server.tracer
        come = tracer.now()
        if not self._server.live():
            raise InferenceError(STOPPING, StatusCode.UNAVAILABLE)
        version = codec.version(request.model_version)
        model = self._server.find(c_string(request.model_name), version)
        if model.decoupled:
            raise InferenceError(
                "ModelInfer RPC doesn't support models with decoupled transaction policy",
                StatusCode.UNSUPPORTED,
            )
        forwarded = self._headers.parameters(context.invocation_metadata())
        asked, formats = codec.decode(request, self._server, forwarded)
        asked.trace = trace = tracer.sample(model.name)
        if trace is not None:
            trace.read(come, tracer.now())
        try:
            responses = model.submit(asked)
        except BaseException:
            if trace is not None:
                trace.abandon()
            raise
        # Whatever that is; the model may have answered by then.
        _at_end(context, functools.partial(responses.leave, _nobody_waits()))
        try:
            answer = _answer(responses, formats)
        finally:
            if trace is not None:
                _when_answered(
                    responses,
                    lambda: _at_end(context, functools.partial(trace.sent, tracer.now())),
                )
        if self._compression is not grpc.Compression.NoCompression:
            context.set_compression(self._compression)
        return answer


def _at_end(context: grpc.ServicerContext, action: Callable[[], None]) -> None:
    """Do something when the call is over."""
    if not context.add_callback(action):
        action()


def _nobody_waits() -> InferenceResponse:
    error = InferenceError("the call is over", StatusCode.CANCELLED)
    return InferenceResponse(model_name="", model_version="", error=error)


def _when_answered(responses: Responses, action: Callable[[], None]) -> None:
    """Do something as soon as the model has answered, be it after the call."""
    first = threading.Lock()

    def look() -> None:
        if responses.closed and first.acquire(blocking=False):
            responses.listen(None)  # they would refer to each other
            action()

    responses.listen(look)
    look()


def _answer(
    responses: Responses, formats: codec.OutputFormats
) -> ModelInferResponse | LargeResponse:
    """The message of a request's only response; InferenceError if there is none, or another."""
    arrived = list(responses)
    told = [response for response in arrived if not response.bare]
    if len(told) != 1:
        raise InferenceError(f"expected a single response, got {len(told)}")
    if told[0].error is not None and arrived[-1] is not told[0]:
        # The server forgets the error when it hears of the end alone.
        return ModelInferResponse()
    message, raw = codec.encode_parts(told[0], formats)
    if sum(map(len, raw)) >= LARGE:
        return LargeResponse(message, raw)
    message.raw_output_contents.extend(map(bytes, raw))
    return message
