"""Requests that a model sends to models of its own server (BLS, business logic scripting).

Source: python_backend ``src/request_executor.cc`` and ``src/python_be.cc``, ``ExecuteBLSRequest``.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Protocol

from triton_stub import deviations, pb_utils
from triton_stub.core.request import LONGEST_CORRELATION_ID, InferenceRequest, InferenceResponse
from triton_stub.core.tensor import Tensor
from triton_stub.errors import InferenceError, ServerError, StatusCode
from triton_stub.pb_utils.casters import c_string
from triton_stub.pb_utils.memory import MemoryType

if TYPE_CHECKING:
    from collections.abc import Callable

    from triton_stub.core.model import ServedModel
    from triton_stub.core.responses import Responses

_INT64 = range(-(2**63), 2**63)
_CPU, _NO_PREFERENCE = MemoryType.TRITONSERVER_MEMORY_CPU.value, 2
_GPU = MemoryType.TRITONSERVER_MEMORY_GPU.value
# An escape of JSON; of a surrogate pair both halves, if it has both.
_ESCAPE = re.compile(r"\\(?:u(?P<high>d[89ab]..)(?P<low>\\ud[c-f]..)?|.)")


class Exchange(Protocol):
    """A request that another model has, and its responses as they come."""

    def get(self) -> InferenceResponse:
        """Wait for the next response; InferenceError if none comes in time."""

    def cancel(self) -> None:
        """Tell the other model that nobody needs its responses any more."""


class Call:
    """``pb_utils.host.Call``: one request of a model's own.

    ``send`` gives the request to the other model; it raises InferenceError if that is refused.
    """

    def __init__(
        self,
        send: Callable[[InferenceRequest, bool], Exchange],
        request: pb_utils.InferenceRequest,
        *,
        decoupled: bool,
    ) -> None:
        self.was_taken = True
        self._decoupled = decoupled
        self._memory = request._preferred_memory._memory_type
        sent = _to_core(request)
        try:
            self._exchange = send(sent, decoupled)
        except InferenceError as error:
            self.was_taken = False
            self._refusal = _failed(
                f"Model {sent.model_name} - Error when running inference: {error.message}"
            )

    def response(self) -> tuple[pb_utils.InferenceResponse, bool]:
        """Wait for the next response; it, and whether it is the last."""
        if not self.was_taken:
            return self._refusal, True
        try:
            response = self._exchange.get()
        except InferenceError as error:  # none came in time
            return _failed(error.message, error.code), True
        if not (response.final or self._decoupled):
            # Whatever the other model sends next.
            text = deviations.EARLY_ANSWER.text(
                f"model '{response.model_name}' has answered a request of another model by a "
                "response without the final flag",
                "Send it with flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL.",
            )
            return _failed(text), True
        return self._received(response), response.final

    def cancel(self) -> None:
        """Tell the other model that nobody needs its responses any more."""
        if self.was_taken:
            self._exchange.cancel()

    def _received(self, response: InferenceResponse) -> pb_utils.InferenceResponse:
        if response.error is not None:
            # Its code since 25.04; before, it was always INTERNAL.
            return _failed(response.error.message, response.error.code)
        if response.tensors and self._memory not in (_GPU, _CPU, _NO_PREFERENCE):
            return _failed("Unknown memory type")
        tensors = [
            pb_utils.Tensor._received(
                tensor.name,
                tensor.datatype,
                tensor.shape,
                tensor.to_numpy(),
                # deviations.GPU_MEMORY
                on_gpu=self._memory == _GPU or (tensor.on_gpu and self._memory != _CPU),
            )
            for tensor in response.tensors
        ]
        parameters = None if response.bare else response.parameters
        return pb_utils.InferenceResponse._received(tensors, parameters)


def submit(
    find: Callable[[str, int], ServedModel],
    request: InferenceRequest,
    *,
    decoupled: bool,
    ready: bool = True,
) -> tuple[ServedModel, Responses]:
    """Give a request to its model; InferenceError, in the server's words, if it is refused.

    ``ready`` is False while the server starts, and a model is warmed up.
    """
    try:
        model = find(request.model_name, request.model_version)
    except ServerError:
        model = None
    if model is None or not model.ready():
        raise InferenceError(
            f"Failed for execute the inference request. Model '{request.model_name}' is not ready."
        )
    if model.decoupled and not decoupled:
        # The quote at the end is the server's.
        raise InferenceError(
            f"Model {request.model_name} is using the decoupled. The current BLS request call "
            "doesn't support models using the decoupled transaction policy. Please use "
            "'decoupled=True' argument to the 'exec' or 'async_exec' calls for decoupled models.'"
        )
    size = len(str(request.correlation_id).encode("utf-8", "surrogateescape"))
    if size > LONGEST_CORRELATION_ID:
        raise InferenceError(
            f"string correlation ID cannot be longer than {LONGEST_CORRELATION_ID} characters"
        )
    request.parameters = _checked_parameters(request.parameters)
    if request.trace is not None:
        request.trace = request.trace.spawn()
    if not ready:
        model.prepare(request)  # what is wrong with the request is said first
        raise InferenceError("Server not ready", StatusCode.UNAVAILABLE)
    return model, model.submit(request)


def _to_core(request: pb_utils.InferenceRequest) -> InferenceRequest:
    correlation_id = request._correlation_id
    return InferenceRequest(
        model_name=c_string(request._model_name),
        model_version=request._model_version,
        request_id=c_string(request._request_id),
        inputs=[
            Tensor(c_string(tensor._name), *tensor._snapshot(), on_gpu=tensor._on_gpu)
            for tensor in request._inputs
        ],
        requested_outputs=sorted(set(map(c_string, request._requested_output_names))),
        parameters=request._parameters,
        correlation_id=(
            c_string(correlation_id) if isinstance(correlation_id, str) else correlation_id
        ),
        flags=request._flags,
        timeout=request._timeout,
        trace=request._linked(),
    )


def _checked_parameters(parameters: Any) -> dict[str, bool | int | str]:
    """Parameters as the server reads them, from JSON."""
    if not parameters:
        return {}
    text = json.dumps(parameters)
    for escape in _ESCAPE.finditer(text) if "\\ud" in text else ():
        if escape["high"] and not escape["low"]:
            raise InferenceError(
                "failed to parse the request JSON buffer: The surrogate pair in string is "
                f"invalid. at {escape.start()}"
            )
    checked: dict[str, bool | int | str] = {}
    read: dict[str, Any] = json.loads(text)
    for key in map(c_string, read):
        if key not in read:
            raise InferenceError("Unexpected missing key on parameters")
        value = read[key]
        if not isinstance(value, bool | str) and (
            not isinstance(value, int) or value not in _INT64
        ):
            raise InferenceError("Unsupported value type on parameters")
        checked[key] = c_string(value) if isinstance(value, str) else value
    return checked


def _failed(message: str, code: StatusCode = StatusCode.INTERNAL) -> pb_utils.InferenceResponse:
    # As bytes: what was no UTF-8 is no text that it would take.
    text: Any = c_string(message).encode("utf-8", "surrogateescape")
    error = pb_utils.TritonError(text, getattr(pb_utils.TritonError, code.name))
    return pb_utils.InferenceResponse._received([], error=error)
