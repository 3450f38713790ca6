"""The default scheduler: without dynamic batching, one request at a time, in the order they came.

Source: core ``src/dynamic_batch_scheduler.cc``, which hands such requests on without a batcher.
"""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING

from triton_stub.core.scheduler import OnceScheduler

if TYPE_CHECKING:
    from collections.abc import Sequence

    from triton_stub.core.batch_policy import BatchPolicy
    from triton_stub.core.scheduler import Pending


class DefaultScheduler(OnceScheduler):
    """A queue that lets an instance wait in C.

    With a small model the way from thread to thread is most of what a request costs.
    """

    def __init__(self, policy: BatchPolicy) -> None:
        super().__init__(policy)
        # None is the end, for whichever instance comes next.
        self._waiting: queue.SimpleQueue[list[Pending] | None] = queue.SimpleQueue()
        self._collected: list[list[Pending]] = []
        self._closing = threading.Lock()
        self._changed = threading.Condition(self._closing)

    def put(self, pending: Pending) -> None:
        """Queue one request; InferenceError after ``close``."""
        with self._closing:
            self._refuse_if_closed(pending)
            if self._held is None:
                self._waiting.put([pending])
            else:
                self._collected.append([pending])
                self._note_queued()

    def put_batch(self, batch: Sequence[Pending]) -> None:
        """The same; InferenceError if there is more than one."""
        self._check(batch)
        self.put(batch[0])

    def next_batch(self, instance: int = 0) -> list[Pending] | None:  # noqa: ARG002 - another's
        """Wait for the next request; None when the queue is closed and nothing is left to do."""
        batch = self._waiting.get()
        if batch is None:
            self._waiting.put(None)
        return batch

    def close(self) -> None:
        """Take no more requests; those in the queue are still executed, also if they are held."""
        with self._closing:
            if not self._closed:
                self._held = None
                self._go_on()
                self._closed = True
                self._waiting.put(None)

    def drain(self) -> list[Pending]:
        """Empty the queue, which is closed: the requests that nobody will execute."""
        left: list[Pending] = []
        while (batch := self.next_batch()) is not None:
            left += batch
        return left

    def _go_on(self) -> None:
        for batch in self._collected:
            self._waiting.put(batch)
        self._collected.clear()
