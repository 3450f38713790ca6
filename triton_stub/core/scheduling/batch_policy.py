"""Which requests make one batch: the rules of ``dynamic_batching``.

Source: core ``src/dynamic_batch_scheduler.cc`` (``GetDynamicBatch``), ``src/scheduler_utils.cc``
(``RequiredEqualInputs``) and ``src/backend_model.cc`` (``SetConfiguredScheduler``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from triton_stub.core.scheduling.scheduler import Pending


class Payload:
    """A batch on its way to an instance. Until one takes it, it may grow.

    ``sealed`` if it grows no more, ``mergeable`` unless it has ended where a request did not match,
    ``taken`` once an instance has looked at it, ``started`` when its oldest request came.
    """

    __slots__ = ("group", "mergeable", "requests", "rows", "sealed", "started", "taken")

    def __init__(self) -> None:
        self.requests: list[Pending] = []
        self.rows = 0
        self.group: object = None
        self.sealed = False
        self.mergeable = True
        self.taken = False
        self.started = 0

    def add(self, batch: list[Pending]) -> None:
        """Put requests at the end."""
        if not self.requests:
            self.started = batch[0].enqueued
        for pending in batch:
            self.started = min(self.started, pending.enqueued)
            self.rows += pending.batch_size
        self.requests += batch


class Plan(NamedTuple):
    """What a batcher does next: take so many requests, or wait for so many nanoseconds.

    It is not worth looking again before ``wanted`` rows are queued.
    """

    take: int
    wait_ns: int = 0
    wanted: int = 0


class BatchPolicy:
    """How many requests from the head of a queue make the next batch."""

    def __init__(self, config: Any) -> None:
        choice = config.WhichOneof("scheduling_choice")
        # The oldest sequences of an instance go through a dynamic batcher of their own.
        oldest = choice == "sequence_batching" and config.sequence_batching.HasField("oldest")
        batching = config.sequence_batching.oldest if oldest else config.dynamic_batching
        self._dynamic: bool = choice == "dynamic_batching" or oldest
        self._has_batches: bool = self._dynamic and config.max_batch_size > 0
        self._max_batch_size: int = max(1, config.max_batch_size)
        self._preferred = frozenset(batching.preferred_batch_size) or {config.max_batch_size}
        self._largest: int = max(self._preferred)
        self.delay_ns: int = batching.max_queue_delay_microseconds * 1000
        self._same_shape = frozenset(
            entry.name
            for entry in config.input
            if -1 in entry.dims and not entry.allow_ragged_batch
        )
        self._same_inputs = any(entry.optional for entry in config.input)

    def plan(self, queue: Iterable[Pending], now: int) -> tuple[int, int]:
        """``(requests to take, nanoseconds to wait)``: one of the two is 0.

        ``queue`` is not empty; ``now`` is of its clock.
        """
        if not self._dynamic:
            return 1, 0
        plan = self.extend(Payload(), queue, now)
        return plan.take, plan.wait_ns

    def alone(self, pending: Pending) -> Payload:
        """The payload of one request that nobody is to wait for: what ``extend`` makes of it."""
        payload = Payload()
        payload.group = self.group(pending)
        payload.started = pending.enqueued
        payload.rows = pending.batch_size
        payload.requests.append(pending)
        payload.sealed = payload.rows in self._preferred or payload.rows >= self._largest
        return payload

    def extend(
        self, payload: Payload, queue: Iterable[Pending], now: int, *, hurry: bool = False
    ) -> Plan:
        """How many requests from the head of ``queue`` to put into a payload, which may be sealed.

        With ``hurry`` nobody waits for more to come.
        """
        count = rows = best = best_rows = 0
        base = payload.rows
        oldest = now
        ended = False
        for pending in queue:
            grown = base + rows + pending.batch_size
            if not base and not count:
                payload.group = self.group(pending)
            else:
                # Beyond the largest preferred size: what was there before is good enough.
                if grown > self._largest and not best_rows:
                    best, best_rows = count, rows
                    payload.sealed = True
                if grown > self._max_batch_size:
                    ended = True
                    break
                if self.group(pending) != payload.group:
                    payload.mergeable = False
                    ended = True
                    break
            rows += pending.batch_size
            count += 1
            oldest = min(oldest, pending.enqueued)
            if grown in self._preferred:
                best, best_rows = count, rows
        overdue = hurry or 0 < self.delay_ns <= now - oldest or not count
        if best_rows and not overdue:
            payload.sealed |= not self.delay_ns
            return Plan(best)
        if count and (ended or base + rows >= self._largest):
            payload.sealed = True
        elif not (overdue or not self.delay_ns or (base and base not in self._preferred)):
            larger = [size for size in self._preferred if size > base + rows]
            wanted = min(larger or self._preferred) - base
            return Plan(0, self.delay_ns - (now - oldest), wanted)
        return Plan(count)

    def obstacle(self, batch: Sequence[Pending]) -> str | None:
        """Why the server would never execute these requests in one call; None if it might."""
        if len(batch) < 2:
            return None
        if not self._has_batches:
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

    @property
    def looks_at_shapes(self) -> bool:
        """True if there are inputs whose shapes must be equal in a batch."""
        return bool(self._same_shape)

    def mergeable(self, payload: Payload, other: Payload) -> bool:
        """True if all of ``other`` may be put behind a payload."""
        fits = payload.rows + other.rows <= self._max_batch_size
        return fits and payload.group == other.group

    def group(self, pending: Pending) -> object:
        """Requests are batched together only if this is equal."""
        if not self._same_shape and not self._same_inputs:
            return None
        return {
            tensor.name: tensor.shape[1:] if tensor.name in self._same_shape else None
            for tensor in pending.validated.inputs
            if self._same_inputs or tensor.name in self._same_shape
        }
