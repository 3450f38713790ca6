"""The batch policy, and the queue as a state machine: whatever is asked for, and however often."""

from collections import deque
from itertools import accumulate

import hypothesis.strategies as st
from hypothesis import given, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from queued import INPUTS, OPTIONAL, Told, pending, read_config

from triton_stub.core.scheduling.batch_policy import BatchPolicy
from triton_stub.core.scheduling.batcher import Batcher

MAX = 6
INPUT_SETS = [{"OPEN": 1}, {"OPEN": 2}, {"OPEN": 1, "FIXED": 4}, {"OPEN": 1, "RAGGED": 3}]
preferred_sizes = st.sets(st.integers(1, MAX), max_size=3)
delays_us = st.sampled_from([0, 1, 50])
input_texts = st.sampled_from([INPUTS, OPTIONAL])
rows = st.integers(1, MAX)


def make_config(preferred, delay_us, inputs):
    return read_config(
        f"dynamic_batching {{ preferred_batch_size: {sorted(preferred)} "
        f"max_queue_delay_microseconds: {delay_us} }}",
        inputs,
        MAX,
    )


def may_meet(first, second, inputs):
    """True if two requests may be in one batch."""
    sizes, others = (
        {tensor.name: tensor.shape[1] for tensor in request.validated.inputs}
        for request in (first, second)
    )
    same_inputs = sizes.keys() == others.keys() or inputs is INPUTS
    return same_inputs and sizes["OPEN"] == others["OPEN"]


@st.composite
def queues(draw):
    count = draw(st.integers(1, 8))
    ages = sorted(draw(st.lists(st.integers(0, 100), min_size=count, max_size=count)))
    return [pending(draw(rows), age, **draw(st.sampled_from(INPUT_SETS))) for age in ages]


@settings(max_examples=300)
@given(
    queue=queues(),
    preferred=preferred_sizes,
    delay_us=delays_us,
    inputs=input_texts,
    waited=st.integers(0, 60_000),
)
def test_a_plan(queue, preferred, delay_us, inputs, waited):
    now = queue[-1].enqueued + waited
    taken, wait = BatchPolicy(make_config(preferred, delay_us, inputs)).plan(queue, now)

    assert (taken == 0) != (wait == 0)
    batch = queue[:taken]
    assert sum(request.batch_size for request in batch) <= MAX
    assert all(may_meet(queue[0], request, inputs) for request in batch)

    age, delay = now - queue[0].enqueued, 1000 * delay_us
    assert wait <= max(0, delay - age)

    # What could go together: the longest head of the queue that fits and is alike.
    sizes = list(accumulate(request.batch_size for request in queue))
    together = 1
    while (
        together < len(queue)
        and sizes[together] <= MAX
        and may_meet(queue[0], queue[together], inputs)
    ):
        together += 1
    reached = set(sizes[:together]) & (preferred or {MAX})
    overdue = 0 < delay <= age
    if reached and not overdue:
        assert sizes[taken - 1] == max(reached)
    if overdue:
        assert taken == together
    if wait:
        assert together == len(queue)
        assert sizes[-1] < max(preferred or {MAX})


@given(queue=queues(), inputs=input_texts)
def test_without_a_batcher_each_request_goes_alone(queue, inputs):
    assert BatchPolicy(read_config("", inputs, MAX)).plan(queue, queue[-1].enqueued) == (1, 0)


class Queue(RuleBasedStateMachine):
    """Requests come, time passes, instances ask. Nothing is lost, doubled or overtaken."""

    @initialize(preferred=preferred_sizes, delay_us=delays_us, inputs=input_texts)
    def start(self, preferred, delay_us, inputs):
        self.now = 0
        self.inputs = inputs
        self.delay = 1000 * delay_us
        self.closed = False
        self.waiting = deque()
        self.formed = deque()
        self.policy = BatchPolicy(make_config(preferred, delay_us, inputs))
        self.batcher = Batcher(self.policy, clock=Told(lambda: self.now))

    @precondition(lambda self: not self.closed)
    @rule(rows=rows, sizes=st.sampled_from(INPUT_SETS))
    def put(self, rows, sizes):
        request = pending(rows, self.now, **sizes)
        self.batcher.put(request)
        self.waiting.append(request)

    @precondition(lambda self: not self.closed)
    @rule(count=st.integers(1, MAX), sizes=st.sampled_from(INPUT_SETS))
    def put_batch(self, count, sizes):
        batch = [pending(1, self.now, **sizes) for _ in range(count)]
        self.batcher.put_batch(batch)
        self.formed.append(batch)

    @rule(nanoseconds=st.integers(0, 60_000))
    def time_passes(self, nanoseconds):
        self.now += nanoseconds

    @precondition(lambda self: self.formed or self.waiting)
    @rule()
    def take(self):
        if not self.formed and not self.closed:
            # An instance would sleep until then.
            self.now = max(self.now, self.waiting[0].enqueued + self.delay)
        batch = self.batcher.next_batch()
        assert batch
        if self.formed:
            assert batch == self.formed.popleft()
            return
        assert batch == [self.waiting.popleft() for _ in batch]
        assert sum(request.batch_size for request in batch) <= MAX
        assert all(may_meet(batch[0], request, self.inputs) for request in batch)

    @rule()
    def close(self):
        self.batcher.close()
        self.closed = True

    @precondition(lambda self: self.closed and not self.waiting and not self.formed)
    @rule()
    def end(self):
        assert self.batcher.next_batch() is None

    @invariant()
    def a_plan_never_waits_for_ever(self):
        if self.waiting:
            _, wait = self.policy.plan(self.waiting, self.now)
            assert wait <= self.delay


TestQueue = Queue.TestCase
