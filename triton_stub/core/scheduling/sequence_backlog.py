"""Sequences that wait for a slot, in the order in which they began.

Source: core ``src/sequence_batch_scheduler/``.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

from triton_stub.core.request import SEQUENCE_END

if TYPE_CHECKING:
    from collections.abc import Callable

    from triton_stub.core.clock import Clock
    from triton_stub.core.scheduling.scheduler import Pending


class Waiting:
    """The requests of a sequence so far; ``expires`` is in nanoseconds of the clock, or None."""

    __slots__ = ("expires", "queue")

    def __init__(self) -> None:
        self.queue: deque[Pending] = deque()
        self.expires: int | None = None

    def add(self, pending: Pending, now: int) -> None:
        """Add a request; the shortest timeout of all is that of the sequence."""
        self.queue.append(pending)
        if timeout := pending.request.timeout:
            expires = now + timeout * 1000
            self.expires = expires if self.expires is None else min(self.expires, expires)


class Backlog:
    """The sequences that wait. Whoever calls holds ``lock``.

    ``expired`` gets those that have waited for longer than a request of theirs allows. They do not
    wait for anybody to call: while there is a timeout, a thread looks at the time, which calls
    ``answer`` without the lock.
    """

    def __init__(
        self,
        lock: threading.Lock,
        clock: Clock,
        expired: Callable[[Waiting], None],
        answer: Callable[[], None],
    ) -> None:
        self._clock = clock
        self._answer = answer
        self._expired = expired
        self._queue: deque[Waiting] = deque()
        # Those that still grow: a sequence whose end has come is followed by one of its own.
        self._growing: dict[int | str, Waiting] = {}
        self._changed = threading.Condition(lock)
        clock.attend(self._changed)
        self._watcher: threading.Thread | None = None

    def __len__(self) -> int:
        return len(self._queue)

    def find(self, sequence: int | str) -> Waiting | None:
        """The sequence of this id that waits, and has not ended."""
        return self._growing.get(sequence)

    def put(self, sequence: int | str, pending: Pending, now: int) -> None:
        """Add a request to its sequence, or have a new one wait."""
        waiting = self._growing.get(sequence)
        if waiting is None:
            waiting = self._growing[sequence] = Waiting()
            self._queue.append(waiting)
        waiting.add(pending, now)
        if pending.flags & SEQUENCE_END:
            del self._growing[sequence]
        if waiting.expires is not None:
            self._watch()

    def pop(self) -> Waiting | None:
        """Take the sequence that has waited for the longest time; None if none waits."""
        if not self._queue:
            return None
        waiting = self._queue.popleft()
        if waiting.expires is not None:
            self._changed.notify()  # the thread would look at the time for this one
        if not waiting.queue[-1].flags & SEQUENCE_END:
            self._growing.pop(waiting.queue[-1].correlation_id, None)
        return waiting

    def expire(self, now: int) -> int | None:
        """Forget what has waited for too long; when the next one will have, None if none does."""
        for waiting in [each for each in self._queue if each.expires and each.expires <= now]:
            self._queue.remove(waiting)
            sequence = waiting.queue[0].correlation_id
            growing = self._growing.get(sequence)
            if growing is not None and growing.expires and growing.expires <= now:
                del self._growing[sequence]
            self._expired(waiting)
        return min((each.expires for each in self._queue if each.expires), default=None)

    def drain(self) -> list[Pending]:
        """Forget every sequence: their requests."""
        left = [pending for waiting in self._queue for pending in waiting.queue]
        self._queue.clear()
        self._growing.clear()
        self._changed.notify()
        return left

    def _watch(self) -> None:
        if self._watcher is None:
            self._watcher = threading.Thread(
                target=self._expire_in_time, name="sequence timeouts", daemon=True
            )
            self._watcher.start()
        else:
            self._changed.notify()

    def _expire_in_time(self) -> None:
        seen, is_over = None, False
        while not is_over:
            with self._changed:
                soonest = self.expire(self._clock.now())
                is_over = soonest is None
                if soonest is None:
                    self._watcher = None
                elif soonest == seen:
                    self._clock.wait(self._changed, max(1, soonest - self._clock.now()))
                seen = soonest
            self._answer()
