"""A version of a model whose instances run its ``model.py``: a queue, and who works it off."""

from __future__ import annotations

import copy
import itertools
import time
from typing import TYPE_CHECKING, Any

from triton_stub import config as model_config
from triton_stub import deviations
from triton_stub.core.cache import ModelCache
from triton_stub.core.clock import ManualClock
from triton_stub.core.model import ServedModel
from triton_stub.core.repository.loading import check_supported, warn_of_ignored
from triton_stub.core.request import InferenceResponse
from triton_stub.core.responses import Responses
from triton_stub.core.scheduling import sequence_states
from triton_stub.core.scheduling.batch_policy import BatchPolicy
from triton_stub.core.scheduling.batcher import Batcher
from triton_stub.core.scheduling.default_scheduler import DefaultScheduler
from triton_stub.core.scheduling.priority_queue import PriorityQueue
from triton_stub.core.scheduling.scheduler import Pending
from triton_stub.core.scheduling.sequences import SequenceBatcher
from triton_stub.core.statistics import FailureReason
from triton_stub.core.validation import BackendRefusedError, Validator
from triton_stub.core.worker import Worker
from triton_stub.errors import InferenceError, LoadError, ServerError, StatusCode
from triton_stub.pb_utils.logger import LogLevel
from triton_stub.runtime.instance import InstanceSpec

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from triton_stub.core.host import InstanceHost, ServerHost
    from triton_stub.core.repository.loading import Settings
    from triton_stub.core.request import InferenceRequest
    from triton_stub.core.scheduling.hold import Hold
    from triton_stub.core.scheduling.scheduler import Scheduler


class BackendModel(ServedModel):
    """A version of a Python model."""

    def __init__(
        self, directory: Path, version: int, settings: Settings, server: ServerHost
    ) -> None:
        super().__init__(settings.config, version, server)
        self._directory = directory
        self._settings = settings
        self._validator = Validator(settings.config)
        self._count(self._wanted(self.config))
        self._scheduler = self._new_scheduler()
        # For passive instances: nothing ever comes, but the end.
        self._nothing = DefaultScheduler(BatchPolicy(self.config))
        self._numbers = itertools.count()
        # The instances, and those that only load or end yet while it is updated.
        self._workers: list[Worker] = []
        self._others: list[Worker] = []
        self._cache = ModelCache.of(self, server)

    def load(self) -> None:
        """Start every instance; LoadError, and nothing left running, if one fails."""
        check_supported(self.config)
        warn_of_ignored(self.config, self._log, rate_limited=self._server.rate_limited)
        self.show_metrics()
        self._workers = self._new_workers(self._wanted(self.config))
        try:
            errors = self._start(self._workers)
        except BaseException:
            # Interrupted: whoever is still loading stops as soon as that is done.
            self.close()
            self.hide_metrics()
            raise
        if errors:
            self.unload()
            raise errors[-1]
        if isinstance(self._scheduler, SequenceBatcher):
            try:
                states = sequence_states.initial(self.config, self._directory, self._log)
            except LoadError:
                self.unload()
                raise
            self._scheduler.begin_with(states)

    def update(self, config: Any) -> None:
        """Have the instances that another configuration asks for, which differs in nothing else.

        Those that are there go on as they are, and are told nothing. LoadError, and nothing
        changed, if one of the others fails. Source: core ``src/backend_model.cc``,
        ``UpdateInstanceGroup``.
        """
        model_config.check_instance_groups(config)
        wanted = copy.deepcopy(self.config)
        wanted.ClearField("instance_group")
        wanted.instance_group.extend(config.instance_group)
        warn_of_ignored(wanted, self._log, rate_limited=self._server.rate_limited)
        surplus = list(self._workers)
        kept, missing = _matched(self._wanted(wanted), surplus)
        started = self._new_workers(missing)
        self._others = [*started, *(each for each in self._others if not each.is_over)]
        errors: Sequence[BaseException] = ()
        try:
            errors = self._start(started)
            if errors:
                raise errors[-1]
        except BaseException:
            for queue in (self._scheduler, self._nothing):
                queue.discard([worker.number for worker in started])
            if errors:
                self._end(started)
            raise
        for queue, passive in ((self._scheduler, False), (self._nothing, True)):
            queue.update(
                [worker.number for worker in started if worker.spec.is_passive == passive],
                [worker.number for worker in surplus if worker.spec.is_passive == passive],
            )
        self._others = [each for each in self._others if each not in started] + surplus
        self._workers = sorted(kept + started, key=lambda worker: worker.spec.is_passive)
        self._count([worker.spec for worker in self._workers])
        self.config = wanted
        if not isinstance(self._scheduler, SequenceBatcher):  # which waits for sequences to end
            self._end(surplus)

    def _start(self, workers: Sequence[Worker]) -> list[BaseException]:
        """Load instances, side by side; what has kept some from it."""
        for worker in workers:
            worker.start()
        limit = self._server.load_timeout
        return [error for worker in workers if (error := worker.load_error(limit))]

    def _end(self, workers: Sequence[Worker]) -> None:
        """Wait for instances that have nothing to do any more, and give up those that hang."""
        self._join(workers, time.monotonic() + self._server.exit_timeout)
        self._give_up(workers, f"within {self._server.exit_timeout:g} s")
        self._others = [each for each in self._others if not each.is_over]

    def _stop(self) -> None:
        self._scheduler.close()
        self._nothing.close()

    def unload(self, timeout: float | None = None, *, since: float | None = None) -> bool:
        """Answer what is queued, run ``finalize`` in every instance, and stop.

        Instances that are not done after ``timeout`` seconds, counted from ``since`` (of
        ``time.monotonic``), are given up: whoever waits for them gets an error. True if there was
        none of these.
        """
        self.close()
        timeout = self._server.exit_timeout if timeout is None else timeout
        until = (time.monotonic() if since is None else since) + timeout
        try:
            self._join(self._everyone, until)
        except KeyboardInterrupt:
            self._give_up_all("before the interrupt")
            raise
        finally:
            self.hide_metrics()
        return self._give_up_all(f"within {timeout:g} s")

    @property
    def _everyone(self) -> list[Worker]:
        return [*self._workers, *(each for each in self._others if not each.is_over)]

    @staticmethod
    def _join(workers: Iterable[Worker], until: float) -> None:
        for worker in workers:
            if not worker.given_up:
                worker.join(max(0.0, until - time.monotonic()))

    def _give_up_all(self, when: str) -> bool:
        """Give up what has not stopped, and the queue; True if there is nothing of it."""
        self._stop()  # whoever uses it still
        stuck = self._give_up(self._everyone, when)
        if stuck is not None:
            worker, error = stuck
            worker.refuse(self._scheduler.drain(), error)
        return stuck is None

    def _give_up(
        self, workers: Iterable[Worker], when: str
    ) -> tuple[Worker, InferenceError] | None:
        """Give up what has not stopped; the last of it, and why."""
        stuck = None
        for worker in workers:
            if worker.is_over:
                continue
            text = deviations.EXIT_LIMIT.text(
                f"model '{self.name}' did not stop {when}",
                f"Correct it, or raise exit_timeout if it needs longer. {worker.where()}",
            )
            self._log.note(LogLevel.ERROR, text)
            error = InferenceError(f"this request is given up: {text}", StatusCode.UNAVAILABLE)
            worker.give_up(error)
            stuck = worker, error
        return stuck

    def ready(self) -> bool:
        """True unless the model's own ``is_ready`` says that it is not, in any instance."""
        try:
            for worker in self._workers:
                worker.check_ready()
        except ServerError as error:
            self._log.note(
                LogLevel.VERBOSE,
                f"Model '{self.name}' version {self.version} is not ready: {error.message}",
            )
            return False
        return True

    def where(self) -> str:
        """Where each instance is in its code, for people who wait for the model."""
        why = ["It is held, by hold()."] if self._scheduler.held is not None else []
        if isinstance(self._server.clock, ManualClock):
            why.append("What waits for a queue delay waits for advance() of the ManualClock.")
        return "\n".join([*why, *(worker.where() for worker in self._everyone)])

    def hold(self) -> Hold:
        """Collect requests in the queue; InferenceError if that is done already."""
        return self._scheduler.hold(f"model '{self.name}'")

    def check_waiting(self) -> None:
        """InferenceError in the thread that holds the model, which would wait for itself."""
        held = self._scheduler.held
        if held is not None and held.is_own:
            raise InferenceError(
                f"this thread holds model '{self.name}' and would wait for ever: release it "
                "first, or send the request with infer() or async_infer(), and look at the "
                "answer after that",
                StatusCode.INVALID_ARG,
            )

    def hosts(self) -> list[InstanceHost]:
        """What the instances that execute see of the server."""
        return [worker.host for worker in self._everyone if not worker.spec.is_passive]

    def enqueue(self, pending: Pending) -> None:
        """Queue one request that was prepared; InferenceError if it is refused."""
        waiting = self.statistics.waiting
        waiting.add(pending)
        try:
            if self._cache is None or not self._cache.answer(pending):
                self._scheduler.put(pending)
            else:
                waiting.discard(pending)
        except ServerError:
            waiting.discard(pending)
            raise

    def submit_batch(self, requests: Sequence[InferenceRequest]) -> list[Responses]:
        """Validate requests and have them executed in one call of ``execute``, in this order.

        InferenceError if one is refused, or if the server would never put them into one call.
        """
        batch = [self.prepare(request) for request in requests]
        if batch:
            self._scheduler.put_batch(batch)
        return [pending.answer for pending in batch]

    def prepare(self, request: InferenceRequest) -> Pending:
        """Validate one request; InferenceError if it is refused."""
        try:
            validated = self._validator.validate(request)
        except BackendRefusedError:
            self.statistics.count_failure(self._server.clock.now(), FailureReason.BACKEND)
            raise
        if self._refusal:
            raise InferenceError(self._refusal)
        new_responses = Responses if self._cache is None else self._cache.new_responses
        answer = new_responses(self._server.response_timeout, self.where)
        answer.check_waiting = self.check_waiting
        return self.traced(Pending(request, validated, self._server.clock.now(), answer))

    def _count(self, specs: Sequence[InstanceSpec]) -> None:
        """Count the instances that execute, and find out whether the server survives a request."""
        self._active = sum(not spec.is_passive for spec in specs)
        self._refusal = ""
        if not self._active:
            self._refusal = deviations.PASSIVE.text(
                f"all instance groups of model '{self.name}' are passive",
                "Leave passive out of one of them.",
            )
        elif self._active < len(specs) and self.config.HasField("sequence_batching"):
            # It gives them slots for sequences.
            self._refusal = deviations.PASSIVE.text(
                f"model '{self.name}' has sequence_batching and passive instances",
                "Leave passive out.",
            )

    def _new_scheduler(self) -> Scheduler:
        policy, clock = BatchPolicy(self.config), self._server.clock
        if self.config.HasField("sequence_batching"):
            return SequenceBatcher(
                self.config,
                policy,
                self._active,
                drop=self._drop,
                note=self._log.note,
                clock=clock,
            )
        if not policy.is_dynamic:
            return DefaultScheduler(policy)
        return Batcher(
            policy,
            queue=PriorityQueue.of(self.config.dynamic_batching),
            clock=clock,
            instances=self._active,
            drop=self._drop,
        )

    def _drop(self, pending: Pending, error: InferenceError) -> None:
        """Answer a request that is not executed any more."""
        cancelled = error.code == StatusCode.CANCELLED
        reason = FailureReason.CANCELED if cancelled else FailureReason.REJECTED
        self.statistics.waiting.discard(pending)
        self.statistics.count_failure(pending.enqueued, reason)
        pending.answer.put(
            InferenceResponse(
                model_name=self.name,
                model_version=str(self.version),
                request_id=pending.request.request_id,
                error=error,
            )
        )
        if (trace := pending.answer.trace) is not None:
            trace.ended()

    def _new_workers(self, specs: Iterable[InstanceSpec]) -> list[Worker]:
        # Those first that execute.
        return [
            Worker(
                spec,
                self.config,
                self._nothing if spec.is_passive else self._scheduler,
                self.statistics,
                self._server,
                number=next(self._numbers),
            )
            for spec in sorted(specs, key=lambda spec: spec.is_passive)
        ]

    def _wanted(self, config: Any) -> list[InstanceSpec]:
        """The instances that a configuration asks for."""
        kinds = model_config.schema().ModelInstanceGroup.Kind
        version_directory = self._directory / str(self.version)
        return [
            InstanceSpec(
                model_name=self.name,
                model_version=str(self.version),
                model_file=self._settings.backend or version_directory / self._settings.file_name,
                backend_of=version_directory if self._settings.backend else None,
                model_config=self._settings.told,
                instance_name=f"{group.name}_{index}",
                # Whether there is a GPU or not: deviations.GPU_WITHOUT_GPU.
                kind=kinds.Name(group.kind).removeprefix("KIND_"),
                device_id=device_id,
                decoupled=self.decoupled,
                model_directory=self._directory,
                is_passive=group.passive,
                signature=_signature(group),
            )
            for group in config.instance_group
            for index in range(group.count)
            for device_id in (group.gpus or [0])
        ]


def _matched(
    wanted: Iterable[InstanceSpec], workers: list[Worker]
) -> tuple[list[Worker], list[InstanceSpec]]:
    """Take those of the ``workers`` that are wanted, the last ones first; and what is missing."""
    kept: list[Worker] = []
    missing: list[InstanceSpec] = []
    for spec in wanted:
        alike = [worker for worker in workers if worker.spec.is_like(spec)]
        if alike:
            workers.remove(alike[-1])
            kept.append(alike[-1])
        else:
            missing.append(spec)
    return kept, missing


def _signature(group: Any) -> bytes:
    """All of an instance group but its name and how many instances it has."""
    group = copy.deepcopy(group)
    group.name, group.count = "", 1
    signature: bytes = group.SerializeToString(deterministic=True)
    return signature
