"""One request on its way through the steps of an ensemble.

Source: core ``src/ensemble_scheduler/ensemble_scheduler.cc``, ``EnsembleContext``. Nobody waits
for a step: whoever answers one sees to the next.
"""

from __future__ import annotations

import threading
from collections import deque
from functools import partial
from typing import TYPE_CHECKING

from triton_stub.core.ensembles.graph import as_input
from triton_stub.core.ensembles.tensors import Origin, Values, origin_in, parameters_of
from triton_stub.core.request import InferenceRequest, InferenceResponse
from triton_stub.core.scheduling.scheduler import refuse_late
from triton_stub.core.statistics import FailureReason
from triton_stub.core.tensor import Tensor
from triton_stub.errors import InferenceError, StatusCode
from triton_stub.pb_utils.logger import LogLevel

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from triton_stub.core.ensembles.graph import Graph, Step
    from triton_stub.core.log import Log
    from triton_stub.core.model import ServedModel
    from triton_stub.core.request import Parameter
    from triton_stub.core.responses import Responses
    from triton_stub.core.scheduling.scheduler import Pending
    from triton_stub.core.statistics import BatchTimes


class _Call:
    """A request to the model of a step."""

    __slots__ = ("model", "origin", "pending", "step")

    def __init__(self, step: Step, model: ServedModel, pending: Pending, origin: Origin) -> None:
        self.step = step
        self.model = model
        self.pending = pending
        self.origin = origin


class EnsembleRequest:
    """The state of one request to an ensemble.

    What happens to it is put into a queue that one thread at a time works off. So a step that is
    answered while the answer of another is dealt with does not wait; and one that is answered at
    once, or any number of times, does not go deeper.
    """

    def __init__(
        self,
        ensemble: ServedModel,
        graph: Graph,
        pending: Pending,
        *,
        find: Callable[[str, int], ServedModel],
        log: Log,
        ended: Callable[[EnsembleRequest], None],
        closes_circle: Callable[[ServedModel, Responses], str],
        start: int,
    ) -> None:
        self.pending = pending
        self._ensemble = ensemble
        self._graph = graph
        self._find = find
        self._log = log
        self._ended = ended
        self._closes_circle = closes_circle
        pending.answer.steps = self._where
        self._start = start
        self._models: dict[tuple[str, int], ServedModel] = {}
        self._happened: deque[Callable[[], None]] = deque()
        self._at_work = threading.Lock()
        self._in_flight: set[_Call] = set()
        self._error: InferenceError | None = None
        self._has_answered = False
        self._is_over = False
        self._times: list[BatchTimes] = []  # of steps that were executed
        requested = pending.validated.requested_outputs
        self._takers = graph.takers(requested)
        self._tensors = {
            name: Values(len(takers) + (name in requested)) for name, takers in self._takers.items()
        }

    def start(self) -> None:
        """Begin; every step that only needs inputs is queued when this returns."""
        self._do(self._begin)

    def _where(self) -> list[tuple[ServedModel, Responses]]:
        return [(call.model, call.pending.answer) for call in list(self._in_flight)]

    def give_up(self, error: InferenceError) -> None:
        """Answer with an error, and begin no more steps; what these still do no longer counts."""
        self.pending.answer.put(self._failure(error))
        self._error = error
        self._do(self._end)

    def _do(self, action: Callable[[], None]) -> None:
        self._happened.append(action)
        # Whoever is at work looks again after it has opened the lock.
        while self._happened and self._at_work.acquire(blocking=False):
            try:
                while self._happened:
                    self._happened.popleft()()
            except Exception as error:  # noqa: BLE001 - clients must not wait for ever
                self._log.note(LogLevel.ERROR, f"defect of triton_stub: {error!r}")
                self.give_up(
                    InferenceError(
                        f"triton_stub failed to execute this ensemble: {error!r}. This is a defect "
                        "of triton_stub, not of the models."
                    )
                )
            finally:
                self._at_work.release()

    def _begin(self) -> None:
        try:
            for step in self._graph.steps:
                key = (step.model_name, step.model_version)
                if key not in self._models:
                    self._models[key] = self._used(*key)
        except InferenceError as error:
            self._fail(error)
            self._finish()
            return
        validated = self.pending.validated
        for tensor in validated.inputs:
            self._tensors[tensor.name].add(tensor)
        for name in self._graph.optional:
            if not self._tensors[name].by_turn:
                self._tensors[name].add(None)
        given = [name for name, values in self._tensors.items() if values.by_turn]
        for name in given:
            self._tensors[name].batch_size = validated.batch_size
        self._proceed({(name, 0) for name in given})

    def _used(self, name: str, version: int) -> ServedModel:
        model = self._find(name, version)
        if model.use():
            return model
        model = self._find(name, version)  # that one had just been replaced
        if not model.use():
            refuse_late(self.pending)
        return model

    def _answered(self, call: _Call) -> None:
        """A step has been answered, perhaps more than once."""
        while (response := call.pending.answer.take()) is not None:
            if response.final:
                # Its listener has the call: the tensors must not wait for a garbage collection.
                call.pending.answer.listen(None)
                self._in_flight.discard(call)
                if call.step.limit is not None:
                    call.step.limit.leave()
                if call.pending.answer.times is not None:
                    self._times.append(call.pending.answer.times)
            updated: set[tuple[str, int]] = set()
            try:
                updated = self._keep(call, response)
            except InferenceError as error:
                self._fail(error)
            self._proceed(updated)

    def _keep(self, call: _Call, response: InferenceResponse) -> set[tuple[str, int]]:
        """Take over the tensors of a step's response; which of the ensemble's are new."""
        if response.error is not None:
            raise response.error
        if response.bare:
            return set()
        named = origin_in(response.parameters, call.origin.correlation_id)
        updated: set[tuple[str, int]] = set()
        missing = dict(call.step.outputs)
        for tensor in response.tensors:
            target = missing.pop(tensor.name, None)
            if target is not None:
                turn = self._tensors[target].add(tensor, named or call.origin)
                updated.add((target, turn))
        # What is left out may be an optional input of the next step.
        left_out = named or Origin(call.origin.correlation_id, 0)
        for target in missing.values():
            updated.add((target, self._tensors[target].add(None, left_out)))
        return updated

    def _proceed(self, updated: set[tuple[str, int]]) -> None:
        """Answer the client, and go on with the steps, as far as that is possible now."""
        ready: list[_Call] = []
        output: InferenceResponse | None = None
        if self._error is None:
            try:
                ready = self._next_steps(updated)
                output = self._output(updated)
            except InferenceError as error:
                self._fail(error)
        self._finish(output)
        for call in ready:
            self._schedule(call)

    def _next_steps(self, updated: set[tuple[str, int]]) -> list[_Call]:
        """The steps that have all their inputs now; InferenceError if one of them refuses these."""
        due = {
            (index, turn)
            for name, turn in updated
            for index in self._takers[name]
            if all(
                turn in self._tensors[source].by_turn
                for source in self._graph.steps[index].inputs.values()
            )
        }
        calls = [self._call(self._graph.steps[index], turn) for index, turn in sorted(due)]
        self._in_flight.update(calls)
        return calls

    def _call(self, step: Step, turn: int) -> _Call:
        """The request to a step's model."""
        model = self._models[step.model_name, step.model_version]
        asked = self.pending.request
        inputs: list[Tensor] = []
        origin: Origin | None = None
        for name, source in step.inputs.items():
            values = self._tensors[source]
            value = values.by_turn[turn]
            if value.tensor is not None:
                inputs.append(as_input(model.config, name, value.tensor, values.batch_size))
            if origin is None:
                origin = value.origin
            elif value.origin not in (None, origin):
                self._log.note(
                    LogLevel.ERROR,
                    "[request id: <id_unknown>] Different set of response parameters are set for "
                    f"'{step.model_name}'. Parameter correlation ID {origin.correlation_id}, flags "
                    f"{origin.flags} is used.",
                )
        for source in set(step.inputs.values()):
            self._tensors[source].take(turn)
        origin = origin or Origin(asked.correlation_id, asked.flags)
        pending = model.prepare(
            InferenceRequest(
                model_name=step.model_name,
                model_version=step.model_version,
                request_id=asked.request_id,
                inputs=inputs,
                requested_outputs=list(step.outputs),
                parameters=asked.parameters,
                correlation_id=origin.correlation_id,
                flags=origin.flags,
                priority=asked.priority,
                timeout=asked.timeout,
                trace=None if asked.trace is None else asked.trace.spawn(),
            )
        )
        for target in step.outputs.values():
            self._tensors[target].batch_size = pending.validated.batch_size
        return _Call(step, model, pending, origin)

    def _output(self, updated: set[tuple[str, int]]) -> InferenceResponse | None:
        """The response that is complete now, if one is."""
        validated = self.pending.validated
        is_complete, now = False, 0
        for name, turn in sorted(updated):
            if name in validated.requested_outputs:
                now = turn
                is_complete = all(
                    now in self._tensors[each].by_turn for each in validated.requested_outputs
                )
        if not is_complete:
            return None
        tensors: list[Tensor] = []
        parameters: dict[str, Parameter] = {}
        for name, output in self._graph.outputs.items():
            values = self._tensors[name]
            value = values.by_turn[now] if name in validated.requested_outputs else None
            if value is None or value.tensor is None:
                continue
            tensor = value.tensor
            shape = output.shape(tensor.shape, values.batch_size, validated.batch_size)
            tensors.append(Tensor(name, tensor.datatype, shape, tensor.data, tensor.on_gpu))
            if 0 in tensor.shape:
                continue  # as the server, which is done with a tensor without content
            values.take(now)
            if value.origin is not None:
                parameters |= parameters_of(value.origin, self.pending.request.correlation_id)
        return self._response(tensors, parameters)

    def _schedule(self, call: _Call) -> None:
        limit, cancelled = call.step.limit, self.pending.answer.cancelled
        send = partial(self._send, call)
        if limit is None or limit.enter(partial(self._do, send), at_once=cancelled):
            send()

    def _send(self, call: _Call) -> None:
        if self._error is None:
            answer = call.pending.answer
            if self.pending.answer.cancelled:
                answer.cancel()
            answer.listen(partial(self._do, partial(self._answered, call)))
            try:
                call.model.enqueue(call.pending)
            except InferenceError as error:
                self._fail(error)
                self._log.note(
                    LogLevel.WARNING,
                    f"Ensemble '{self._ensemble.name}' failed to schedule step : {error.message}",
                )
            else:
                circle = self._closes_circle(call.model, answer)
                if not circle:
                    return
                answer.cancelled = answer.withdrawn = True
                self._fail(InferenceError(circle))
        self._in_flight.discard(call)
        if call.step.limit is not None:
            call.step.limit.leave()
        if not self._in_flight:
            self._finish()

    def _finish(self, output: InferenceResponse | None = None) -> None:
        """Answer the client with what is there, and with the end if nothing more can come."""
        if self._is_over:
            return
        self._is_over = not self._in_flight
        if output is None and self._is_over and self._error is None:
            if self._ensemble.decoupled or self._has_answered:
                output = self._response([], {}, bare=True)
            else:
                self._fail(
                    InferenceError(
                        f"{self.pending.request.log_prefix}unexpected deadlock, at least one "
                        "output is not set while no more ensemble steps can be made",
                        StatusCode.INVALID_ARG,
                    )
                )
        if self._is_over:
            self._count()
        if self._error is not None:
            output = self._failure(self._error) if self._is_over else None
        if output is not None:
            output.final = self._is_over
            self._has_answered = True
            self.pending.answer.put(output)
        if self._is_over:
            if (trace := self.pending.answer.trace) is not None:
                trace.ended()
            self._end()

    def _end(self) -> None:
        self._is_over = True
        self.pending.answer.steps = None
        while self._models:
            self._models.popitem()[1].let_go()
        self._ended(self)

    def _fail(self, error: InferenceError) -> None:
        """No more steps; when those under way are done, the last error is the answer.

        That is since Triton 26.02, which names the ensemble once more for each step that is
        answered meanwhile. Once is enough: what it tells would depend on who is first.
        """
        text = f"in ensemble '{self._ensemble.name}', {error.message}"
        self._error = InferenceError(text, error.code)
        self._error.__cause__ = error.__cause__  # the exception of the step's model

    def _count(self) -> None:
        """Count the request, before its client can look."""
        statistics, pending = self._ensemble.statistics, self.pending
        if self._error is not None:
            # Twice, as the server does: for its answer, and for the request (``RespondIfError``
            # and ``RequestTracker``, core src/ensemble_scheduler/ensemble_scheduler.cc).
            for _ in range(2):
                statistics.count_failure(pending.enqueued, FailureReason.OTHER)
            return
        # For an ensemble of which this one is a step.
        pending.answer.times = statistics.count_ensemble(
            pending.validated.batch_size, pending.enqueued, self._start, self._times
        )

    def _response(
        self, tensors: Sequence[Tensor], parameters: Mapping[str, Parameter], *, bare: bool = False
    ) -> InferenceResponse:
        return InferenceResponse(
            model_name=self._ensemble.name,
            model_version=str(self._ensemble.version),
            request_id=self.pending.request.request_id,
            tensors=tensors,
            parameters=parameters,
            bare=bare,
        )

    def _failure(self, error: InferenceError) -> InferenceResponse:
        return InferenceResponse(
            model_name=self._ensemble.name,
            model_version=str(self._ensemble.version),
            request_id=self.pending.request.request_id,
            error=error,
        )
