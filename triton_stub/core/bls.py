"""Requests that a model sends to models of its own server (BLS, business logic scripting).

Source: python_backend ``src/request_executor.cc``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from triton_stub import pb_utils
from triton_stub.core.request import InferenceRequest, InferenceResponse
from triton_stub.core.tensor import Tensor
from triton_stub.errors import InferenceError, ServerError, StatusCode
from triton_stub.pb_utils.memory import MemoryType

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from triton_stub.core.model import ServedModel


def infer(
    find: Callable[[str, int], ServedModel], request: pb_utils.InferenceRequest, *, decoupled: bool
) -> Iterator[tuple[pb_utils.InferenceResponse, bool]]:
    """Send ``request`` now; its responses as they come, each with whether it is the last."""
    name = request._model_name
    try:
        model = _ready(find, name, request._model_version)
        if model.decoupled and not decoupled:
            # The quote at the end is the server's.
            raise InferenceError(
                f"Model {name} is using the decoupled. The current BLS request call doesn't "
                "support models using the decoupled transaction policy. Please use "
                "'decoupled=True' argument to the 'exec' or 'async_exec' calls for decoupled "
                "models.'"
            )
        responses = model.submit(_to_core(request))
    except ServerError as error:
        failure = InferenceError(
            f"Model {name} - Error when running inference: {error.message}", error.code
        )
        return iter([(_failed(failure), True)])
    if not decoupled:
        # Waited for here, so that nothing of the call is left to a generator.
        return iter([(_from_core(_result(responses.result, model), request), True)])
    return ((_from_core(response, request), response.final) for response in responses)


def _ready(find: Callable[[str, int], ServedModel], name: str, version: int) -> ServedModel:
    try:
        return find(name, version)
    except ServerError:
        raise InferenceError(
            f"Failed for execute the inference request. Model '{name}' is not ready."
        ) from None


def _result(wait: Callable[[], InferenceResponse], model: ServedModel) -> InferenceResponse:
    try:
        return wait()
    except InferenceError as error:  # none came in time
        return InferenceResponse(
            model_name=model.name, model_version=str(model.version), error=error
        )


def _to_core(request: pb_utils.InferenceRequest) -> InferenceRequest:
    return InferenceRequest(
        model_name=request._model_name,
        model_version=request._model_version,
        request_id=request._request_id,
        inputs=[
            Tensor(tensor.name(), *tensor._snapshot(), on_gpu=tensor._on_gpu)
            for tensor in request._inputs
        ],
        requested_outputs=sorted(request._requested_output_names),
        parameters=request._parameters,
        correlation_id=request._correlation_id,
        flags=request._flags,
        timeout=request._timeout,
    )


def _from_core(
    response: InferenceResponse, request: pb_utils.InferenceRequest
) -> pb_utils.InferenceResponse:
    if response.error is not None:
        return _failed(response.error)
    preferred = request._preferred_memory
    to_cpu = preferred is not None and (
        preferred._memory_type == MemoryType.TRITONSERVER_MEMORY_CPU
    )
    return pb_utils.InferenceResponse._received(
        [
            pb_utils.Tensor._received(
                tensor.name,
                tensor.datatype,
                tensor.shape,
                tensor.to_numpy(),
                on_gpu=tensor.on_gpu and not to_cpu,
            )
            for tensor in response.tensors
        ],
        parameters=response.parameters,
    )


def _failed(error: InferenceError) -> pb_utils.InferenceResponse:
    # Triton keeps the code of the callee since 25.04; before, it was always INTERNAL.
    code = getattr(pb_utils.TritonError, StatusCode(error.code).name)
    return pb_utils.InferenceResponse._received([], error=pb_utils.TritonError(error.message, code))
