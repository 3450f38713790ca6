"""Priorities, timeouts, cancellation, hold: the batcher beside a simple model of its rules.

The model knows nothing of cursors or payloads. It looks at everything whenever a batch is formed,
which is when the one instance asks, or lets what was held go: the queue is one from which nothing
is taken ahead, because it has a policy.
"""

import dataclasses

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from queued import INPUTS, Told, pending, read_config

from triton_stub.core.scheduling.batch_policy import BatchPolicy, Payload
from triton_stub.core.scheduling.batcher import Batcher
from triton_stub.core.scheduling.priority_queue import PriorityQueue
from triton_stub.errors import InferenceError

MAX = 4
LEVELS = 3
policies = st.fixed_dictionaries(
    {},
    optional={
        "max_queue_size": st.integers(1, 3),
        "default_timeout_microseconds": st.sampled_from([1, 20]),
        "timeout_action": st.sampled_from(["REJECT", "DELAY"]),
        "allow_timeout_override": st.sampled_from(["true", "false"]),
    },
)


def written(policy):
    return " ".join(f"{key}: {value}" for key, value in policy.items())


@given(
    preferred=st.sets(st.integers(1, MAX), max_size=3),
    rows=st.integers(1, MAX),
    open_size=st.integers(1, 2),
)
def test_who_comes_alone_is_treated_as_all_are(preferred, rows, open_size):
    config = read_config(
        f"dynamic_batching {{ preferred_batch_size: {sorted(preferred)} }}", INPUTS, MAX
    )
    policy, request = BatchPolicy(config), pending(rows, 5, OPEN=open_size)
    expected = Payload()
    plan = policy.extend(expected, [request], 5)
    assert plan.take == 1
    expected.add([request])
    found = policy.alone(request)
    assert {name: getattr(found, name) for name in Payload.__slots__} == {
        name: getattr(expected, name) for name in Payload.__slots__
    }


class Impatient(Told):
    """A clock that does not let anybody wait: there is nobody to wake him."""

    def wait(self, condition, ns=None):
        raise AssertionError("no batch")


class Entry:
    """A request as the model sees it."""

    def __init__(self, request, level, policy, number):
        self.request = request
        self.level = level
        self.number = number
        self.delays = policy.get("timeout_action") == "DELAY"
        self.most = policy.get("max_queue_size", 0)
        limit = policy.get("default_timeout_microseconds", 0)
        if policy.get("allow_timeout_override") == "true" and request.request.timeout:
            limit = min(limit, request.request.timeout)
        self.deadline = request.enqueued + 1000 * limit if limit else None
        self.delayed = False


class Queue(RuleBasedStateMachine):
    """One instance, which is busy between two of its questions."""

    @initialize(
        default=policies,
        own=st.dictionaries(st.integers(1, LEVELS), policies, max_size=LEVELS),
        level=st.integers(1, LEVELS),
    )
    def start(self, default, own, level):
        self.now, self.count, self.passed = 1, 0, 0
        self.default, self.own, self.level = default, own, level
        self.entries, self.expected, self.answers, self.held = [], {}, {}, None
        entries = " ".join(
            f"priority_queue_policy {{ key: {key} value {{ {written(policy)} }} }}"
            for key, policy in own.items()
        )
        config = read_config(
            f"dynamic_batching {{ priority_levels: {LEVELS} default_priority_level: {level} "
            f"default_queue_policy {{ {written(default)} }} {entries} }}",
            max_batch_size=MAX,
        )
        queue = PriorityQueue.of(config.dynamic_batching)
        # Without its thread: the model has no time between two steps.
        queue.has_deadlines = False
        self.batcher = Batcher(
            BatchPolicy(config),
            queue=queue,
            clock=Impatient(lambda: self.now),
            drop=lambda request, error: self.answers.update({request: str(error)}),
        )

    @rule(
        rows=st.integers(1, MAX),
        priority=st.integers(0, LEVELS + 1),
        timeout=st.sampled_from([0, 0, 1, 30]),
    )
    def put(self, rows, priority, timeout):
        self.late()
        request = pending(rows, self.now)
        request.request = dataclasses.replace(request.request, priority=priority, timeout=timeout)
        level = priority if 1 <= priority <= LEVELS else self.level
        entry = Entry(request, level, self.own.get(level, self.default), self.count)
        self.count += 1
        waiting = sum(other.level == level for other in self.entries)
        if 0 < entry.most <= waiting:
            with pytest.raises(InferenceError, match="Exceeds maximum queue size"):
                self.batcher.put(request)
        else:
            self.batcher.put(request)
            self.entries.append(entry)

    @rule(us=st.integers(0, 15))
    def time_passes(self, us):
        self.now += 1000 * us

    @precondition(lambda self: self.entries)
    @rule(data=st.data())
    def cancel(self, data):
        data.draw(st.sampled_from(self.entries)).request.answer.cancel()

    @precondition(lambda self: self.held is None)
    @rule()
    def hold(self):
        self.late()
        self.held = self.batcher.hold("the model")

    @precondition(lambda self: self.held is not None)
    @rule()
    def release(self):
        self.held.release()
        self.held = None
        self.late()

    @precondition(lambda self: self.held is None)
    @rule()
    def take(self):
        self.late()
        batch = self.formed()
        if batch:
            assert self.batcher.next_batch() == batch

    def late(self):
        """While the instance is busy, and nothing is held, time alone rejects."""
        for entry in list(self.entries) if self.held is None else []:
            if entry.deadline and entry.deadline < self.now and not entry.delays:
                self.skip(entry, "Request timeout expired")

    def skip(self, entry, text):
        self.entries.remove(entry)
        self.expected[entry.request] = text

    def formed(self):
        """The batch by the rules: in their order, as many as there is room for.

        If there is none, the instance does not ask, and nobody looks at the queue.
        """
        batch, skipped, late = self.looked_at()
        if batch:
            for entry, text in skipped:
                self.skip(entry, text)
            for entry in late:
                entry.delayed = True
                entry.number = self.count = self.count + 1
            for entry in batch:
                self.entries.remove(entry)
        return [entry.request for entry in batch]

    def looked_at(self):
        batch, skipped, late, rows = [], [], [], 0
        for level in range(1, LEVELS + 1):
            waiting = [entry for entry in self.entries if entry.level == level]
            delayed = sorted((e for e in waiting if e.delayed), key=lambda entry: entry.number)
            for entry in [e for e in waiting if not e.delayed]:
                is_late = entry.deadline and entry.deadline < self.now
                if entry.request.answer.cancelled:
                    skipped.append((entry, ""))
                elif is_late and not entry.delays:
                    skipped.append((entry, "Request timeout expired"))
                elif is_late:
                    late.append(entry)
                    delayed.append(entry)
                elif rows + entry.request.batch_size > MAX:
                    return batch, skipped, late
                else:
                    rows += entry.request.batch_size
                    batch.append(entry)
            for entry in delayed:  # among them those of just now
                if rows + entry.request.batch_size > MAX:
                    return batch, skipped, late
                rows += entry.request.batch_size
                batch.append(entry)
        return batch, skipped, late

    @invariant()
    def answered(self):
        """Nobody gets an answer that the rules do not give; all who should get one in the end."""
        if self.count:
            unknown = self.answers.keys() - self.expected.keys()
            late = {e.request for e in self.entries if e.deadline and e.deadline < self.now}
            assert unknown <= late
            assert all(self.expected.get(r, text) == text for r, text in self.answers.items())

    def teardown(self):
        if not hasattr(self, "batcher"):
            return
        if self.held is not None:
            self.held.release()
            self.held = None
        self.late()
        while batch := self.formed():
            assert self.batcher.next_batch() == batch
        for entry, text in self.looked_at()[1]:
            self.skip(entry, text)
        self.batcher.close()
        assert self.batcher.next_batch() is None
        assert self.answers == self.expected
        assert not self.entries


Queue.TestCase.settings = settings(max_examples=150, stateful_step_count=30)
TestQueue = Queue.TestCase
