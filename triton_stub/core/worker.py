"""One instance at work: a thread that takes batches from the queue and answers them."""

from __future__ import annotations

import contextlib
import threading
import time
from concurrent.futures import Future, InvalidStateError
from typing import TYPE_CHECKING, Any

from triton_stub import pb_utils
from triton_stub.core.request import InferenceResponse
from triton_stub.core.statistics import BatchTimes
from triton_stub.core.tensor import Tensor
from triton_stub.errors import InferenceError, StatusCode
from triton_stub.pb_utils.logger import LogLevel
from triton_stub.runtime.instance import Instance

if TYPE_CHECKING:
    from collections.abc import Iterable

    from triton_stub.core.batcher import Batcher, Pending
    from triton_stub.core.log import Log
    from triton_stub.core.statistics import Statistics
    from triton_stub.runtime.instance import InstanceSpec


class Worker:
    """Loads an instance in a thread of its own, and executes batches until the queue is closed.

    ``ready`` is done when the model is loaded, or holds what kept it from loading.
    """

    def __init__(
        self, spec: InstanceSpec, config: Any, batcher: Batcher, statistics: Statistics, log: Log
    ) -> None:
        self.name = spec.instance_name
        self.ready: Future[None] = Future()
        self._spec = spec
        self._batcher = batcher
        self._statistics = statistics
        self._log = log
        self._batch_dims = 1 if config.max_batch_size else 0
        self._reshapes = {
            entry.name: (tuple(entry.reshape.shape), tuple(entry.dims))
            for entry in config.output
            if entry.HasField("reshape")
        }
        self._running: list[Pending] = []
        # A daemon: a model that never returns must not keep the test run from ending.
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)

    def start(self) -> None:
        """Begin to load the model."""
        self._thread.start()

    def join(self, timeout: float) -> bool:
        """Wait, for so many seconds at most, until the thread has ended; True if it has."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def give_up(self, error: InferenceError) -> None:
        """Answer the batch under execution with an error; what the model does no longer counts."""
        self.refuse(self._running, error)

    def refuse(self, batch: Iterable[Pending], error: InferenceError) -> None:
        """Answer requests with an error."""
        for pending in batch:
            _answer(pending, self._failure(pending, error))

    def _run(self) -> None:
        instance = Instance(self._spec, self._log)
        try:
            instance.load()
        except BaseException as error:  # noqa: BLE001 - it is raised where the model is loaded
            self.ready.set_exception(error)
            return
        self.ready.set_result(None)
        while (formed := self._batcher.next_batch()) is not None:
            # Nobody waits for a cancelled request; from here on none can be cancelled.
            self._running = [p for p in formed if p.answer.set_running_or_notify_cancel()]
            del formed
            if self._running:
                self._execute(instance, self._running)
            self._running = []  # the next wait may be long; do not keep the tensors alive
        instance.unload()

    def _execute(self, instance: Instance, batch: list[Pending]) -> None:
        try:
            answers = self._answers(instance, batch)
        except BaseException as error:  # noqa: BLE001 - clients must not wait for ever
            self._log.note(LogLevel.ERROR, f"defect of triton_stub: {error!r}")
            defect = InferenceError(
                f"triton_stub failed to execute this request: {error!r}. This is a defect of "
                "triton_stub, not of the model."
            )
            defect.__cause__ = error
            self.refuse(batch, defect)
        else:
            for pending, answer in zip(batch, answers, strict=True):
                _answer(pending, answer)

    def _answers(self, instance: Instance, batch: list[Pending]) -> list[InferenceResponse]:
        start = time.monotonic_ns()
        requests = [_to_model(pending) for pending in batch]
        infer_start = time.monotonic_ns()
        try:
            responses = instance.execute(requests)
        except InferenceError as error:
            executed = False
            infer_end = time.monotonic_ns()
            answers = [self._failure(pending, error) for pending in batch]
        else:
            # As the server counts: a response with an error of its own is a success.
            executed = True
            infer_end = time.monotonic_ns()
            answers = [
                self._from_model(pending, response)
                for pending, response in zip(batch, responses, strict=True)
            ]
        times = BatchTimes(start, infer_start, infer_end, time.monotonic_ns())
        # Counted before anybody is answered, so that a client that looks finds its own request.
        self._statistics.count(
            [(pending.batch_size, pending.enqueued) for pending in batch], times, success=executed
        )
        return answers

    def _failure(self, pending: Pending, error: InferenceError) -> InferenceResponse:
        return InferenceResponse(
            model_name=self._spec.model_name,
            model_version=self._spec.model_version,
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
            model_name=self._spec.model_name,
            model_version=self._spec.model_version,
            request_id=pending.request.request_id,
            tensors=[self._output(tensor) for tensor in response.output_tensors()],
            parameters=response._parameters,
        )

    def _output(self, tensor: pb_utils.Tensor) -> Tensor:
        name = tensor.name()
        datatype, shape, data = tensor._snapshot()
        if name in self._reshapes:
            shape = self._unreshaped(shape, *self._reshapes[name])
        return Tensor(name, datatype, shape, data)

    def _unreshaped(
        self, shape: tuple[int, ...], reshape: tuple[int, ...], dims: tuple[int, ...]
    ) -> tuple[int, ...]:
        """An output's shape turned from ``reshape`` back to ``dims``, as blindly as the core."""
        batch, own = shape[: self._batch_dims], shape[self._batch_dims :]
        wild = iter(size for size, dim in zip(own, reshape, strict=False) if dim == -1)
        return (*batch, *(next(wild, 1) if dim == -1 else dim for dim in dims))


def _answer(pending: Pending, response: InferenceResponse) -> None:
    # Unless the request was given up while the model was busy with it.
    with contextlib.suppress(InvalidStateError):
        pending.answer.set_result(response)


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
