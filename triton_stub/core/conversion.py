"""Between the core's requests and responses and those that a model touches."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from triton_stub import deviations, pb_utils
from triton_stub.core.request import InferenceResponse
from triton_stub.core.tensor import Tensor, unreshaped
from triton_stub.errors import InferenceError

if TYPE_CHECKING:
    from triton_stub.core.request import InferenceRequest
    from triton_stub.core.scheduling.scheduler import Pending
    from triton_stub.core.trace import Trace
    from triton_stub.deviations import Deviation
    from triton_stub.runtime.instance import InstanceSpec


class Conversion:
    """The conversions for one instance of a model."""

    def __init__(self, spec: InstanceSpec, config: Any) -> None:
        self.decoupled: bool = config.model_transaction_policy.decoupled
        self.pid = os.getpid()
        self._name = spec.model_name
        self._version = spec.model_version
        self._version_number = int(spec.model_version)
        # By default the server copies what is on a GPU (FORCE_CPU_ONLY_INPUT_TENSORS: "yes").
        parameters = {key: value.string_value for key, value in config.parameters.items()}
        self._takes_gpu_memory = parameters.get("FORCE_CPU_ONLY_INPUT_TENSORS") == "no"
        self._batching: bool = config.max_batch_size > 0
        self._reshapes = {
            entry.name: (tuple(entry.reshape.shape), tuple(entry.dims))
            for entry in config.output
            if entry.HasField("reshape")
        }

    def to_model(
        self,
        pending: Pending,
        request_class: type[pb_utils.InferenceRequest],
    ) -> pb_utils.InferenceRequest:
        """The request as ``execute`` gets it."""
        request, validated = pending.request, pending.validated
        return request_class._received(
            [
                pb_utils.Tensor._received(
                    tensor.name,
                    tensor.datatype,
                    tensor.shape,
                    tensor.to_numpy(),
                    on_gpu=tensor.on_gpu and self._takes_gpu_memory,
                )
                for tensor in validated.inputs
            ],
            validated.requested_outputs,
            model_name=self._name,
            model_version=self._version_number,
            request_id=request.request_id,
            correlation_id=pending.correlation_id,
            flags=pending.flags,
            timeout=request.timeout,
            parameters=request.parameters,
            channel=Channel(pending, self),
        )

    def from_model(
        self, request: InferenceRequest, response: pb_utils.InferenceResponse, *, final: bool = True
    ) -> InferenceResponse:
        """A response that a model has made; its values are copied now."""
        error = response._error
        if error is not None:
            failure = InferenceError(error._message, error._status())
            return self.failure(request, failure, final=final)
        return InferenceResponse(
            model_name=self._name,
            model_version=self._version,
            request_id=request.request_id,
            tensors=[self._output(tensor) for tensor in response._output_tensors],
            parameters=response._parameters,
            final=final,
        )

    def end(self, request: InferenceRequest) -> InferenceResponse:
        """The bare end of a decoupled model's responses."""
        return InferenceResponse(
            model_name=self._name,
            model_version=self._version,
            request_id=request.request_id,
            bare=True,
        )

    def failure(
        self, request: InferenceRequest, error: InferenceError, *, final: bool = True
    ) -> InferenceResponse:
        """A response that holds only an error."""
        return InferenceResponse(
            model_name=self._name,
            model_version=self._version,
            request_id=request.request_id,
            error=error,
            final=final,
        )

    def _output(self, tensor: pb_utils.Tensor) -> Tensor:
        name = tensor._name
        datatype, shape, data = tensor._snapshot()
        if name in self._reshapes:
            shape = unreshaped(shape, *self._reshapes[name], batching=self._batching)
        return Tensor(name, datatype, shape, data, tensor._on_gpu)


class Channel:
    """The way from a model back to the client of one request."""

    __slots__ = ("_conversion", "_pending", "decoupled")

    def __init__(self, pending: Pending, conversion: Conversion) -> None:
        self.decoupled = conversion.decoupled
        self._pending = pending
        self._conversion = conversion

    @property
    def trace(self) -> Trace | None:
        """The trace of the request, if it is traced."""
        return self._pending.answer.trace

    def respond(self, response: pb_utils.InferenceResponse | None, *, final: bool) -> None:
        """Hand on a response, or with None the bare end."""
        self._check_process(deviations.FORKED_SENDER, "a response is sent")
        request = self._pending.request
        self._pending.answer.put(
            self._conversion.end(request)
            if response is None
            else self._conversion.from_model(request, response, final=final)
        )

    def _check_process(self, deviation: Deviation, what: str) -> None:
        if os.getpid() != self._conversion.pid:
            raise pb_utils.TritonModelException(
                deviation.text(
                    f"{what}, in a worker that the model has forked", "Do it in the model's own."
                )
            )

    def keep(self) -> None:
        """The model has asked for the sender."""
        self._pending.answer.kept = True

    def is_cancelled(self) -> bool:
        """True if the client does not want the answer any more."""
        self._check_process(deviations.FORKED_WORKER, "is_cancelled() is called")
        return self._pending.answer.cancelled

    def abandon(self, sent: int, instead: str | None) -> None:
        """Nobody is left who could send the final response: the server's client would hang."""
        if instead is not None:
            text = instead
        elif sent or self.decoupled:
            text = deviations.NO_ANSWER.text(
                "the response sender of this request is gone, and no final response was sent",
                "Send it with flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL.",
            )
        else:
            text = deviations.NO_ANSWER.text(
                "execute returned None for this request, so it is never answered",
                "Return one InferenceResponse for each request.",
            )
        if text:
            failure = self._conversion.failure(self._pending.request, InferenceError(text))
            self._pending.answer.put(failure)
