"""The sequence batcher: requests of one sequence go to one instance, one after the other.

Source: core ``src/sequence_batch_scheduler/``. A sequence has a slot of an instance from its first
request to its last, and waits in the backlog until one is free. How requests of several slots
become a batch is up to a strategy, ``sequence_direct`` or ``sequence_oldest``.
"""

from __future__ import annotations

import ctypes
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

from triton_stub import deviations
from triton_stub.core.clock import Clock
from triton_stub.core.request import SEQUENCE_END, SEQUENCE_START
from triton_stub.core.scheduling.hold import Holding
from triton_stub.core.scheduling.scheduler import NOT_HANDLED
from triton_stub.core.scheduling.sequence_backlog import Backlog, Waiting
from triton_stub.core.scheduling.sequence_controls import Extras
from triton_stub.core.scheduling.sequence_direct import null_request
from triton_stub.core.scheduling.sequence_lanes import Lanes
from triton_stub.errors import InferenceError, StatusCode
from triton_stub.pb_utils.logger import LogLevel

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from triton_stub.core.scheduling.batch_policy import BatchPolicy
    from triton_stub.core.scheduling.scheduler import Pending
    from triton_stub.core.scheduling.sequence_slots import Slot
    from triton_stub.core.tensor import Tensor

# What identifies a sequence: 5 and "5" are two.
SequenceId = int | str
# So often the server looks again for an idle sequence that has no slot yet.
_BACKLOG_IDLE_NS = 50_000_000


class SequenceBatcher(Holding):
    """The sequences of one model, and the slots of its instances.

    ``drop`` answers a request that is not executed, ``note`` writes into the server's log.
    """

    def __init__(
        self,
        config: Any,
        policy: BatchPolicy,
        instances: int,
        *,
        drop: Callable[[Pending, InferenceError], None],
        note: Callable[[LogLevel, str], None] = lambda _level, _text: None,
        clock: Clock | None = None,
    ) -> None:
        batching = config.sequence_batching
        self.is_iterative: bool = batching.iterative_sequence
        self._name: str = config.name
        self._clock = clock or Clock()
        self._drop = drop
        self._note = note
        # With a sign, as the server takes it: from half of the numbers on, nothing is waited for.
        idle = ctypes.c_int64(batching.max_sequence_idle_microseconds).value
        self._idle_ns: int = idle * 1000
        self._is_oldest: bool = batching.HasField("oldest")
        self._extras = Extras(config)
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        # Requests to answer as soon as nobody holds the lock: who hears of it may send the next.
        self._skipped: list[tuple[Pending, InferenceError]] = []
        self._lanes = Lanes(
            config,
            policy,
            self._extras,
            self._lock,
            self._clock,
            release=self._release,
            cancel=self._cancel,
        )
        self._lanes.add(range(instances))
        # Sequences that go on, by where they are, and when the last request of one came, in the
        # order of these times.
        self._slots: dict[SequenceId, Slot] = {}
        self._backlog = Backlog(self._lock, self._clock, self._expire, self._answer_skipped)
        self._seen: dict[SequenceId, int] = {}
        self._count = 0
        self._closed = self._drained = False

    def begin_with(self, states: Sequence[Tensor]) -> None:
        """The states of every sequence, see ``sequence_states.initial``."""
        self._extras.states = states

    def put(self, pending: Pending) -> None:
        """Queue a request; InferenceError if it belongs to no sequence, and after ``close``."""
        if pending.batch_size > 1:
            self._refuse(
                f"inference request to model '{self._name}' must specify batch-size 1 due to "
                "requirements of sequence batcher"
            )
        with self._guarded():
            if not pending.correlation_id:
                self._begin_own(pending)
            elif self.is_iterative and self._is_oldest and pending.flags & SEQUENCE_END:
                self._refuse(
                    deviations.ITERATIVE_END.text(
                        f"a request to model '{self._name}' ends a sequence",
                        "Leave the END flag out: an iterative sequence ends when its request is "
                        "answered.",
                    )
                )
            if self._closed:
                raise InferenceError(
                    "Server is stopping, scheduler for model has stopped accepting new inference "
                    "requests",
                    StatusCode.UNAVAILABLE,
                )
            self._enqueue(pending)
            self._note_queued()

    def put_batch(self, batch: Sequence[Pending]) -> None:
        """Queue requests; which are executed together, only the slots tell."""
        if len(batch) > 1:
            self._refuse(
                f"model '{self._name}' has sequence_batching: which requests are executed together "
                "depends on the slots of their sequences. Send them one by one"
            )
        self.put(batch[0])

    def next_batch(self, instance: int = 0) -> list[Pending] | None:
        """Wait for the next batch; None when this is closed and nothing is left to do."""
        with self._lock:
            lane = self._lanes[instance]
        strategy = lane.strategy
        while True:
            with self._guarded():
                now = self._clock.now()
                until_idle = self._end_idle(now)
                batch: list[Pending] = []
                wait_ns = 0
                if self._held is None:
                    batch, wait_ns = strategy.form(now, at_once=self._closed)
                # Requests that may come again are those that this instance executes, and asking
                # means that it executes none.
                is_over = self._closed and not wait_ns and self._is_done(instance)
                is_over = is_over or (not batch and self._lanes.has_left(instance))
                if not batch and not is_over and not self._skipped:
                    waits = [ns for ns in (wait_ns, until_idle) if ns]
                    self._clock.wait(lane.wake, min(waits, default=None))
            if batch:
                return batch
            if is_over:
                return None

    def update(self, added: Collection[int], removed: Collection[int]) -> None:
        """Have other instances; those ``removed`` go on with the sequences that they have."""
        with self._lock:
            self._lanes.update(added, removed)

    def discard(self, instances: Collection[int]) -> None:
        """These instances, which were not added, may end."""
        with self._lock:
            self._lanes.discard(instances)

    def release(self, pending: Pending) -> None:
        """A request has been executed for the last time."""
        with self._guarded():
            if pending.is_null or self._drained:
                return
            self._complete(pending)
            if not self._is_repeated(pending) or pending.answer.cancelled:
                # An iterative sequence that was cancelled keeps its slot until it is idle.
                return
            # As the server ends it: by a request of its own, which is cancelled from the start.
            end = null_request(pending.request, pending.validated)
            end.correlation_id, end.flags = pending.correlation_id, SEQUENCE_END
            end.enqueued = self._clock.now()
            end.answer.cancel()
            slot = self._slots.get(pending.correlation_id)
            try:
                self._enqueue(end)
            except InferenceError as error:
                self._note(LogLevel.ERROR, f"{error.code.label}: {error.message}")
            if slot is not None:
                self._lanes[slot.instance].strategy.settle()

    def reschedule(self, pending: Pending) -> str:
        """Execute a request again; why not, in the server's words, if it cannot be."""
        if pending.is_null:
            return NOT_HANDLED
        with self._guarded():
            if self._drained:
                return ""  # given up
            self._complete(pending)
            if not self._is_repeated(pending):
                return NOT_HANDLED
            pending.flags = 0
            pending.enqueued = self._clock.now()
            try:
                self._enqueue(pending)
            except InferenceError as error:
                return error.message
            return ""

    def instead(self, pending: Pending) -> str:
        """What the client of a request gets that cannot be executed again."""
        if not self._is_repeated(pending):
            return deviations.NO_RESCHEDULE.text(
                "the model asks for this request to be rescheduled, which the server does only "
                "with `sequence_batching { iterative_sequence: true }`, and not with the END flag",
                "Answer the request, or configure that.",
            )
        return deviations.IDLE_SEQUENCE.text(
            f"request {pending.correlation_id} of the iterative model '{self._name}' is rescheduled"
            f" later than max_sequence_idle_microseconds, {self._idle_ns // 1000}, after it came, "
            "or was rescheduled the last time, or when its sequence has ended",
            "Raise that number, or execute in smaller steps.",
        )

    def close(self) -> None:
        """Take no more requests; those in the queue are still executed."""
        with self._guarded():
            self._closed = True
            self._held = None
            if self._ends_all:
                self._force_end(list(self._slots))
            self._go_on()

    def drain(self) -> list[Pending]:
        """Forget every request: those that nobody will execute."""
        with self._lock:
            self._drained = True
            left = self._backlog.drain()
            for lane in self._lanes:
                left += lane.strategy.drain()
            for slot in (slot for lane in self._lanes for slot in lane.slots):
                left += [pending for pending in slot.queue if pending is not None]
                slot.queue.clear()
            self._slots.clear()
            self._seen.clear()
            self._go_on()
            return left

    def _begin_own(self, pending: Pending) -> None:
        if not self.is_iterative:
            self._refuse(
                f"inference request to model '{self._name}' must specify a non-zero or non-empty "
                "correlation ID"
            )
        self._count += 1
        pending.correlation_id, pending.flags = self._count, SEQUENCE_START

    def _is_repeated(self, pending: Pending) -> bool:
        # Of an iterative model the client's last request of a sequence is as any other model's.
        return self.is_iterative and not pending.flags & SEQUENCE_END

    def _enqueue(self, pending: Pending) -> None:
        """Put a request where its sequence is; InferenceError if there is no such sequence."""
        now = self._clock.now()
        self._end_idle(now)
        sequence, flags = pending.correlation_id, pending.flags
        slot, waiting = self._slots.get(sequence), self._backlog.find(sequence)
        is_known = slot is not None or waiting is not None
        if not (is_known or flags & SEQUENCE_START):
            self._refuse(
                f"inference request for sequence {sequence} to model '{self._name}' must specify "
                "the START flag on the first request of the sequence"
            )
        self._seen.pop(sequence, None)
        self._seen[sequence] = now
        if is_known and flags & SEQUENCE_START:
            self._note(
                LogLevel.WARNING,
                f"sequence {sequence} for model '{self._name}' has a conflict. The previous "
                "sequence did not end before this sequence start. Previous sequence will be "
                "terminated early.",
            )
        if slot is None and waiting is None:
            slot = self._lanes.take()
        if slot is None:
            self._backlog.put(sequence, pending, now)
            return
        if flags & SEQUENCE_END:
            self._slots.pop(sequence, None)
        else:
            self._slots[sequence] = slot
        lane = self._lanes[slot.instance]
        lane.strategy.enqueue(slot, pending)
        lane.wake.notify()

    def _complete(self, pending: Pending) -> None:
        for lane in self._lanes:
            lane.strategy.complete(pending)

    @property
    def _ends_all(self) -> bool:
        """True if nobody can go on with a sequence, and the backlog waits for its slot."""
        return self._closed and not self.is_iterative

    def _release(self, slot: Slot) -> None:
        """A slot's sequence is over; what is left in its queue is cancelled."""
        if slot.queue and slot.queue[0] is not None:
            sequence = slot.queue[0].correlation_id
            self._slots.pop(sequence, None)
            self._seen.pop(sequence, None)
        while slot.queue:
            left = slot.queue.popleft()
            if left is not None:
                self._cancel(left)
        if self._lanes.retire(slot):
            return
        while (waiting := self._backlog.pop()) is not None:
            if any(pending.answer.cancelled for pending in waiting.queue):
                for pending in waiting.queue:
                    self._cancel(pending)
                continue
            slot.queue.extend(waiting.queue)
            last = waiting.queue[-1]
            if not last.flags & SEQUENCE_END:
                if self._ends_all:
                    slot.queue.append(None)
                else:
                    self._slots[last.correlation_id] = slot
            if self._closed:
                self._go_on()
            return
        self._lanes.give_back(slot)
        if self._closed:
            self._go_on()

    def _end_idle(self, now: int) -> int:
        """Forget the sequences that are idle; nanoseconds until the next one may be, 0 if none."""
        self._backlog.expire(now)
        idle: list[SequenceId] = []
        soonest = 0
        for sequence, since in self._seen.items():
            left = since + self._idle_ns - now
            if left > 0:
                soonest = min(left, soonest or left)
                break
            if sequence not in self._slots and self._backlog.find(sequence):
                soonest = _BACKLOG_IDLE_NS
            else:
                idle.append(sequence)
        for sequence in idle:
            del self._seen[sequence]
        self._force_end([sequence for sequence in idle if sequence in self._slots])
        return soonest

    def _force_end(self, sequences: Sequence[SequenceId]) -> None:
        for sequence in sequences:
            slot = self._slots.pop(sequence)
            lane = self._lanes[slot.instance]
            lane.strategy.enqueue(slot, None)
            lane.wake.notify()

    def _is_done(self, instance: int) -> bool:
        """True if nothing is queued for an instance, and nothing of the backlog will be."""
        if not self._lanes[instance].strategy.is_idle():
            return False
        has_sequence = any(slot.instance == instance for slot in self._slots.values())
        return not (has_sequence and self._backlog)

    def _expire(self, waiting: Waiting) -> None:
        """Answer the requests of a sequence that has waited for too long."""
        text = "timeout of the corresponding sequence has been expired"
        self._skipped += [
            (pending, InferenceError(text, StatusCode.UNAVAILABLE)) for pending in waiting.queue
        ]

    def _cancel(self, pending: Pending) -> None:
        self._skipped.append((pending, InferenceError("", StatusCode.CANCELLED)))

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Hold the lock, and answer afterwards what is not executed."""
        try:
            with self._lock:
                yield
        finally:
            self._answer_skipped()

    def _answer_skipped(self) -> None:
        if not self._skipped:
            return
        with self._lock:
            skipped, self._skipped = self._skipped, []
        for pending, error in skipped:
            self._drop(pending, error)

    def _go_on(self) -> None:
        self._lanes.notify_all()

    @staticmethod
    def _refuse(message: str) -> NoReturn:
        raise InferenceError(message, StatusCode.INVALID_ARG)
