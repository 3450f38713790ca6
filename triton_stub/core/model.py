"""One version of a model: its configuration, its queue, its instances, its statistics."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from triton_stub import config as model_config
from triton_stub import datatypes, pb_utils
from triton_stub.core.batcher import Batcher, BatchPolicy, Pending
from triton_stub.core.request import InferenceResponse
from triton_stub.core.statistics import BatchTimes, Statistics
from triton_stub.core.tensor import Tensor
from triton_stub.core.validation import Validator
from triton_stub.errors import (
    InferenceError,
    LoadError,
    StatusCode,
    UnsupportedFeatureError,
)
from triton_stub.pb_utils.logger import LogLevel
from triton_stub.runtime.instance import Instance, InstanceSpec

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from triton_stub.core.log import Log
    from triton_stub.core.request import InferenceRequest

_JOIN_SECONDS = 30.0


class ServedModel:
    """A loaded version of a model. Requests go in by ``submit``; futures give the responses."""

    def __init__(self, directory: Path, version: int, config: Any, log: Log) -> None:
        self.name: str = config.name
        self.version = version
        self.config = config
        self.statistics = Statistics()
        self._log = log
        self._directory = directory
        self._validator = Validator(config)
        self._batcher = Batcher(BatchPolicy(config))
        self._threads: list[threading.Thread] = []
        self._output_dims = {
            entry.name: tuple(entry.dims) for entry in config.output if entry.HasField("reshape")
        }

    def load(self) -> None:
        """Start every instance; LoadError, and nothing left running, if one fails."""
        _check_supported(self.config, self._log)
        specs = self._instance_specs()
        ready: list[Future[None]] = [Future() for _ in specs]
        self._threads = [
            # A daemon: a model that never returns must not keep the test run from ending.
            threading.Thread(
                target=self._serve, args=(spec, future), name=spec.instance_name, daemon=True
            )
            for spec, future in zip(specs, ready, strict=True)
        ]
        for thread in self._threads:
            thread.start()
        errors = [error for future in ready if (error := future.exception()) is not None]
        if errors:
            self.unload()
            raise errors[0]

    def unload(self) -> None:
        """Answer what is queued, run ``finalize`` in every instance, and stop."""
        self._batcher.close()
        for thread in self._threads:
            thread.join(_JOIN_SECONDS)
            if thread.is_alive():
                self._log.write(
                    LogLevel.ERROR,
                    f"instance '{thread.name}' of model '{self.name}' did not stop within "
                    f"{_JOIN_SECONDS:.0f} s; its thread is abandoned: execute or finalize blocks",
                    __file__,
                    0,
                )
        self._threads = []

    def submit(self, request: InferenceRequest) -> Future[InferenceResponse]:
        """Validate and queue one request; InferenceError if it is refused."""
        pending = Pending(request, self._validator.validate(request))
        self._batcher.put(pending)
        return pending.answer

    def submit_batch(self, requests: Sequence[InferenceRequest]) -> list[Future[InferenceResponse]]:
        """Validate requests and have them executed in one call of ``execute``, in this order.

        InferenceError if one is refused, or if they are more than the server would ever put
        into one call.
        """
        batch = [Pending(request, self._validator.validate(request)) for request in requests]
        rows = sum(pending.batch_size for pending in batch)
        limit = self.config.max_batch_size or 1
        if rows > limit:
            raise InferenceError(
                f"{len(batch)} requests with {rows} rows in all cannot be one batch of model "
                f"'{self.name}': max_batch_size is {self.config.max_batch_size}, so the server "
                "would never call execute with them together. Send fewer, or raise max_batch_size.",
                StatusCode.INVALID_ARG,
            )
        if batch:
            self._batcher.put_batch(batch)
        return [pending.answer for pending in batch]

    def _instance_specs(self) -> list[InstanceSpec]:
        kinds = model_config.schema().ModelInstanceGroup.Kind
        version_directory = self._directory / str(self.version)
        text = model_config.to_json(self.config)
        return [
            InstanceSpec(
                model_name=self.name,
                model_version=str(self.version),
                model_file=version_directory / self.config.default_model_filename,
                model_config=text,
                instance_name=f"{group.name}_{index}",
                kind=kinds.Name(group.kind).removeprefix("KIND_"),
                device_id=device_id,
            )
            for group in self.config.instance_group
            for index in range(group.count)
            for device_id in (group.gpus or [0])
        ]

    def _serve(self, spec: InstanceSpec, ready: Future[None]) -> None:
        instance = Instance(spec, self._log)
        try:
            instance.load()
        except LoadError as error:
            ready.set_exception(error)
            return
        ready.set_result(None)
        while (formed := self._batcher.next_batch()) is not None:
            # Nobody waits for a cancelled request; from here on none can be cancelled.
            batch = [p for p in formed if p.answer.set_running_or_notify_cancel()]
            if not batch:
                continue
            try:
                self._execute(instance, batch)
            except BaseException as error:  # noqa: BLE001 - the client must not wait for ever
                for pending in batch:
                    if not pending.answer.done():
                        pending.answer.set_exception(error)
            del formed, batch  # the next wait may be long; do not keep the tensors alive
        instance.unload()

    def _execute(self, instance: Instance, batch: list[Pending]) -> None:
        start = time.monotonic_ns()
        requests = [_to_model(pending) for pending in batch]
        infer_start = time.monotonic_ns()
        answers: list[InferenceResponse]
        # As the server counts: a response with an error of its own is a success.
        executed = False
        try:
            responses = instance.execute(requests)
        except InferenceError as error:
            infer_end = time.monotonic_ns()
            answers = [self._failure(pending, error) for pending in batch]
        else:
            executed = True
            infer_end = time.monotonic_ns()
            answers = [
                self._from_model(pending, response)
                for pending, response in zip(batch, responses, strict=True)
            ]
        times = BatchTimes(start, infer_start, infer_end, time.monotonic_ns())
        # Counted before anybody is answered, so that a client that looks finds its own request.
        self.statistics.count_execution(sum(pending.batch_size for pending in batch), times)
        for pending in batch:
            self.statistics.count_request(
                pending.batch_size, pending.enqueued, times, success=executed
            )
        for pending, answer in zip(batch, answers, strict=True):
            pending.answer.set_result(answer)

    def _failure(self, pending: Pending, error: InferenceError) -> InferenceResponse:
        return InferenceResponse(
            model_name=self.name,
            model_version=str(self.version),
            request_id=pending.request.request_id,
            error=error,
        )

    def _from_model(
        self, pending: Pending, response: pb_utils.InferenceResponse
    ) -> InferenceResponse:
        error = response.error()
        if error is not None:
            return self._failure(
                pending, InferenceError(error.message(), StatusCode(int(error.code())))
            )
        return InferenceResponse(
            model_name=self.name,
            model_version=str(self.version),
            request_id=pending.request.request_id,
            tensors=[self._output(tensor) for tensor in response.output_tensors()],
            parameters=response._parameters,
        )

    def _output(self, tensor: pb_utils.Tensor) -> Tensor:
        datatype, shape, data = tensor._snapshot()
        dims = self._output_dims.get(tensor.name())
        if dims is not None:
            shape = self._unreshaped(tensor.name(), shape, dims)
        return Tensor(tensor.name(), datatype, shape, data)

    def _unreshaped(
        self, name: str, shape: tuple[int, ...], dims: tuple[int, ...]
    ) -> tuple[int, ...]:
        """An output's shape turned from ``reshape`` back to ``dims``, as blindly as the core."""
        entry = next(entry for entry in self.config.output if entry.name == name)
        batch = shape[:1] if self.config.max_batch_size else ()
        wild = iter(
            size
            for size, dim in zip(shape[len(batch) :], entry.reshape.shape, strict=False)
            if dim == -1
        )
        return (*batch, *(next(wild, 1) if dim == -1 else dim for dim in dims))


def _to_model(pending: Pending) -> pb_utils.InferenceRequest:
    request = pending.request
    return pb_utils.InferenceRequest._received(
        [
            pb_utils.Tensor._received(tensor.name, tensor.datatype, tensor.shape, tensor.to_numpy())
            for tensor in pending.validated.inputs
        ],
        pending.validated.requested_outputs,
        request_id=request.request_id,
        correlation_id=request.correlation_id,
        flags=request.flags,
        timeout=request.timeout,
        parameters=request.parameters,
    )


def _check_supported(config: Any, log: Log) -> None:
    """Refuse what would run under other rules than the server's; warn of what changes little."""
    batching = config.dynamic_batching
    asked = {
        "sequence_batching": config.HasField("sequence_batching"),
        "ensemble_scheduling": config.HasField("ensemble_scheduling")
        or config.platform == "ensemble",
        "model_transaction_policy { decoupled: true }": config.model_transaction_policy.decoupled,
        "dynamic_batching.priority_levels": batching.priority_levels > 0,
        "dynamic_batching.default_queue_policy": batching.HasField("default_queue_policy"),
        "dynamic_batching.priority_queue_policy": len(batching.priority_queue_policy) > 0,
        f'backend: "{config.backend}"': config.backend not in ("", "python"),
    }
    features = [feature for feature, is_asked in asked.items() if is_asked]
    if features:
        raise UnsupportedFeatureError(
            f"model '{config.name}' asks for {', '.join(features)}, which this release of "
            "triton_stub does not imitate: test this model with --triton-engine=native"
        )
    if config.model_warmup:
        log.write(
            LogLevel.WARNING,
            f"model '{config.name}': model_warmup is ignored by this release of triton_stub",
            __file__,
            0,
        )


def metadata(model: ServedModel, versions: Sequence[int]) -> dict[str, Any]:
    """Model metadata as the KServe v2 protocol prints it; shapes include the batch dimension."""
    batch = [-1] if model.config.max_batch_size else []
    return {
        "name": model.name,
        "versions": [str(version) for version in versions],
        "platform": model.config.platform or model.config.backend,
        **{
            plural: [
                {
                    "name": entry.name,
                    "datatype": datatypes.from_number(entry.data_type).name,
                    "shape": [*batch, *entry.dims],
                }
                for entry in entries
            ]
            for plural, entries in (
                ("inputs", model.config.input),
                ("outputs", model.config.output),
            )
        },
    }
