"""Requests that are executed again and again until they are answered: iterative sequences.

Source: core ``src/sequence_batch_scheduler/``. Each request is a sequence of its own. It has a slot
of an instance from its first execution to its last, and waits in the backlog until one is free.
Other sequences are not imitated yet.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Any

import numpy as np

from triton_stub import deviations
from triton_stub.core.clock import Clock
from triton_stub.core.request import InferenceRequest
from triton_stub.core.scheduler import NOT_HANDLED, Pending, refuse_late
from triton_stub.core.tensor import Tensor
from triton_stub.core.validation import ValidatedRequest
from triton_stub.errors import InferenceError, StatusCode

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from triton_stub.core.batcher import BatchPolicy

_START = 1


def unsupported(config: Any) -> list[str]:
    """What of ``sequence_batching`` a configuration asks for that is not imitated."""
    if not config.HasField("sequence_batching"):
        return []
    batching = config.sequence_batching
    if not batching.iterative_sequence:
        return ["sequence_batching without iterative_sequence"]
    asked = {
        "control_input": len(batching.control_input) > 0,
        "state": len(batching.state) > 0,
        "direct.max_queue_delay_microseconds": batching.direct.max_queue_delay_microseconds > 0,
        "direct.minimum_slot_utilization": batching.direct.minimum_slot_utilization > 0,
        "oldest.preserve_ordering": batching.oldest.preserve_ordering,
    }
    return [f"sequence_batching.{name}" for name, is_asked in asked.items() if is_asked]


class _Slot:
    __slots__ = ("instance", "taken", "waiting")

    def __init__(self, instance: int) -> None:
        self.instance = instance
        self.taken = False
        self.waiting: Pending | None = None  # to be executed next


class IterativeBatcher:
    """The sequences of one model, and the slots of its instances.

    ``drop`` answers a request that was cancelled before its next execution, or comes too late.
    ``ended`` is called whenever a sequence ends, with its last request.
    """

    is_iterative = True

    def __init__(
        self,
        config: Any,
        policy: BatchPolicy,
        instances: int,
        *,
        drop: Callable[[Pending, InferenceError], None],
        ended: Callable[[Pending], None],
        clock: Clock | None = None,
    ) -> None:
        batching = config.sequence_batching
        self._name: str = config.name
        self._policy = policy
        self._clock = clock or Clock()
        self._drop = drop
        self._ended = ended
        self._idle_ns: int = batching.max_sequence_idle_microseconds * 1000
        self._is_direct = not batching.HasField("oldest")
        count = batching.oldest.max_candidate_sequences or max(1, config.max_batch_size)
        self._slots = [[_Slot(instance) for _ in range(count)] for instance in range(instances)]
        # Of the oldest strategy: what is to be executed next, in the order in which it came.
        self._queues: list[deque[Pending]] = [deque() for _ in range(instances)]
        self._of: dict[Pending, _Slot] = {}
        self._backlog: deque[Pending] = deque()
        self._changed = threading.Condition()
        self._sequences = 0
        self._closed = False

    def put(self, pending: Pending) -> None:
        """Begin a sequence; InferenceError after ``close``, and for what is not imitated."""
        request = pending.request
        if pending.batch_size > 1:
            raise InferenceError(
                f"inference request to model '{self._name}' must specify batch-size 1 due to "
                "requirements of sequence batcher",
                StatusCode.INVALID_ARG,
            )
        if request.correlation_id or request.flags:
            raise InferenceError(
                f"model '{self._name}' is iterative, and this release of triton_stub does not "
                "imitate sequences that a client makes: send no correlation id",
                StatusCode.UNSUPPORTED,
            )
        with self._changed:
            if self._closed:
                refuse_late(pending)
            self._sequences += 1
            pending.correlation_id = self._sequences
            pending.flags = _START
            free = self._free_slot()
            if free is None:
                self._backlog.append(pending)
            else:
                self._occupy(free, pending)

    def put_batch(self, batch: Sequence[Pending]) -> None:
        """Begin sequences; which are executed together, only the slots tell."""
        if len(batch) > 1:
            raise InferenceError(
                f"model '{self._name}' is iterative: which requests are executed together depends "
                "on the slots of their sequences. Send them one by one",
                StatusCode.INVALID_ARG,
            )
        self.put(batch[0])

    def reschedule(self, pending: Pending) -> str:
        """Execute a request again; why not, in the server's words, if it cannot be."""
        if pending.is_null:
            return NOT_HANDLED
        with self._changed:
            if pending not in self._of:
                return ""  # given up
            if pending.answer.cancelled:
                self._cancel(pending)
                self._leave(pending)
                return ""
            if self._clock.now() - pending.enqueued >= self._idle_ns:
                self._leave(pending)
                return (
                    f"inference request for sequence {pending.correlation_id} to model "
                    f"'{self._name}' must specify the START flag on the first request of the "
                    "sequence"
                )
            pending.flags = 0
            pending.enqueued = self._clock.now()
            self._occupy(self._of[pending], pending)
            return ""

    def instead(self, pending: Pending) -> str:
        """What the client of a request gets that cannot be executed again."""
        return deviations.IDLE_SEQUENCE.text(
            f"request {pending.correlation_id} of the iterative model '{self._name}' is rescheduled"
            f" later than max_sequence_idle_microseconds, {self._idle_ns // 1000}, after it came, "
            "or was rescheduled the last time",
            "Raise that number, or execute in smaller steps.",
        )

    def release(self, pending: Pending) -> None:
        """A request has been executed for the last time."""
        with self._changed:
            if not pending.is_null:
                self._ended(pending)
                self._leave(pending)

    def next_batch(self, instance: int = 0) -> list[Pending] | None:
        """Wait for the next batch; None when this is closed and nothing is left to do."""
        with self._changed:
            while True:
                batch, wait_ns = self._direct(instance) if self._is_direct else self._old(instance)
                if batch:
                    return batch
                # Requests that may come again are those that this instance executes, and asking
                # means that it executes none.
                if self._closed and not wait_ns:
                    return None
                self._clock.wait(self._changed, wait_ns or None)

    def close(self) -> None:
        """Take no more requests; sequences that have begun go on to their end."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def drain(self) -> list[Pending]:
        """Forget every request: those that nobody will execute."""
        with self._changed:
            left = [*self._of, *self._backlog]
            self._of.clear()
            self._backlog.clear()
            for slot in (slot for slots in self._slots for slot in slots):
                slot.taken, slot.waiting = False, None
            for queue in self._queues:
                queue.clear()
            return left

    def _free_slot(self) -> _Slot | None:
        # The lowest of any instance.
        return next(
            (slot for row in zip(*self._slots, strict=True) for slot in row if not slot.taken), None
        )

    def _occupy(self, slot: _Slot, pending: Pending) -> None:
        slot.taken = True
        self._of[pending] = slot
        if self._is_direct:
            slot.waiting = pending
        else:
            self._queues[slot.instance].append(pending)
        self._changed.notify_all()

    def _leave(self, pending: Pending) -> None:
        """Give a request's slot to the next of the backlog."""
        slot = self._of.pop(pending, None)
        if slot is None:
            return  # given up, and drained
        slot.taken = False
        while self._backlog and not slot.taken:
            following = self._backlog.popleft()
            waited_us = (self._clock.now() - following.enqueued) // 1000
            if following.answer.cancelled:
                self._cancel(following)
            elif 0 < following.request.timeout <= waited_us:
                text = "timeout of the corresponding sequence has been expired"
                self._drop(following, InferenceError(text, StatusCode.UNAVAILABLE))
            else:
                self._occupy(slot, following)
        self._changed.notify_all()

    def _cancel(self, pending: Pending) -> None:
        self._drop(pending, InferenceError("", StatusCode.CANCELLED))

    def _direct(self, instance: int) -> tuple[list[Pending], int]:
        """A batch in the order of the slots; null requests are in the gaps between them."""
        slots = self._slots[instance]
        for slot in slots:
            if slot.waiting and slot.waiting.answer.cancelled:
                cancelled, slot.waiting = slot.waiting, None
                self._cancel(cancelled)
                self._leave(cancelled)
        ready = [number for number, slot in enumerate(slots) if slot.waiting]
        if not ready:
            return [], 0
        first = slots[ready[0]].waiting
        assert first is not None
        batch: list[Pending] = []
        for slot in slots[: ready[-1] + 1]:
            pending = slot.waiting
            if pending is None or self._policy.group(pending) != self._policy.group(first):
                batch.append(_null(first))
            else:
                slot.waiting = None
                batch.append(pending)
        return batch, 0

    def _old(self, instance: int) -> tuple[list[Pending], int]:
        """A batch of those that wait the longest, and how many nanoseconds to wait for one."""
        queue = self._queues[instance]
        if not queue:
            return [], 0
        count, wait_ns = self._policy.plan(queue, self._clock.now())
        if self._closed and not count:
            count = len(queue)
        return [queue.popleft() for _ in range(count)], wait_ns


def _null(like: Pending) -> Pending:
    """A request that only fills a slot: inputs of the same shapes, and no outputs."""
    inputs = [_zeros(tensor) for tensor in like.validated.inputs]
    request = InferenceRequest(model_name=like.request.model_name, inputs=inputs)
    validated = ValidatedRequest(like.validated.batch_size, inputs, frozenset())
    return Pending(request, validated, is_null=True)


def _zeros(tensor: Tensor) -> Tensor:
    array = tensor.to_numpy()
    zeros = np.full(array.shape, b"", object) if array.dtype == object else np.zeros_like(array)
    return Tensor.from_numpy(tensor.name, zeros)
