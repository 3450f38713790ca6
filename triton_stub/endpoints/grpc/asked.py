"""A request of a stream, and the messages that answer it."""

from __future__ import annotations

import math
import time
from collections import deque
from typing import TYPE_CHECKING

from tritonclient.grpc.service_pb2 import ModelStreamInferResponse

from triton_stub.core.request import InferenceResponse
from triton_stub.endpoints.grpc import codec
from triton_stub.errors import ServerError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tritonclient.grpc.service_pb2 import ModelInferRequest

    from triton_stub.core.responses import Responses
    from triton_stub.core.trace import Trace
    from triton_stub.endpoints.grpc.codec import OutputFormats

_FINAL = "triton_final_response"


class Asked:
    """One request: a thread submits or refuses it, and another one fetches its messages.

    Of what came in, only what an answer repeats is kept.
    """

    def __init__(self, request: ModelInferRequest) -> None:
        self._id = request.id
        self._model = request.model_name
        self._version = request.model_version
        #: True if it is for a model that may answer any number of times.
        self.decoupled = False
        #: True once its place among those that are answered in order is taken.
        self.placed = False
        #: What is to be sent.
        self.messages: deque[ModelStreamInferResponse] = deque()
        #: True once nothing more is to be fetched.
        self.done = False
        #: The error that its model has answered with, the last one if there are several.
        self.failure: ServerError | None = None
        #: What its model answers; None as long as it has not got there.
        self.responses: Responses | None = None
        #: Its trace, if it is traced.
        self.trace: Trace | None = None
        self._refusal: ServerError | None = None
        self._overdue: InferenceResponse | None = None
        self._formats: OutputFormats | None = None
        self._since = time.monotonic()

    def refuse(self, error: ServerError) -> None:
        """It does not get to a model."""
        self._refusal = error

    def submitted(
        self, responses: Responses, formats: OutputFormats, arrived: Callable[[], None]
    ) -> None:
        """It is with its model; ``arrived`` is called whenever there is something to fetch."""
        self._formats = formats
        self.responses = responses
        responses.listen(arrived)

    def fetch(self, *, strict: bool = False) -> None:
        """Make messages of what has come; if ``strict``, of what came before a failure."""
        if self._refusal is not None and not self.done:
            self.done = True
            message = ModelStreamInferResponse(error_message=_text(self._refusal))
            message.infer_response.id = self._id
            self.messages.append(message)
        while not self.done and (response := self._next()) is not None:
            self._since = time.monotonic()
            self.done = response.final
            message = self._answer(response)
            if self.done:
                self._formats = None  # with its regions of shared memory
            if strict and self.failure is not None:
                return
            if message is not None:
                self.messages.append(message)

    def _next(self) -> InferenceResponse | None:
        if self._overdue is not None or self.responses is None:
            return self._overdue
        return self.responses.take()

    def _answer(self, response: InferenceResponse) -> ModelStreamInferResponse | None:
        assert self._formats is not None
        message = ModelStreamInferResponse()
        answer = message.infer_response
        try:
            if not response.bare or response.error is not None:
                answer.CopyFrom(codec.encode(response, self._formats))
            elif self.decoupled and self._formats.empty_final_response:
                self._name(message)
            else:
                return None
        except ServerError as error:
            self.failure = error.with_traceback(None)  # whose frames have regions in use
            message.error_message = _text(error)
            self._name(message)
        answer.parameters[_FINAL].bool_param = response.final
        return message

    def _name(self, message: ModelStreamInferResponse) -> None:
        # As they were in the request, also without a version.
        message.infer_response.id = self._id
        message.infer_response.model_name = self._model
        message.infer_response.model_version = self._version

    def until_overdue(self) -> float:
        """Seconds until its model has let one wait for too long; infinite if it may."""
        if self.done or self.responses is None or self.responses.timeout is None:
            return math.inf
        return self._since + self.responses.timeout - time.monotonic()

    def give_up(self) -> None:
        """Answer it with the error that its model has let one wait for too long."""
        assert self.responses is not None
        error = self.responses.give_up(self.responses.timeout)
        self._overdue = InferenceResponse(model_name="", model_version="", error=error)

    def forsake(self, *, cancel: bool) -> None:
        """Keep nothing of what is still to come; tell the model so, if it is to be cancelled."""
        trace, self.trace = self.trace, None
        if trace is not None:
            trace.done()
        responses = self.responses
        if responses is None:
            return
        if cancel:
            responses.cancel()

        def empty() -> None:
            while responses.take() is not None:
                pass

        responses.listen(empty)
        empty()


def _text(error: ServerError) -> str:
    """An error's text as a message can have it: a model's may be none that is UTF-8."""
    return error.message.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
