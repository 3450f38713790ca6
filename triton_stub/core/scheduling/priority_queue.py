"""What waits in a dynamic batcher, in the order in which it is to be executed.

Source: core ``src/scheduler_utils.cc``, ``PriorityQueue``.
"""

from __future__ import annotations

from bisect import insort
from typing import TYPE_CHECKING, Any, Self

from triton_stub.core.scheduling.queue_policy import LevelQueue, QueuePolicy

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from triton_stub.core.scheduling.scheduler import Pending
    from triton_stub.errors import InferenceError


class PriorityQueue:
    """A queue for each priority, 1 before 2; without ``priority_levels`` there is one for all.

    ``skipped`` has the requests that are not executed, and their answers: whoever uses the queue
    empties it.
    """

    def __init__(
        self,
        default: QueuePolicy | None = None,
        *,
        levels: int = 0,
        default_level: int = 0,
        policies: Mapping[int, QueuePolicy] | None = None,
    ) -> None:
        self._highest = levels
        self._default_level = default_level
        self._default = default or QueuePolicy()
        self._policies = policies or {}
        #: True if batches may be formed before an instance is free.
        self.is_prefetched = not levels and self._default.is_free
        #: True if the passing of time alone may answer a request.
        self.has_deadlines = any(
            policy.timeout_ns and not policy.delays
            for policy in (self._default, *self._policies.values())
        )
        #: How many rows the requests have in all.
        self.rows = 0
        self.skipped: list[tuple[Pending, InferenceError]] = []
        self._levels: dict[int, LevelQueue] = {}
        self._order: list[int] = []
        self._size = 0
        # How many requests at the head have been looked at, and until when they need not be again.
        self._seen = 0
        self._seen_until = 0

    def __len__(self) -> int:
        return self._size

    @classmethod
    def of(cls, batching: Any) -> Self:
        """The queue that ``dynamic_batching`` asks for."""
        return cls(
            QueuePolicy.of(batching.default_queue_policy),
            levels=batching.priority_levels,
            default_level=batching.default_priority_level,
            policies={
                level: QueuePolicy.of(policy)
                for level, policy in batching.priority_queue_policy.items()
            },
        )

    @property
    def closest_deadline(self) -> int:
        """The first deadline of the requests that ``candidates`` has given; 0 if there is none."""
        return self._seen_until

    def put(self, pending: Pending) -> None:
        """Add a request; InferenceError if its level is full."""
        level = pending.request.priority if self._highest else 0
        if level == 0 or level > self._highest:
            level = self._default_level
        queue = self._levels.get(level)
        if queue is None:
            queue = self._levels[level] = LevelQueue(self._policies.get(level, self._default))
            insort(self._order, level)
        queue.put(pending)
        self._size += 1
        self.rows += pending.batch_size
        if self._seen_until:
            before = sum(len(self._levels[other]) for other in self._order if other < level)
            if before + queue.fresh <= self._seen:
                self._forget()

    def candidates(self, now: int) -> Iterator[Pending]:
        """The requests in their order, each looked at when its turn comes.

        Those that were given the last time are not looked at again before one of them is late:
        without a deadline the server looks at all of them each time.
        """
        if now >= self._seen_until:
            self._forget()
        known, self._seen = self._seen, 0
        position = 0
        for level in self._order:
            queue = self._levels[level]
            index = 0
            while position < known or self._settle(queue, index, now):
                if index == len(queue):
                    break
                pending, deadline = queue.at(index)
                yield pending
                # Whoever asks on has taken it into the batch.
                index += 1
                position += 1
                self._seen = position
                if deadline:
                    self._seen_until = min(self._seen_until or deadline, deadline)

    def take(self, count: int) -> list[Pending]:
        """Remove so many requests from the head."""
        self._forget()
        self._size -= count
        taken: list[Pending] = []
        for level in self._order:
            queue = self._levels[level]
            while queue and len(taken) < count:
                taken.append(queue.pop())
        self.rows -= sum(pending.batch_size for pending in taken)
        return taken

    def reject_late(self, now: int) -> None:
        """Take out what is to be rejected, wherever it is."""
        for queue in self._levels.values():
            if late := queue.reject_late(now):
                self._forget()
                self._skip(late)

    def first_rejection(self) -> int | None:
        """When the first request is to be rejected."""
        times = (queue.first_rejection() for queue in self._levels.values())
        return min((time for time in times if time is not None), default=None)

    def _settle(self, queue: LevelQueue, index: int, now: int) -> bool:
        skipped: list[tuple[Pending, InferenceError]] = []
        is_there = queue.settle(index, now, skipped)
        if skipped:
            self._skip(skipped)
        return is_there

    def _skip(self, skipped: list[tuple[Pending, InferenceError]]) -> None:
        self._size -= len(skipped)
        self.rows -= sum(pending.batch_size for pending, _ in skipped)
        self.skipped += skipped

    def _forget(self) -> None:
        self._seen = self._seen_until = 0
