"""The sequence batcher as a state machine: any sequences, executed at any time."""

import contextlib

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from queued import pending, read_config

from triton_stub.core.clock import Clock
from triton_stub.core.scheduling.batch_policy import BatchPolicy
from triton_stub.core.scheduling.sequences import SequenceBatcher
from triton_stub.errors import InferenceError

START, END = 1, 2
IDLE = 10**9
sequences = st.sampled_from([1, 2, 3, 4, "1", "five"])
all_flags = st.sampled_from([START, START, 0, 0, END, START | END])


class NothingToDo(Exception):  # noqa: N818 - it is none
    """An instance would wait."""


class Impatient(Clock):
    """A clock that the machine drives, and by which nobody waits."""

    time = 0

    def now(self):
        return self.time

    def wait(self, condition, ns=None):
        raise NothingToDo


class Sequences(RuleBasedStateMachine):
    @initialize(
        is_oldest=st.booleans(),
        rows=st.integers(0, 3),
        slots=st.integers(1, 3),
        instances=st.integers(1, 3),
    )
    def begin(self, is_oldest, rows, slots, instances):
        oldest = f"oldest {{ max_candidate_sequences: {slots} }}" if is_oldest else ""
        config = read_config(f"sequence_batching {{ {oldest} }}", max_batch_size=rows)
        self.is_oldest = is_oldest
        self.rows = max(1, rows)
        self.clock = Impatient()
        self.dropped = []
        self.batcher = SequenceBatcher(
            config,
            BatchPolicy(config),
            instances,
            drop=lambda pending, error: self.dropped.append(pending),
            clock=self.clock,
        )
        self.running = [[] for _ in range(instances)]
        self.sent = []  # in the order in which they came
        self.executed = []
        self.known = {}  # of each id: when its last request came
        self.run_of = {}  # the sequence of a request: an id is used again
        self.runs = {}
        self.places = {}  # of each sequence: where it is executed

    @rule(sequence=sequences, flags=all_flags)
    def send(self, sequence, flags):
        request = pending(enqueued=self.clock.time)
        request.correlation_id, request.flags = sequence, flags
        is_known = sequence in self.known
        # It is forgotten when it is idle, unless it has no slot yet, or when it is cancelled.
        was_idle = self.clock.time - self.known.get(sequence, -IDLE) >= IDLE
        if was_idle and any(each.correlation_id == sequence for each in self.cancelled()):
            # The server, too, takes a sequence for over when an earlier one of its id is cancelled.
            return
        refused = self.put(request)
        run = (sequence, self.runs.get(sequence))
        is_cancelled = any(self.run_of[each] == run for each in self.dropped)
        if refused:
            assert "must specify the START flag" in refused
            assert not flags & START
            assert not is_known or was_idle or is_cancelled
            self.known.pop(sequence, None)
            return
        if not flags & START:
            assert is_known
        if not is_known or ((was_idle or is_cancelled) and flags & START):
            self.runs[sequence] = self.runs.get(sequence, 0) + 1
        self.run_of[request] = (sequence, self.runs[sequence])
        self.sent.append(request)
        self.known[sequence] = self.clock.time
        if flags & END:
            del self.known[sequence]

    def put(self, request):
        """Why a request is refused; nothing if it is not."""
        try:
            self.batcher.put(request)
        except InferenceError as error:
            return error.message
        return ""

    @precondition(lambda self: not all(self.running))
    @rule(data=st.data())
    def take(self, data):
        idle = [number for number, batch in enumerate(self.running) if not batch]
        with contextlib.suppress(NothingToDo):
            self.run(data.draw(st.sampled_from(idle)))

    def run(self, instance):
        batch = self.batcher.next_batch(instance)
        if batch is None:
            return False
        self.running[instance] = batch
        assert len(batch) <= self.rows
        for place, request in enumerate(batch):
            if request.is_null:
                assert not self.is_oldest
                assert batch[-1] is not request
                continue
            self.executed.append(request)
            where = (instance, None if self.is_oldest else place)
            assert self.places.setdefault(self.run_of[request], where) == where
        return True

    @precondition(lambda self: any(self.running))
    @rule(data=st.data())
    def finish(self, data):
        busy = [number for number, batch in enumerate(self.running) if batch]
        self.release(data.draw(st.sampled_from(busy)))

    def release(self, instance):
        for request in self.running[instance]:
            self.batcher.release(request)
        self.running[instance] = []

    @rule(share=st.sampled_from([3, 1]))
    def wait(self, share):
        self.clock.time += IDLE // share

    @rule(data=st.data())
    def cancel(self, data):
        # See send: of the last sequence of its id.
        queued = [
            each for each in self.queued() if self.run_of[each][1] == self.runs[each.correlation_id]
        ]
        if queued:
            data.draw(st.sampled_from(queued)).answer.cancel()

    def queued(self):
        return [each for each in self.sent if each not in {*self.executed, *self.dropped}]

    def cancelled(self):
        return [each for each in self.queued() if each.answer.cancelled]

    @invariant()
    def nothing_is_done_twice(self):
        done = [*self.executed, *self.dropped]
        assert len(done) == len(set(done))

    @invariant()
    def only_cancelled_sequences_are_dropped(self):
        # In the backlog no sequence is idle: there is one of each id.
        cancelled = {each.correlation_id for each in self.sent if each.answer.cancelled}
        assert {each.correlation_id for each in self.dropped} <= cancelled

    @invariant()
    def each_sequence_is_in_order(self):
        for run in set(self.run_of.values()):
            sent = [each for each in self.sent if self.run_of[each] == run]
            executed = [each for each in self.executed if self.run_of[each] == run]
            assert executed == [each for each in sent if each in executed]

    @invariant()
    def one_request_of_a_sequence_at_a_time(self):
        for batch in self.running:
            runs = [self.run_of[each] for each in batch if not each.is_null]
            assert len(runs) == len(set(runs))

    def teardown(self):
        if not hasattr(self, "running"):
            return
        self.batcher.close()
        is_over = [False] * len(self.running)
        # Who is idle may have to wait until others are done, but never for ever.
        for _ in range(10 * (len(self.sent) + 10)):
            for instance, batch in enumerate(self.running):
                if batch:
                    self.release(instance)
                try:
                    is_over[instance] = not self.run(instance)
                except NothingToDo:
                    is_over[instance] = False
            if all(is_over):
                break
        assert all(is_over)
        assert {*self.executed, *self.dropped} == {*self.sent}


TestSequences = Sequences.TestCase
TestSequences.settings = settings(deadline=None, stateful_step_count=40)
