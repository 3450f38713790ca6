"""The oldest strategy: of each sequence one request at a time goes through a dynamic batcher.

Source: core ``src/sequence_batch_scheduler/``, ``OldestSequenceBatch``.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from triton_stub.core.request import SEQUENCE_END

if TYPE_CHECKING:
    from collections.abc import Callable

    from triton_stub.core.clock import Clock
    from triton_stub.core.scheduling.batch_policy import BatchPolicy
    from triton_stub.core.scheduling.scheduler import Pending
    from triton_stub.core.scheduling.sequence_controls import Extras
    from triton_stub.core.scheduling.sequence_slots import Slot


class OldestStrategy:
    """The slots of one instance. Whoever calls holds the scheduler's lock.

    ``release`` gives a slot that its sequence has left to the next one; ``cancel`` answers a
    request that is cancelled while it waits for others to make a batch with.
    """

    def __init__(
        self,
        config: Any,
        policy: BatchPolicy,
        extras: Extras,
        release: Callable[[Slot], None],
        *,
        cancel: Callable[[Pending], None],
        clock: Clock,
    ) -> None:
        self._policy = policy
        self._extras = extras
        self._release = release
        self._cancel = cancel
        self._clock = clock
        self._waits: bool = config.sequence_batching.oldest.max_queue_delay_microseconds > 0
        self._queue: deque[Pending] = deque()
        # Of the requests that are in flight: their slot, and when the batcher got them.
        self._in_flight: dict[Pending, tuple[Slot, int]] = {}

    def enqueue(self, slot: Slot, pending: Pending | None) -> None:
        """Queue a request of a sequence, or with None its end."""
        slot.queue.append(pending)
        if not slot.in_flight:
            self._next(slot)

    def complete(self, pending: Pending) -> None:
        """A request has been executed: it is its sequence's turn again."""
        slot, _ = self._in_flight.pop(pending, (None, 0))
        if slot is not None:
            slot.in_flight = False
            self._next(slot)

    def settle(self) -> None:
        """Nothing: a slot is free as soon as its sequence is over."""

    def is_idle(self) -> bool:
        """True if nothing is queued; what waits in a slot waits for what is in flight."""
        return not self._queue

    def drain(self) -> list[Pending]:
        """Empty the queues, apart from those of the slots."""
        left = list(self._in_flight)
        self._queue.clear()
        self._in_flight.clear()
        return left

    def form(self, now: int, *, at_once: bool) -> tuple[list[Pending], int]:
        """The next batch, and how many nanoseconds to wait for one; ``at_once`` ends all delays."""
        queue = self._queue
        if self._waits:
            # Without a delay it is a batch, which is executed, as soon as it is queued.
            for pending in [each for each in queue if each.answer.cancelled]:
                queue.remove(pending)
                self._cancel(pending)
                self.complete(pending)
        if not queue:
            return [], 0
        # The delay counts from when the batcher got the request, not from when the server did.
        behind = self._in_flight[queue[0]][1] - queue[0].enqueued
        count, wait_ns = self._policy.plan(queue, now - behind)
        if at_once and not count:
            count = len(queue)
        return [queue.popleft() for _ in range(count)], wait_ns

    def _next(self, slot: Slot) -> None:
        """Send on the next request of a slot, if nothing of it is in flight."""
        while slot.queue and not slot.in_flight:
            head = slot.queue[0]
            if head is None:
                slot.queue.popleft()
                self._release(slot)
            elif head.answer.cancelled:
                self._release(slot)
            else:
                slot.queue.popleft()
                self._extras.add(head)
                slot.in_flight = True
                self._queue.append(head)
                self._in_flight[head] = (slot, self._clock.now())
                if head.flags & SEQUENCE_END:
                    self._release(slot)
