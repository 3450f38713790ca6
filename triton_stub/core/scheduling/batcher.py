"""The dynamic batcher: which requests an instance executes next, and which it never does.

Source: core ``src/dynamic_batch_scheduler.cc`` (``BatcherThread``), ``src/instance_queue.cc`` and
``src/rate_limiter.cc``. The server's batcher is a thread. Here whoever adds a request, takes a
batch or waits for one does what that thread would have done by now, in the order in which it would
have: the same batches, without a thread more on the way of a request.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

from triton_stub.core.clock import Clock
from triton_stub.core.scheduling.batch_policy import Payload
from triton_stub.core.scheduling.priority_queue import PriorityQueue
from triton_stub.core.scheduling.scheduler import OnceScheduler

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from triton_stub.core.scheduling.batch_policy import BatchPolicy
    from triton_stub.core.scheduling.hold import Hold
    from triton_stub.core.scheduling.scheduler import Pending
    from triton_stub.errors import InferenceError


class Batcher(OnceScheduler):
    """The queue of one model, shared by its instances.

    Requests go from the queue into payloads, and those to the instances. Up to two payloads for
    each instance are formed ahead of time, which nothing takes back: their requests are executed
    whether they are cancelled or not. If requests have priorities, or may be refused or late,
    they stay in the queue until an instance is free.

    ``drop`` answers a request that was cancelled in the queue, or whose time is over.
    """

    def __init__(
        self,
        policy: BatchPolicy,
        *,
        queue: PriorityQueue | None = None,
        clock: Clock | None = None,
        instances: int = 1,
        drop: Callable[[Pending, InferenceError], None] = lambda _pending, _error: None,
    ) -> None:
        super().__init__(policy)
        self._queue = PriorityQueue() if queue is None else queue
        self._clock = clock or Clock()
        self._instances = set(range(instances))
        self._removed: set[int] = set()
        self._drop = drop
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)  # for instances
        self._alarm = threading.Condition(self._lock)  # for the watch
        for condition in (self._changed, self._alarm):
            self._clock.attend(condition)
        self._idle = 0  # instances that wait for a batch
        self._formed: deque[list[Pending]] = deque()  # by ``put_batch``
        self._ready: deque[Payload] = deque()
        self._payload = Payload()  # the one that grows; it may be the last of those
        self._due: int | None = None  # when time alone changes something
        self._wanted = 0  # a batch that waits is looked at again when so many rows are queued
        self._watch: threading.Thread | None = None

    def put(self, pending: Pending) -> None:
        """Queue one request; InferenceError after ``close``, and if the queue is full."""
        with self._lock:
            self._refuse_if_closed(pending)
            if self._is_alone(pending):
                self._payload = self._policy.alone(pending)
                self._ready.append(self._payload)
                self._changed.notify()
                return
            now = self._clock.now()
            self._catch_up(now)
            self._queue.put(pending)
            self._note_queued()
            if self._held is None and self._is_interesting():
                self._run(now)
            if self._queue.has_deadlines and self._watch is None:
                name = "deadlines"
                self._watch = threading.Thread(target=self._keep_watch, name=name, daemon=True)
                self._watch.start()
        self._answer_skipped()

    def put_batch(self, batch: Sequence[Pending]) -> None:
        """Queue requests that shall be executed together, before all others.

        InferenceError after ``close``, and if the server would never execute them together.
        """
        self._check(batch)
        with self._lock:
            self._refuse_if_closed(batch[0])
            self._formed.append(list(batch))
            self._changed.notify()
            for _ in batch:
                self._note_queued()

    def next_batch(self, instance: int = 0) -> list[Pending] | None:
        """Wait for the next batch; None when the queue is closed and nothing is left to do."""
        with self._lock:
            if self._is_removed(instance):
                self._leave(instance)
                return None
            now = self._clock.now()
            self._catch_up(now)
            self._idle += 1
            if self._queue and not self._wanted:
                self._run(now)
        while True:
            with self._lock:
                batch = self._pick()
                while not (batch or self._has_ended(instance) or self._queue.skipped):
                    self._sleep(self._changed)
                    if self._due is not None:
                        self._catch_up(self._clock.now())
                    batch = self._pick()
                is_over = batch is None and self._has_ended(instance)
                if batch or is_over:
                    self._idle -= 1
                if is_over:
                    self._leave(instance)
            self._answer_skipped()
            if batch or is_over:
                return batch

    def hold(self, what: str) -> Hold:
        """Execute nothing until the hold is released, but what is to be executed by now."""
        with self._lock:
            self._catch_up(self._clock.now())
            held = super().hold(what)
        self._answer_skipped()
        return held

    def close(self) -> None:
        """Take no more requests; those in the queue are still executed, also if they are held."""
        with self._lock:
            self._closed = True
            self._held = None
            self._go_on()
            self._alarm.notify_all()
        self._answer_skipped()

    def update(self, added: Collection[int], removed: Collection[int]) -> None:
        """Have other instances; those ``removed`` end as soon as no payload waits.

        Until then they execute what comes, as on the server. Whoever asks is an instance.
        """
        with self._lock:
            self._instances.update(added)
            self._removed.update(removed)
            self._go_on()
        self._answer_skipped()

    def discard(self, instances: Collection[int]) -> None:
        """These instances, which were not added, may end."""
        self.update((), instances)

    def drain(self) -> list[Pending]:
        """Empty the queue: the requests that nobody will execute."""
        with self._lock:
            payloads = [payload.requests for payload in self._ready]
            left = [pending for batch in (*self._formed, *payloads) for pending in batch]
            left += self._queue.take(len(self._queue))
            self._formed.clear()
            self._ready.clear()
            self._payload = Payload()
            self._due, self._wanted = None, 0
            return left

    def _sleep(self, condition: threading.Condition) -> None:
        due = self._due
        self._clock.wait(condition, None if due is None else due - self._clock.now())

    def _has_ended(self, instance: int) -> bool:
        if self._closed and not (self._queue or self._ready or self._formed):
            return True
        return self._is_removed(instance)

    def _is_removed(self, instance: int) -> bool:
        """True if an instance is one too many, and no payload waits."""
        return instance in self._removed and not self._ready

    def _leave(self, instance: int) -> None:
        """An instance ends."""
        self._removed.discard(instance)
        self._instances.discard(instance)

    def _is_alone(self, pending: Pending) -> bool:
        """True if there is nothing else, and nothing to wait for: the most usual case, at once."""
        return not (
            self._ready
            or self._queue
            or self._policy.delay_ns
            or self._held
            or not self._queue.is_prefetched
            or pending.answer.cancelled
        )

    def _is_interesting(self) -> bool:
        """True if the batcher looks at a request that has just come."""
        return (
            not self._wanted
            or self._policy.looks_at_shapes
            or self._payload.taken
            or self._queue.rows >= self._wanted
        )

    def _catch_up(self, now: int) -> None:
        """Do what would have been done at its time."""
        while self._due is not None and self._due <= now:
            self._run(self._due)

    def _run(self, now: int) -> None:
        """Form batches until there is something to wait for."""
        queue = self._queue
        self._due, self._wanted = None, 0
        while queue and self._held is None:
            payload = self._payload
            if payload.sealed or payload.taken:
                payload = self._payload = Payload()
            if not self._has_room():
                queue.reject_late(now)
                first = queue.first_rejection()
                self._due = None if first is None else first + 1
                break
            plan = self._policy.extend(payload, queue.candidates(now), now, hurry=self._closed)
            if plan.wait_ns:
                deadline = queue.closest_deadline
                until = now + plan.wait_ns
                self._due = min(until, deadline + 1) if deadline else until
                self._wanted = plan.wanted
                break
            if plan.take:
                is_new = not payload.requests
                payload.add(queue.take(plan.take))
                if is_new:
                    self._ready.append(payload)
                    self._changed.notify()
            elif queue and not payload.sealed:
                break  # the next one does not match, and no other payload is begun before this goes
        if self._due is not None:
            self._changed.notify()
            self._alarm.notify()

    def _has_room(self) -> bool:
        """True if one more payload may be formed."""
        if self._queue.is_prefetched:
            return len(self._ready) < 2 * len(self._instances)
        return len(self._ready) < self._idle

    def _pick(self) -> list[Pending] | None:
        """The next batch for an instance, and the payloads behind it that are late and match."""
        if self._formed and self._held is None:
            return self._formed.popleft()
        if not self._ready:
            return None
        now = self._clock.now()
        payload = self._ready.popleft()
        payload.taken = True
        delay_ns = self._policy.delay_ns
        while self._ready and delay_ns and payload.mergeable:
            following = self._ready[0]
            if not following.mergeable or now - following.started <= delay_ns:
                break
            following.taken = True
            if not self._policy.mergeable(payload, following):
                break
            payload.rows += following.rows
            payload.requests += self._ready.popleft().requests
        if self._queue:
            self._idle -= 1  # for ``_has_room``
            self._run(now)
            self._idle += 1
        if self._ready:
            self._changed.notify()  # another instance may be idle
        return payload.requests

    def _go_on(self) -> None:
        self._run(self._clock.now())
        self._changed.notify_all()

    def _answer_skipped(self) -> None:
        # Without the lock: who hears of the answer may send the next request.
        if not self._queue.skipped:
            return
        with self._lock:
            skipped, self._queue.skipped = self._queue.skipped, []
        for pending, error in skipped:
            self._drop(pending, error)

    def _keep_watch(self) -> None:
        """Answer requests whose time is over, also while every instance is busy."""
        is_over = False
        while not is_over:
            with self._lock:
                self._catch_up(self._clock.now())
                if not self._queue.skipped:
                    is_over = self._closed
                    if not is_over:
                        self._sleep(self._alarm)
            self._answer_skipped()
