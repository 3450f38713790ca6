"""The default scheduler: without dynamic batching, one request at a time, in the order they came.

Source: core ``src/dynamic_batch_scheduler.cc``, which hands such requests on without a batcher.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections import defaultdict, deque
from typing import TYPE_CHECKING

from triton_stub.core.mailbox import Mailbox
from triton_stub.core.scheduling.scheduler import OnceScheduler

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from triton_stub.core.bell import Bell, LockBell
    from triton_stub.core.scheduling.batch_policy import BatchPolicy
    from triton_stub.core.scheduling.scheduler import Pending

_LOOKS_AGAIN = 1.0  # seconds


class DefaultScheduler(OnceScheduler):
    """A queue that gives each request to the instance that has been idle for longest.

    Instances wait in C, each for itself: with a small model the way from thread to thread is most
    of what a request costs.
    """

    def __init__(self, policy: BatchPolicy) -> None:
        super().__init__(policy)
        # What no instance is idle for, and who is; one of the two is empty. None is the end.
        self._waiting: deque[list[Pending]] = deque()
        self._idle: deque[Mailbox[list[Pending] | None]] = deque()
        self._own: defaultdict[int, Mailbox[list[Pending] | None]] = defaultdict(Mailbox)
        self._removed: set[int] = set()
        self._collected: list[list[Pending]] = []
        self._closing = threading.Lock()
        self._changed = threading.Condition(self._closing)

    def put(self, pending: Pending) -> None:
        """Queue one request; InferenceError after ``close``."""
        with self._closing:
            self._refuse_if_closed(pending)
            if self._held is not None:
                self._collected.append([pending])
                self._note_queued()
                return
            bell = self._give([pending])
        if bell is not None:  # without the lock: it runs at once
            bell.ring()

    def put_batch(self, batch: Sequence[Pending]) -> None:
        """The same; InferenceError if there is more than one."""
        self._check(batch)
        self.put(batch[0])

    def next_batch(self, instance: int = 0) -> list[Pending] | None:
        """Wait for the next request; None when the queue is closed and nothing is left to do."""
        with self._closing:
            if self._waiting:
                return self._waiting.popleft()
            if self._closed or instance in self._removed:
                self._removed.discard(instance)
                self._own.pop(instance, None)
                return None
            own = self._own[instance]
            if own not in self._idle:
                self._idle.append(own)
        while True:
            # Whoever had something for this instance may have been interrupted, by Ctrl-C say,
            # before the ring.
            with contextlib.suppress(queue.Empty):
                return own.get(_LOOKS_AGAIN)

    def close(self) -> None:
        """Take no more requests; those in the queue are still executed, also if they are held."""
        with self._closing:
            if not self._closed:
                self._held = None
                self._go_on()
                self._closed = True
                while self._idle:
                    self._idle.popleft().put(None)

    def update(self, added: Collection[int], removed: Collection[int]) -> None:  # noqa: ARG002
        """Have other instances; those ``removed`` end as soon as nothing waits.

        Until then they execute what comes, as on the server. Whoever asks is an instance.
        """
        with self._closing:
            for instance in removed:
                own = self._own[instance]
                if own in self._idle:
                    self._idle.remove(own)
                    del self._own[instance]
                    own.put(None)
                else:
                    self._removed.add(instance)

    def discard(self, instances: Collection[int]) -> None:
        """These instances may end."""
        self.update((), instances)

    def drain(self) -> list[Pending]:
        """Empty the queue, which is closed: the requests that nobody will execute."""
        with self._closing:
            left = [pending for batch in self._waiting for pending in batch]
            self._waiting.clear()
        return left

    def _give(self, batch: list[Pending]) -> Bell | LockBell | None:
        """To an instance or to the queue; the bell that is to be rung for it.

        An interrupt in between must not leave an instance that is neither idle nor busy.
        """
        if not self._idle:
            self._waiting.append(batch)
            return None
        bell = self._idle[0].add(batch)
        self._idle.popleft()
        return bell

    def _go_on(self) -> None:
        for batch in self._collected:
            if (bell := self._give(batch)) is not None:
                bell.ring()
        self._collected.clear()
