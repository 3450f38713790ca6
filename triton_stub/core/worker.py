"""One instance at work: a thread that takes batches from the queue and has them executed."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from triton_stub import deviations
from triton_stub.core.conversion import Conversion
from triton_stub.core.executor import ThreadExecutor
from triton_stub.core.host import InstanceHost
from triton_stub.core.processes.process_executor import ProcessExecutor
from triton_stub.core.statistics import BatchTimes
from triton_stub.core.warmup import Unscheduled, WarmUp
from triton_stub.errors import InferenceError, LoadError
from triton_stub.pb_utils.logger import LogLevel

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from triton_stub.core.executor import Executor, Sender
    from triton_stub.core.host import ServerHost
    from triton_stub.core.scheduling.scheduler import Pending, Scheduler
    from triton_stub.core.statistics import Statistics
    from triton_stub.runtime.instance import InstanceSpec


class Worker:
    """Loads an instance in a thread of its own, and executes batches until the queue is closed.

    ``number`` is the instance's among those of the batcher. ``ready`` is done when the model is
    loaded, or holds what kept it from loading.
    """

    def __init__(
        self,
        spec: InstanceSpec,
        config: Any,
        scheduler: Scheduler,
        statistics: Statistics,
        server: ServerHost,
        *,
        number: int = 0,
    ) -> None:
        self.name = spec.instance_name
        self.ready: Future[None] = Future()
        self.number = number
        self.spec = spec
        self.given_up = False
        self._started = 0.0
        self._config = config
        self._queue = scheduler
        # Who is told when a request has been executed.
        self._scheduler: Scheduler | Unscheduled = scheduler
        self._statistics = statistics
        self._server = server
        self._clock = server.clock
        #: What the instance sees of the server.
        self.host = InstanceHost(server, spec.instance_name, spec.model_name)
        self._conversion = Conversion(spec, config)
        self._executor = _executor(spec, self._conversion, self.host, server)
        self._running: list[Pending] = []
        # Requests that the model has kept, to answer them later from a thread of its own.
        self._late: set[Pending] = set()
        self._answered = threading.Condition()
        # A daemon: a model that never returns must not keep the test run from ending.
        self._thread = threading.Thread(target=self._live, name=self.name, daemon=True)
        # A thread whose join was interrupted says that it has ended (Python 3.11 and 3.12).
        self._ended = threading.Event()

    def start(self) -> None:
        """Begin to load the model."""
        self._started = time.monotonic()
        self._thread.start()

    def load_error(self, limit: float | None) -> BaseException | None:
        """Wait until the model is loaded; what has kept it from that, if anything has.

        ``limit`` is the number of seconds from ``start`` after which it is given up.
        """
        waited = time.monotonic() - self._started
        try:
            return self.ready.exception(None if limit is None else max(0.0, limit - waited))
        except TimeoutError:
            error = LoadError(
                deviations.LOAD_LIMIT.text(
                    f"the model was not loaded within {limit:g} s",
                    f"Correct it, or raise load_timeout if it needs longer. {self.where()}",
                )
            )
        self.give_up(InferenceError(error.message))
        return error

    def join(self, timeout: float) -> None:
        """Wait, for so many seconds at most, until the instance has ended."""
        if self._ended.wait(timeout):
            self._thread.join()

    def has_ended(self) -> bool:
        """True if the instance has nothing to do any more."""
        return self._ended.is_set()

    @property
    def is_over(self) -> bool:
        """The same, or it is given up."""
        return self.given_up or self.has_ended()

    def check_ready(self) -> None:
        """ServerError, with the server's text, if the instance is not ready."""
        self._executor.check_ready()

    def where(self) -> str:
        """Where the model is in its code, for people who wait for it."""
        return self._executor.where()

    def give_up(self, error: InferenceError) -> None:
        """Answer what is under execution with an error; what the model does no longer counts."""
        self.given_up = True
        self._executor.give_up()
        running = self._running  # before those that are late, for these have been running
        with self._answered:
            late, self._late = self._late, set()
            self._answered.notify_all()
        self.refuse(dict.fromkeys([*running, *late]), error)

    def refuse(self, batch: Iterable[Pending], error: InferenceError) -> None:
        """Answer requests with an error."""
        for pending in batch:
            self._statistics.waiting.discard(pending)
            pending.answer.put(self._conversion.failure(pending.request, error))
            if (trace := pending.answer.trace) is not None:
                trace.ended()

    def _live(self) -> None:
        try:
            self._run()
        finally:
            self._ended.set()

    def _run(self) -> None:
        self.host.enter()
        self._server.log.note(
            LogLevel.INFO,
            f"TRITONBACKEND_ModelInstanceInitialize: {self.name} "
            f"({self.spec.kind} device {self.spec.device_id})",
        )
        try:
            self._executor.load()
            if self._config.model_warmup and not self.spec.is_passive:
                self._warm_up()
        except BaseException as error:  # noqa: BLE001 - it is raised where the model is loaded
            self.ready.set_exception(error)
            self._executor.finish()
            return
        self.host.loading = None
        self.ready.set_result(None)
        while (batch := self._queue.next_batch(self.number)) is not None:
            self._statistics.waiting.difference_update(batch)
            running = []
            for pending in batch:
                pending.answer.executor = self.host
                if pending.answer.withdrawn:
                    self._scheduler.release(pending)
                else:
                    running.append(pending)
            if running:
                self._running = running
                self._execute(running)
            # The next wait may be long; do not keep the tensors alive.
            del batch, pending, running
            self._running = []
        with self._answered:
            self._answered.wait_for(lambda: not self._late)
        self._executor.unload()
        self._executor.finish()

    def _warm_up(self) -> None:
        """Execute the samples of the configuration; LoadError if one fails."""
        directory = self.spec.model_directory or self.spec.model_file.parent.parent
        # The queue knows nothing of these requests.
        self._scheduler = Unscheduled()
        try:
            WarmUp(self._config, directory, self.name).run(self._execute_sample, self._clock)
        except BaseException:
            self._executor.unload()
            raise
        finally:
            self._scheduler = self._queue

    def _execute_sample(self, batch: list[Pending]) -> None:
        for pending in batch:
            pending.answer.executor = self.host
        self._running = batch
        self._execute(batch)
        self._running = []

    def _execute(self, batch: list[Pending]) -> None:
        again: Collection[Pending] = ()
        try:
            again = self._process(batch)
        except BaseException as error:  # noqa: BLE001 - clients must not wait for ever
            self._server.log.note(LogLevel.ERROR, f"defect of triton_stub: {error!r}")
            defect = InferenceError(
                f"triton_stub failed to execute this request: {error!r}. This is a defect of "
                "triton_stub, not of the model."
            )
            defect.__cause__ = error
            self.refuse(batch, defect)
            for pending in batch:
                self._scheduler.release(pending)
        # By now the model alone has the senders of these.
        for pending in batch:
            if not (pending.answer.closed or pending.is_null or pending in again):
                self._wait_for(pending)

    def _process(self, batch: list[Pending]) -> Collection[Pending]:
        """Execute and answer requests; those that are to be executed again."""
        start = self._clock.now()
        done = self._executor.execute(batch)
        times = BatchTimes(start, done.infer_start, done.infer_end, self._clock.now())
        counted, null_rows = [], 0
        for pending in batch:
            pending.answer.times = times
            if pending.is_null:
                null_rows += pending.batch_size
            else:
                counted.append((pending.batch_size, pending.enqueued))
        # Counted before anybody is answered, so that a client that looks finds its own request.
        self._statistics.count(
            counted, times, success=done.success, null_rows=null_rows, lost=done.lost
        )
        again: list[Pending] = []
        for pending in batch:
            sender = done.rescheduled.get(pending)
            if sender is None:
                self._scheduler.release(pending)
            elif self._reschedule(pending, sender):
                again.append(pending)
        bells = []
        try:
            for pending, answer in zip(batch, done.answers, strict=True):
                if (trace := pending.answer.trace) is not None:
                    trace.served(answer, times, ended=pending not in again)
                if answer is not None:
                    bells.append(pending.answer.add(answer))
        finally:
            # Last of all: a thread that waits for its answer runs at once when it is woken.
            for bell in bells:
                if bell is not None:
                    bell.ring()
        return again

    def _reschedule(self, pending: Pending, sender: Sender) -> bool:
        """Have a request executed again; False if that is not to be."""
        if self._scheduler.is_iterative and sender.closed:
            text = "a request was rescheduled after its final response"
            instead = "Do one of the two."
            self._executor.die(deviations.RESCHEDULED_AFTER_END.text(text, instead))
            self._scheduler.release(pending)
            return False
        reason = self._scheduler.reschedule(pending)
        if reason:
            self._server.log.note(LogLevel.ERROR, f"Failed to release request: {reason}")
        sender.drop(self._scheduler.instead(pending) if reason else "")
        return not reason

    def _wait_for(self, pending: Pending) -> None:
        """Do not finalize the model before it has answered this request."""
        with self._answered:
            self._late.add(pending)
        pending.answer.when_closed(lambda: self._was_answered(pending))

    def _was_answered(self, pending: Pending) -> None:
        with self._answered:
            if pending in self._late:
                self._late.remove(pending)
                self._answered.notify_all()


def _executor(
    spec: InstanceSpec, conversion: Conversion, host: InstanceHost, server: ServerHost
) -> Executor:
    if server.isolation == "process":
        return ProcessExecutor(spec, conversion, host, server)
    executor = ThreadExecutor(spec, conversion, host, server.clock)
    host.is_alone = executor.instance.activity.is_alone
    return executor
