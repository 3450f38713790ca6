"""Which requests an instance executes next: the default scheduler and the dynamic batcher.

Source: core ``src/dynamic_batch_scheduler.cc``, ``GetDynamicBatch``. The server's batcher is a
thread that hands batches to instances; here an idle instance asks for its next batch, which
forms the same batches from the same queue.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Any

from triton_stub import deviations
from triton_stub.core.clock import Clock
from triton_stub.core.scheduler import NOT_HANDLED, Pending, refuse_late
from triton_stub.errors import InferenceError, StatusCode

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class BatchPolicy:
    """How many requests from the head of a queue make the next batch."""

    def __init__(self, config: Any) -> None:
        self._max_batch_size: int = config.max_batch_size
        choice = config.WhichOneof("scheduling_choice")
        # The oldest sequences of an instance go through a dynamic batcher of their own.
        oldest = choice == "sequence_batching" and config.sequence_batching.HasField("oldest")
        self._dynamic: bool = (choice == "dynamic_batching" or oldest) and self._max_batch_size > 0
        batching = config.sequence_batching.oldest if oldest else config.dynamic_batching
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

        ``queue`` is not empty; ``now`` is of its clock.
        """
        if not self._dynamic:
            return 1, 0
        count = size = best = 0
        closed = False
        group: object = None
        for pending in queue:
            grown = size + pending.batch_size
            if count == 0:
                group = self.group(pending)
            else:
                if grown > self._largest and best == 0:
                    best = count
                if grown > self._max_batch_size or self.group(pending) != group:
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
        if any(self.group(pending) != self.group(batch[0]) for pending in batch):
            return (
                "it puts requests together only if they have the same inputs and the same "
                "variable dimensions. Send equal ones, or set allow_ragged_batch"
            )
        return None

    @property
    def is_dynamic(self) -> bool:
        """True if requests are looked at, and put together, before they are taken."""
        return self._dynamic

    def fits(self, rows: int, first: Pending, pending: Pending) -> bool:
        """True if a batch of so many rows that begins with ``first`` can grow by another one."""
        fits: bool = rows + pending.batch_size <= self._max_batch_size
        return fits and bool(self.group(pending) == self.group(first))

    def group(self, pending: Pending) -> object:
        """Requests are batched together only if this is equal."""
        if not self._same_shape and not self._same_inputs:
            return None
        return {
            tensor.name: tensor.shape[1:] if tensor.name in self._same_shape else None
            for tensor in pending.validated.inputs
            if self._same_inputs or tensor.name in self._same_shape
        }


class _Payload:
    """A batch that waits for an instance."""

    __slots__ = ("count", "first", "rows")

    def __init__(self, first: Pending) -> None:
        self.first = first
        self.count = 1
        self.rows = first.batch_size


class Batcher:
    """The queue of one model, shared by its instances.

    ``drop`` answers a request that was cancelled in the queue. The dynamic batcher looks at each
    request when it puts it into a batch, which it does ahead of time: two batches for each
    instance wait, and their requests are executed whether they are cancelled or not. Without
    dynamic batching every request is.
    """

    is_iterative = False

    def __init__(
        self,
        policy: BatchPolicy,
        *,
        clock: Clock | None = None,
        instances: int = 1,
        drop: Callable[[Pending], None] = lambda _: None,
    ) -> None:
        self._policy = policy
        self._clock = clock or Clock()
        self._drop = drop
        self._most_payloads = 2 * instances
        # Of the head of the queue.
        self._payloads: deque[_Payload] = deque()
        self._changed = threading.Condition()
        self._queue: deque[Pending] = deque()
        self._formed: deque[list[Pending]] = deque()
        self._closed = False

    def put(self, pending: Pending) -> None:
        """Queue one request; InferenceError after ``close``."""
        with self._changed:
            self._refuse_if_closed(pending)
            self._queue.append(pending)
            if self._policy.is_dynamic:
                self._look_ahead()
            self._changed.notify()

    def reschedule(self, pending: Pending) -> str:  # noqa: ARG002 - another scheduler does it
        """Why a request is not executed again."""
        return NOT_HANDLED

    def instead(self, pending: Pending) -> str:  # noqa: ARG002 - as above
        """What the client of such a request gets if the model does not answer it, either."""
        return deviations.NO_RESCHEDULE.text(
            "the model asks for this request to be rescheduled, which the server does only with "
            "`sequence_batching { iterative_sequence: true }`",
            "Answer the request, or configure that.",
        )

    def release(self, pending: Pending) -> None:
        """A request has been executed, and is not rescheduled."""

    def put_batch(self, batch: Sequence[Pending]) -> None:
        """Queue requests that shall be executed together, before all others.

        InferenceError after ``close``, and if the server would never execute them together.
        """
        self._check(batch)
        with self._changed:
            self._refuse_if_closed(batch[0])
            self._formed.append(list(batch))
            self._changed.notify()

    def next_batch(self, instance: int = 0) -> list[Pending] | None:  # noqa: ARG002 - as above
        """Wait for the next batch; None when the queue is closed and nothing is left to do."""
        with self._changed:
            while True:
                if self._formed:
                    return self._formed.popleft()
                wait: int | None = None
                if self._queue:
                    count, wait_ns = self._policy.plan(self._queue, self._clock.now())
                    if self._closed and not count:
                        # A batch that waits to grow is the whole queue, and nothing will come.
                        count = len(self._queue)
                    if count:
                        batch = [self._queue.popleft() for _ in range(count)]
                        if self._policy.is_dynamic:
                            self._take(count)
                        if self._queue:
                            self._changed.notify()  # another instance may be idle
                        return batch
                    wait = wait_ns
                elif self._closed:
                    return None
                self._clock.wait(self._changed, wait)

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
            self._payloads.clear()
            return left

    def _check(self, batch: Sequence[Pending]) -> None:
        # The server takes batches from nobody: deviations.EXACT_BATCH.
        if obstacle := self._policy.obstacle(batch):
            raise InferenceError(
                f"the server would never execute these {len(batch)} requests in one call: "
                f"{obstacle}.",
                StatusCode.INVALID_ARG,
            )

    def _look_ahead(self) -> None:
        """Put what is queued into the batches that wait, and drop what is cancelled by then."""
        seen = sum(payload.count for payload in self._payloads)
        last = self._payloads[-1] if len(self._payloads) not in (0, self._most_payloads) else None
        while seen < len(self._queue):
            if last is None and len(self._payloads) == self._most_payloads:
                return  # no room for any more
            pending = self._queue[seen]
            if pending.answer.cancelled:
                del self._queue[seen]
                self._drop(pending)
                continue
            if last is not None and self._policy.fits(last.rows, last.first, pending):
                last.count += 1
                last.rows += pending.batch_size
            elif len(self._payloads) < self._most_payloads:
                last = _Payload(pending)
                self._payloads.append(last)
            else:
                return
            seen += 1

    def _take(self, count: int) -> None:
        """So many requests of the head are gone."""
        while count and self._payloads:
            payload = self._payloads[0]
            taken = min(count, payload.count)
            payload.count -= taken
            count -= taken
            if not payload.count:
                self._payloads.popleft()
        self._look_ahead()

    def _refuse_if_closed(self, pending: Pending) -> None:
        if self._closed:
            refuse_late(pending)
