"""Which requests an instance executes next: the default scheduler and the dynamic batcher.

Source: core ``src/dynamic_batch_scheduler.cc``, ``GetDynamicBatch``. The server's batcher is a
thread that hands batches to instances; here an idle instance asks for its next batch, which
forms the same batches from the same queue.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from triton_stub.core.responses import Responses
from triton_stub.errors import InferenceError, StatusCode

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from triton_stub.core.request import InferenceRequest
    from triton_stub.core.validation import ValidatedRequest


@dataclass(frozen=True, slots=True, eq=False)
class Pending:
    """A request that waits for its execution. ``enqueued`` is in ``time.monotonic_ns``."""

    request: InferenceRequest
    validated: ValidatedRequest
    enqueued: int = field(default_factory=time.monotonic_ns)
    answer: Responses = field(default_factory=Responses)

    @property
    def batch_size(self) -> int:
        """Rows that the request adds to a batch; 1 on a model without batching."""
        return max(1, self.validated.batch_size)


class BatchPolicy:
    """How many requests from the head of a queue make the next batch."""

    def __init__(self, config: Any) -> None:
        self._max_batch_size: int = config.max_batch_size
        self._dynamic = (
            config.WhichOneof("scheduling_choice") == "dynamic_batching"
            and self._max_batch_size > 0
        )
        batching = config.dynamic_batching
        self._preferred = frozenset(batching.preferred_batch_size) or {self._max_batch_size}
        self._largest: int = max(self._preferred)
        self._delay_ns: int = batching.max_queue_delay_microseconds * 1000
        self._same_shape = frozenset(
            entry.name
            for entry in config.input
            if -1 in entry.dims and not entry.allow_ragged_batch
        )
        self._same_inputs = any(entry.optional for entry in config.input)

    def plan(self, queue: Sequence[Pending] | deque[Pending], now: int) -> tuple[int, int]:
        """``(requests to take, nanoseconds to wait)``: one of the two is 0.

        ``queue`` is not empty; ``now`` is in ``time.monotonic_ns``.
        """
        if not self._dynamic:
            return 1, 0
        count = size = best = 0
        closed = False
        group: object = None
        for pending in queue:
            grown = size + pending.batch_size
            if count == 0:
                group = self._group(pending)
            else:
                if grown > self._largest and best == 0:
                    best = count
                if grown > self._max_batch_size or self._group(pending) != group:
                    closed = True
                    break
            size, count = grown, count + 1
            if size in self._preferred:
                best = count
        age = now - queue[0].enqueued
        overdue = 0 < self._delay_ns <= age
        if best and not overdue:
            return best, 0
        if closed or size >= self._largest or overdue or self._delay_ns == 0:
            return count, 0
        return 0, self._delay_ns - age

    def obstacle(self, batch: Sequence[Pending]) -> str | None:
        """Why the server would never execute these requests in one call; None if it might."""
        if len(batch) < 2:
            return None
        if not self._dynamic:
            return (
                "without dynamic_batching, or with max_batch_size 0, it calls execute with one "
                "request at a time. Send one, or add `dynamic_batching { }`"
            )
        rows = sum(pending.batch_size for pending in batch)
        if rows > self._max_batch_size:
            return (
                f"they have {rows} rows in all, and max_batch_size is {self._max_batch_size}. "
                "Send fewer, or raise max_batch_size"
            )
        if any(self._group(pending) != self._group(batch[0]) for pending in batch):
            return (
                "it puts requests together only if they have the same inputs and the same "
                "variable dimensions. Send equal ones, or set allow_ragged_batch"
            )
        return None

    def _group(self, pending: Pending) -> object:
        """Requests are batched together only if this is equal."""
        if not self._same_shape and not self._same_inputs:
            return None
        return {
            tensor.name: tensor.shape[1:] if tensor.name in self._same_shape else None
            for tensor in pending.validated.inputs
            if self._same_inputs or tensor.name in self._same_shape
        }


class Batcher:
    """The queue of one model, shared by its instances."""

    def __init__(
        self, policy: BatchPolicy, *, clock: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._policy = policy
        self._clock = clock
        self._changed = threading.Condition()
        self._queue: deque[Pending] = deque()
        self._formed: deque[list[Pending]] = deque()
        self._closed = False

    def put(self, pending: Pending) -> None:
        """Queue one request; InferenceError after ``close``."""
        with self._changed:
            self._refuse_if_closed(pending)
            self._queue.append(pending)
            self._changed.notify()

    def put_batch(self, batch: Sequence[Pending]) -> None:
        """Queue requests that shall be executed together, before all others.

        InferenceError after ``close``, and if the server would never execute them together.
        """
        # The server takes batches from nobody: deviations.EXACT_BATCH.
        if obstacle := self._policy.obstacle(batch):
            raise InferenceError(
                f"the server would never execute these {len(batch)} requests in one call: "
                f"{obstacle}.",
                StatusCode.INVALID_ARG,
            )
        with self._changed:
            self._refuse_if_closed(batch[0])
            self._formed.append(list(batch))
            self._changed.notify()

    def next_batch(self) -> list[Pending] | None:
        """Wait for the next batch; None when the queue is closed and nothing is left to do."""
        with self._changed:
            while True:
                if self._formed:
                    return self._formed.popleft()
                wait: float | None = None
                if self._queue:
                    count, wait_ns = self._policy.plan(self._queue, self._clock())
                    if self._closed and not count:
                        # A batch that waits to grow is the whole queue, and nothing will come.
                        count = len(self._queue)
                    if count:
                        batch = [self._queue.popleft() for _ in range(count)]
                        if self._queue:
                            self._changed.notify()  # another instance may be idle
                        return batch
                    wait = wait_ns / 1e9
                elif self._closed:
                    return None
                self._changed.wait(wait)

    def close(self) -> None:
        """Take no more requests; those in the queue are still executed."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def drain(self) -> list[Pending]:
        """Empty the queue: the requests that nobody will execute."""
        with self._changed:
            left = [pending for batch in (*self._formed, self._queue) for pending in batch]
            self._formed.clear()
            self._queue.clear()
            return left

    def _refuse_if_closed(self, pending: Pending) -> None:
        if self._closed:
            raise InferenceError(
                f"{pending.request.log_prefix}Server is stopping, scheduler for model has "
                "stopped accepting new inference requests",
                StatusCode.UNAVAILABLE,
            )
