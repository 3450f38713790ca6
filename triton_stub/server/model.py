"""``Model``: what can be asked of one model of a server, or of one version of it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from triton_stub import config as model_config
from triton_stub.core import model as core_model
from triton_stub.core import request as core_request
from triton_stub.core.repository.repository import NEWEST
from triton_stub.core.request import Parameter, own_correlation_id, own_parameter
from triton_stub.core.tensor import Tensor
from triton_stub.errors import InferenceError, InvalidArgumentError, StatusCode
from triton_stub.pb_utils.casters import c_string
from triton_stub.server.enums import ModelBatchFlag, ModelTxnPropertyFlag
from triton_stub.server.request import InferenceRequest, by_name
from triton_stub.server.response import Answers, AsyncResponseIterator, ResponseIterator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from triton_stub.core.model import ServedModel
    from triton_stub.core.responses import Responses
    from triton_stub.core.result import Result
    from triton_stub.core.scheduling.hold import Hold
    from triton_stub.server.server import Server


class Model:
    """A handle of one model of a server, or of one version of it.

    ``state`` and ``reason`` are those of the index, in a handle that ``Server.models`` returns.
    """

    def __init__(
        self,
        server: Server,
        name: str,
        version: int = NEWEST,
        state: str | None = None,
        reason: str | None = None,
    ) -> None:
        self.name = name
        self.version = version
        self.state = state
        self.reason = reason
        self._server = server

    def __call__(
        self,
        inputs: Mapping[str, Any] | None = None,
        /,
        *,
        outputs: Sequence[str] = (),
        request_id: str = "",
        parameters: Mapping[str, Parameter] | None = None,
        correlation_id: int | str = 0,
        flags: int = 0,
        priority: int = 0,
        timeout: int = 0,
        **tensors: Any,
    ) -> Result:
        """Send one request and wait: ``model(image=array)["fc_out"]``.

        ``inputs`` is for input names that are no keywords; ``timeout`` is in microseconds. Raises
        InferenceError on an error response, with the exception of the model as its cause.
        """
        request = self._request(
            tensors if inputs is None else {**by_name(inputs), **tensors},
            requested_outputs=outputs,
            request_id=request_id,
            parameters=parameters,
            correlation_id=correlation_id,
            flags=flags,
            priority=priority,
            timeout=timeout,
        )
        model = self._find()
        if model.decoupled:
            raise InferenceError(
                f"model '{self.name}' is decoupled: it may send any number of responses to one "
                "request. Iterate over model.infer(inputs={...})",
                StatusCode.UNSUPPORTED,
            )
        model.check_waiting()
        return model.submit(request).result().result()

    def send(self, inputs: Mapping[str, Any], **request: Any) -> Responses:
        """Send one request of NumPy arrays; the plain responses, as they come.

        Keywords are the fields of the core's ``InferenceRequest``. The arrays may be changed as
        soon as this returns.
        """
        own = self._request(inputs, **request)
        own.inputs = [tensor.copy() for tensor in own.inputs]
        return self._find().submit(own)

    def create_request(self, **fields: Any) -> InferenceRequest:
        """A request to this model, for ``infer`` or ``async_infer``; keywords are its fields."""
        fields.pop("model", None)
        return InferenceRequest(self, **fields)

    def infer(
        self,
        inference_request: InferenceRequest | None = None,
        raise_on_error: bool = True,  # noqa: FBT001, FBT002 - NVIDIA's signature
        **fields: Any,
    ) -> ResponseIterator:
        """Send one request; iterate over its responses as they come, one unless decoupled.

        Keywords are the fields of ``InferenceRequest``: ``model.infer(inputs={"image": image})``.
        The request is sent at once, not at the first ``next()``, and what the server refuses
        raises at once; the arrays may be changed as soon as this returns. The last response is
        ``final``; that of a decoupled model may be empty. An error response raises at ``next()``,
        unless ``raise_on_error`` is False. ``cancel()`` of what is returned cancels the request.
        """
        request = inference_request or InferenceRequest(self, **fields)
        if isinstance(request.response_queue, asyncio.Queue):
            # In NVIDIA's API nobody who waits for such a queue is woken from another thread.
            raise InvalidArgumentError(
                "response_queue is an asyncio.Queue, which only async_infer can use; infer needs "
                "a queue.SimpleQueue"
            )
        answers = self._answers(request)
        return ResponseIterator(answers, request.response_queue, raise_on_error=raise_on_error)

    def async_infer(
        self,
        inference_request: InferenceRequest | None = None,
        raise_on_error: bool = True,  # noqa: FBT001, FBT002 - NVIDIA's signature
        **fields: Any,
    ) -> AsyncResponseIterator:
        """The same for ``async for``. Not to be awaited itself: the request is sent at once.

        With a ``response_queue`` it has to be called in an event loop.
        """
        request = inference_request or InferenceRequest(self, **fields)
        if request.response_queue is not None:
            if not isinstance(request.response_queue, asyncio.Queue):
                raise InvalidArgumentError(
                    "response_queue is no asyncio.Queue, which async_infer needs"
                )
            asyncio.get_running_loop()  # or nothing is sent
        answers = self._answers(request)
        return AsyncResponseIterator(answers, request.response_queue, raise_on_error=raise_on_error)

    def _answers(self, request: InferenceRequest) -> Answers:
        # Of the model that the request was made for, as in NVIDIA's API.
        responses = request.model._find().submit(request.to_core())
        return Answers(responses, request.model, request.output_memory_type)

    def execute(self, requests: Sequence[Mapping[str, Any]]) -> list[Result | InferenceError]:
        """Call the model's ``execute`` exactly once, with these requests, in this order.

        Each request is a mapping of input names to arrays. The list that comes back has a
        Result, or the InferenceError that answers it, for each.
        """
        if isinstance(requests, Mapping):
            raise TypeError(
                f"requests to model '{self.name}': expected a list of mappings, one for each "
                'request, such as [{"IN": array}]; got one mapping'
            )
        model = self._find()
        model.check_waiting()
        answers = model.submit_batch([self._request(inputs) for inputs in requests])
        results: list[Result | InferenceError] = []
        for answer in answers:
            try:
                results.append(answer.result().result())
            except InferenceError as error:
                results.append(error)
        return results

    def hold(self) -> Hold:
        """Collect requests in the queue, and let them go all at once; see :meth:`Server.hold`."""
        return self._find().hold()

    def ready(self) -> bool:
        """True if the model, or this version of it, serves."""
        try:
            return self._find().ready()
        except InferenceError:
            return False

    def metadata(self) -> dict[str, Any]:
        """Name, versions, platform, inputs and outputs, as KServe v2 prints them."""
        model = self._find()
        versions = (
            self._server.ready_versions(self.name) if self.version == NEWEST else [self.version]
        )
        return core_model.metadata(model, versions)

    def config(self, config_version: int = 1) -> dict[str, Any]:
        """The configuration with all defaults, as the server prints it."""
        model = self._find()
        if config_version != 1:  # core ``src/model_config_utils.cc``
            raise InferenceError(
                f"model configuration version {config_version} not supported, supported versions "
                "are: 1",
                StatusCode.INVALID_ARG,
            )
        return model_config.to_dict(model.config)

    def batch_properties(self) -> ModelBatchFlag:
        """Whether the first dimension of its tensors is the batch."""
        batched = self._find().config.max_batch_size > 0
        return ModelBatchFlag.FIRST_DIM if batched else ModelBatchFlag.UNKNOWN

    def transaction_properties(self) -> ModelTxnPropertyFlag:
        """Whether a request has one response or any number of them."""
        decoupled = self._find().decoupled
        return ModelTxnPropertyFlag.DECOUPLED if decoupled else ModelTxnPropertyFlag.ONE_TO_ONE

    def of_version(self, version: int) -> Model:
        """A handle of one version of this model."""
        return Model(self._server, self.name, version)

    def statistics(self) -> dict[str, Any]:
        """Statistics of this model: ``{"model_stats": […]}``."""
        return self._server.statistics(self.name, self.version)

    def _find(self) -> ServedModel:
        return self._server.find(self.name, self.version)

    def _request(
        self,
        inputs: Mapping[str, Any],
        *,
        request_id: str = "",
        parameters: Mapping[str, Parameter] | None = None,
        correlation_id: int | str = 0,
        **fields: Any,
    ) -> core_request.InferenceRequest:
        given = parameters or {}
        return core_request.InferenceRequest(
            model_name=self.name,
            model_version=self.version,
            parameters={name: own_parameter(name, given[name]) for name in given},
            correlation_id=correlation_id and own_correlation_id(correlation_id),
            request_id=request_id and c_string(request_id),
            inputs=[Tensor.from_numpy(name, array) for name, array in by_name(inputs).items()],
            **fields,
        )

    def __repr__(self) -> str:
        # As NVIDIA's API prints it.
        return str({"name": self.name, "version": self.version, "state": self.state})
