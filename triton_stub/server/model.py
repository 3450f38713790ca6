"""``Model``: what can be asked of one model of a server, or of one version of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from triton_stub import config as model_config
from triton_stub.core import model as core_model
from triton_stub.core.repository import NEWEST
from triton_stub.core.request import InferenceRequest, Parameter, own_parameter
from triton_stub.core.tensor import Tensor
from triton_stub.errors import InferenceError, StatusCode
from triton_stub.server.response import ResponseIterator

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from triton_stub.core.model import ServedModel
    from triton_stub.core.result import Result
    from triton_stub.server.server import Server


class Model:
    """A handle of one model of a server, or of one version of it."""

    def __init__(self, server: Server, name: str, version: int = NEWEST) -> None:
        self.name = name
        self.version = version
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
            {**(inputs or {}), **tensors},
            requested_outputs=outputs,
            request_id=request_id,
            parameters=parameters or {},
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
        return model.submit(request).result().result()

    def infer(
        self,
        inference_request: InferenceRequest | None = None,
        raise_on_error: bool = True,  # noqa: FBT001, FBT002 - NVIDIA's signature
        *,
        inputs: Mapping[str, Any] | None = None,
        **request: Any,
    ) -> ResponseIterator:
        """Send one request; iterate over its responses as they come, one unless decoupled.

        Keywords are the fields of ``InferenceRequest``. The request is sent at once, not at the
        first ``next()``; the arrays in ``inputs`` may be changed as soon as this returns. The
        last response is ``final``; that of a decoupled model may be empty. ``cancel()`` of what
        is returned cancels the request.
        """
        if inference_request is None:
            inference_request = self._request(inputs or {}, **request)
            inference_request.inputs = [tensor.copy() for tensor in inference_request.inputs]
        return ResponseIterator(self._find().submit(inference_request), raise_on_error)

    def execute(self, requests: Sequence[Mapping[str, Any]]) -> list[Result | InferenceError]:
        """Call the model's ``execute`` exactly once, with these requests, in this order.

        Each request is a mapping of input names to arrays. The list that comes back has a
        Result, or the InferenceError that answers it, for each.
        """
        answers = self._find().submit_batch([self._request(inputs) for inputs in requests])
        results: list[Result | InferenceError] = []
        for answer in answers:
            try:
                results.append(answer.result().result())
            except InferenceError as error:
                results.append(error)
        return results

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

    def config(self) -> dict[str, Any]:
        """The configuration with all defaults, as the server prints it."""
        return model_config.to_dict(self._find().config)

    def statistics(self) -> dict[str, Any]:
        """Statistics of this model: ``{"model_stats": […]}``."""
        return self._server.statistics(self.name, self.version)

    def _find(self) -> ServedModel:
        return self._server.find(self.name, self.version)

    def _request(self, inputs: Mapping[str, Any], **fields: Any) -> InferenceRequest:
        if given := fields.get("parameters"):
            fields["parameters"] = {name: own_parameter(name, given[name]) for name in given}
        return InferenceRequest(
            model_name=self.name,
            model_version=self.version,
            inputs=[Tensor.from_numpy(name, array) for name, array in inputs.items()],
            **fields,
        )

    def __repr__(self) -> str:
        return f"Model({self.name!r}, version={self.version})"
