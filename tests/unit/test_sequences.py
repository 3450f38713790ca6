"""Slots, ids and the backlog of sequences, without any model."""

import threading

import pytest
from queued import Told, pending, read_config

from triton_stub.core.batch_policy import BatchPolicy
from triton_stub.core.clock import ManualClock
from triton_stub.core.scheduler import NOT_HANDLED
from triton_stub.core.sequences import SequenceBatcher
from triton_stub.errors import InferenceError, StatusCode

START, END = 1, 2
DIRECT = "sequence_batching { }"
OLDEST = "sequence_batching { oldest { max_candidate_sequences: 2 } }"
ITERATIVE = "sequence_batching { iterative_sequence: true }"
ITERATIVE_OLDEST = (
    "sequence_batching { iterative_sequence: true oldest { max_candidate_sequences: 2 "
    "preferred_batch_size: [ 2 ] } }"
)
SECOND = 10**9
MISSING_START = (
    "inference request for sequence {} to model 'model' must specify the START flag on the first "
    "request of the sequence"
)


class Watched:
    """A batcher with a clock of the test's own, and what becomes of its requests."""

    def __init__(self, scheduling=ITERATIVE, max_batch_size=2, instances=1, clock=None):
        config = read_config(scheduling, max_batch_size=max_batch_size)
        self.now = 0
        self.dropped = []
        self.warnings = []
        self.answered = threading.Event()
        self.batcher = SequenceBatcher(
            config,
            BatchPolicy(config),
            instances,
            drop=self.drop,
            warn=self.warnings.append,
            clock=clock or Told(lambda: self.now),
        )

    def drop(self, pending, error):
        self.dropped.append((pending, error.message, error.code))
        self.answered.set()

    def put(self, *ids):
        requests = [pending(request_id=request_id) for request_id in ids]
        for request in requests:
            self.batcher.put(request)
        return requests

    def send(self, sequence, request_id, flags=0, *, timeout=0, sizes=None):
        request = pending(request_id=request_id, enqueued=self.now, **(sizes or {}))
        request.correlation_id, request.flags = sequence, flags
        request.request.timeout = timeout
        self.batcher.put(request)
        return request

    def next(self, instance=0):
        return self.batcher.next_batch(instance)

    def run(self, instance=0):
        """Take a batch, and have it executed at once: its names."""
        batch = self.next(instance)
        for request in batch:
            self.batcher.release(request)
        return names(batch)


def names(batch):
    return [None if one.is_null else one.request.request_id for one in batch]


def test_each_iterative_request_begins_a_sequence_of_its_own():
    watched = Watched()
    first, second = watched.put("a", "b")
    assert [(one.correlation_id, one.flags) for one in (first, second)] == [(1, 1), (2, 1)]
    assert names(watched.next()) == ["a", "b"]


@pytest.mark.parametrize("scheduling", [ITERATIVE, ITERATIVE_OLDEST])
def test_a_rescheduled_request_is_executed_again_without_its_start_flag(scheduling):
    watched = Watched(scheduling)
    (request,) = watched.put("a")
    watched.next()
    assert watched.batcher.reschedule(request) == ""
    assert (request.correlation_id, request.flags) == (1, 0)
    assert names(watched.next()) == ["a"]
    assert watched.dropped == []
    watched.batcher.release(request)
    watched.put("b")
    assert names(watched.next()) == ["b"]
    ((end, text, code),) = watched.dropped  # the server's own request, by which it ends a sequence
    assert (end.is_null, end.correlation_id, text, code) == (True, 1, "", StatusCode.CANCELLED)


@pytest.mark.parametrize("scheduling", [ITERATIVE, ITERATIVE_OLDEST])
def test_the_backlog_waits_for_a_slot(scheduling):
    watched = Watched(scheduling)
    first, second, _ = watched.put("a", "b", "c")
    assert names(watched.next()) == ["a", "b"]
    watched.batcher.release(first)
    watched.batcher.reschedule(second)
    assert sorted(names(watched.next())) == ["b", "c"]


def test_a_gap_between_two_slots_is_filled():
    watched = Watched()
    first, second = watched.put("a", "b")
    watched.next()
    watched.batcher.release(first)
    watched.batcher.reschedule(second)
    null, request = watched.next()
    assert null.is_null
    assert request is second
    assert null.correlation_id == 0
    assert null.validated.requested_outputs == frozenset()
    assert [tensor.shape for tensor in null.validated.inputs] == [(1, 1)]
    assert "not configured" in watched.batcher.reschedule(null)
    watched.batcher.release(null)
    assert [one.correlation_id for one, _, _ in watched.dropped] == [1]


def test_every_instance_has_slots_of_its_own():
    watched = Watched(max_batch_size=1, instances=2)
    watched.put("a", "b", "c")
    assert [names(watched.next(0)), names(watched.next(1))] == [["a"], ["b"]]


def test_whoever_comes_back_too_late_is_forgotten():
    watched = Watched()
    (request,) = watched.put("a")
    watched.next()
    watched.now = request.enqueued + SECOND
    assert watched.batcher.reschedule(request) == MISSING_START.format(1)
    assert "1000000" in watched.batcher.instead(request)
    watched.put("b")
    assert names(watched.next()) == [None, "b"]  # the first slot is free from the next batch on


def test_a_cancelled_request_is_dropped_wherever_it_waits():
    watched = Watched(max_batch_size=1)
    running, backlog, kept = watched.put("a", "b", "c")
    watched.next()
    backlog.answer.cancel()
    running.answer.cancel()
    assert watched.batcher.reschedule(running) == ""
    assert names(watched.next()) == ["c"]
    assert watched.dropped == [
        (running, "", StatusCode.CANCELLED),
        (backlog, "", StatusCode.CANCELLED),
    ]
    watched.batcher.reschedule(kept)
    kept.answer.cancel()
    watched.put("d")
    assert names(watched.next()) == ["d"]
    assert watched.dropped[-1][0] is kept


def test_an_iterative_request_that_is_cancelled_and_answered_keeps_its_slot_until_it_is_idle():
    watched = Watched(max_batch_size=1)
    running, _ = watched.put("a", "b")
    watched.next()
    running.answer.cancel()
    watched.batcher.release(running)
    watched.now = SECOND
    assert names(watched.next()) == ["b"]


def test_what_has_begun_is_executed_to_its_end():
    watched = Watched()
    (request,) = watched.put("a")
    watched.batcher.close()
    with pytest.raises(InferenceError, match="has stopped accepting"):
        watched.put("b")
    assert names(watched.next()) == ["a"]
    watched.batcher.reschedule(request)
    assert names(watched.next()) == ["a"]
    watched.batcher.release(request)
    assert watched.next() is None


def test_what_is_drained_is_everything():
    watched = Watched(max_batch_size=1)
    requests = watched.put("a", "b")
    assert sorted(names(watched.batcher.drain())) == ["a", "b"]
    assert watched.batcher.reschedule(requests[0]) == ""
    watched.batcher.close()
    assert watched.next() is None


def test_an_exact_batch_is_one_request():
    watched = Watched()
    with pytest.raises(InferenceError, match="Send them one by one"):
        watched.batcher.put_batch([pending(), pending()])
    watched.batcher.put_batch([pending(request_id="a")])
    assert names(watched.next()) == ["a"]


@pytest.mark.parametrize("scheduling", [DIRECT, OLDEST])
@pytest.mark.parametrize("sequence", [7, "seven"])
def test_a_sequence_begins_and_ends(scheduling, sequence):
    watched = Watched(scheduling)
    for name, flags in (("a", START), ("b", 0), ("c", END)):
        watched.send(sequence, name, flags)
        assert watched.run() == [name]
    with pytest.raises(InferenceError) as refused:
        watched.send(sequence, "d")
    assert refused.value.message == MISSING_START.format(sequence)
    watched.send(sequence, "e", START | END)
    assert watched.run() == ["e"]


@pytest.mark.parametrize("scheduling", [DIRECT, OLDEST])
def test_a_number_and_its_digits_are_two_sequences(scheduling):
    watched = Watched(scheduling)
    watched.send(5, "a", START)
    with pytest.raises(InferenceError, match="sequence 5 "):
        watched.send("5", "b")


@pytest.mark.parametrize("scheduling", [DIRECT, OLDEST])
@pytest.mark.parametrize("nothing", [0, ""])
def test_what_belongs_to_no_sequence_is_refused(scheduling, nothing):
    with pytest.raises(InferenceError, match="non-zero or non-empty correlation ID"):
        Watched(scheduling).send(nothing, "a", START)


@pytest.mark.parametrize("scheduling", [DIRECT, OLDEST, ITERATIVE])
def test_a_request_of_two_rows_is_refused(scheduling):
    request = pending(rows=2)
    request.correlation_id, request.flags = 7, START
    with pytest.raises(InferenceError, match="must specify batch-size 1"):
        Watched(scheduling).batcher.put(request)


def test_a_running_sequence_that_starts_anew_stays_in_its_slot():
    watched = Watched(DIRECT)
    watched.send(7, "a", START)
    watched.send(8, "b", START)
    watched.send(7, "c", START)
    assert [watched.run(), watched.run()] == [["a", "b"], ["c"]]
    (warning,) = watched.warnings
    assert warning.startswith("sequence 7 for model 'model' has a conflict. ")


def test_direct_batches_have_gaps_and_oldest_ones_have_none():
    for scheduling, expected in ((DIRECT, [None, "c"]), (OLDEST, ["c"])):
        watched = Watched(scheduling)
        watched.send(7, "a", START)
        watched.send(8, "b", START)
        assert watched.run() == ["a", "b"]
        watched.send(8, "c")
        assert watched.run() == expected


def test_a_request_of_another_shape_waits_in_its_slot():
    watched = Watched(DIRECT)
    watched.send(7, "a", START, sizes={"OPEN": 1})
    watched.send(8, "b", START, sizes={"OPEN": 2})
    assert [watched.run(), watched.run()] == [["a", None], [None, "b"]]


def test_a_direct_slot_is_refilled_when_its_last_request_is_taken():
    watched = Watched(DIRECT, max_batch_size=1)
    watched.send(7, "a", START | END)
    watched.send(8, "b", START)
    watched.send(8, "c", END)
    watched.send(9, "d", START | END)
    assert [watched.run() for _ in range(4)] == [["a"], ["b"], ["c"], ["d"]]


def test_oldest_has_one_request_of_a_sequence_in_flight():
    watched = Watched(OLDEST)
    watched.send(7, "a", START)
    watched.send(7, "b")
    watched.send(8, "c", START)
    batch = watched.next()
    assert names(batch) == ["a", "c"]
    watched.batcher.release(batch[1])
    watched.batcher.release(batch[0])
    assert watched.run() == ["b"]


def test_a_slot_with_a_request_in_flight_is_not_used_again_before_it_is_executed():
    watched = Watched(OLDEST.replace("2", "1"))
    watched.send(7, "a", START | END)
    (first,) = watched.next()
    watched.send(8, "b", START | END)
    watched.batcher.release(first)
    assert watched.run() == ["b"]


def test_utilization_and_delay():
    watched = Watched(
        "sequence_batching { direct { minimum_slot_utilization: 1.0 "
        "max_queue_delay_microseconds: 5000000 } }"
    )
    watched.send(7, "a", START)
    watched.send(8, "b", START)
    assert watched.run() == ["a", "b"]
    watched.send(8, "c")
    watched.now = 5 * SECOND
    assert watched.run() == [None, "c"]


def test_a_delay_without_utilization_is_none():
    watched = Watched("sequence_batching { direct { max_queue_delay_microseconds: 5000000 } }")
    watched.send(7, "a", START)
    assert watched.run() == ["a"]


def test_the_delay_of_the_oldest_counts_from_its_turn():
    watched = Watched(
        "sequence_batching { max_sequence_idle_microseconds: 9000000 oldest { "
        "max_candidate_sequences: 2 max_queue_delay_microseconds: 2000000 } }"
    )
    watched.send(7, "a", START)
    watched.send(7, "b")
    watched.now = 2 * SECOND
    assert watched.run() == ["a"]
    taken = []
    thread = threading.Thread(target=lambda: taken.append(watched.run()), daemon=True)
    watched.send(8, "c", START)  # two are a batch of the preferred size
    thread.start()
    thread.join(30)
    assert taken == [["b", "c"]]


@pytest.mark.parametrize("scheduling", [DIRECT, OLDEST])
def test_an_idle_sequence_is_forgotten_and_its_slot_is_free(scheduling):
    watched = Watched(scheduling.replace("2", "1"), max_batch_size=1)
    watched.send(7, "a", START)
    assert watched.run() == ["a"]
    watched.send(8, "b", START)
    watched.now = SECOND
    with pytest.raises(InferenceError) as refused:
        watched.send(7, "c")
    assert refused.value.message == MISSING_START.format(7)
    assert watched.run() == ["b"]


def test_an_idle_sequence_leaves_its_slot_while_nobody_asks():
    clock = ManualClock()
    watched = Watched(DIRECT, max_batch_size=1, clock=clock)
    watched.send(7, "a", START)
    assert watched.run() == ["a"]
    watched.send(8, "b", START)
    taken = []
    thread = threading.Thread(target=lambda: taken.append(watched.run()), daemon=True)
    thread.start()
    while thread.is_alive():
        clock.advance(0.5)
        thread.join(0.01)
    assert taken == [["b"]]


def test_a_sequence_in_the_backlog_is_idle_only_when_it_has_a_slot():
    watched = Watched(DIRECT, max_batch_size=1)
    watched.send(7, "a", START)
    watched.send(8, "b", START)
    watched.now = SECOND // 2
    watched.send(7, "c")
    watched.now = SECOND
    watched.send(8, "d")  # is not refused
    assert watched.run() == ["a"]


@pytest.mark.parametrize("clock", ["told", "manual"])
def test_a_timeout_in_the_backlog(clock):
    clock = ManualClock() if clock == "manual" else None
    watched = Watched(DIRECT, max_batch_size=1, clock=clock)
    watched.send(7, "a", START)
    first = watched.send(8, "b", START)
    late = watched.send(8, "c", timeout=5)
    if clock is None:
        watched.now = 5000
        assert watched.next()
    else:
        # While the instance is busy, or nobody asks.
        while not watched.answered.is_set():
            clock.advance(1e-6)
            watched.answered.wait(0.01)
    text = "timeout of the corresponding sequence has been expired"
    assert watched.dropped == [(each, text, StatusCode.UNAVAILABLE) for each in (first, late)]
    with pytest.raises(InferenceError):
        watched.send(8, "d")


def test_two_sequences_of_one_id_in_the_backlog():
    watched = Watched(DIRECT, max_batch_size=1)
    watched.send(7, "a", START)
    watched.send(8, "b", START | END)
    watched.send(8, "c", START)
    watched.send(8, "d", END)
    watched.send(7, "e", END)
    assert [watched.run() for _ in range(5)] == [["a"], ["e"], ["b"], ["c"], ["d"]]
    assert watched.warnings == []


def test_the_rest_of_a_cancelled_sequence_is_cancelled():
    watched = Watched(DIRECT)
    first = watched.send(7, "a", START)
    second = watched.send(7, "b")
    first.answer.cancel()
    watched.send(8, "c", START)
    assert watched.run() == [None, "c"]
    assert [each for each, _, _ in watched.dropped] == [first, second]


@pytest.mark.parametrize("scheduling", [DIRECT, OLDEST])
def test_open_sequences_do_not_keep_the_backlog_waiting_when_the_model_ends(scheduling):
    watched = Watched(scheduling.replace("2", "1"), max_batch_size=1)
    watched.send(7, "a", START)
    watched.send(8, "b", START)
    watched.batcher.close()
    assert [watched.run(), watched.run()] == [["a"], ["b"]]
    assert watched.next() is None


@pytest.mark.parametrize("scheduling", [DIRECT, OLDEST])
def test_only_iterative_requests_are_rescheduled(scheduling):
    watched = Watched(scheduling)
    request = watched.send(7, "a", START)
    watched.next()
    assert watched.batcher.reschedule(request) == NOT_HANDLED
    assert "iterative_sequence: true" in watched.batcher.instead(request)
    watched.send(7, "b")
    assert watched.run() == ["b"]


def test_a_clients_iterative_sequence_ends_with_its_request():
    watched = Watched(ITERATIVE)
    watched.send(7, "a", START)
    assert watched.run() == ["a"]
    with pytest.raises(InferenceError, match="must specify the START flag"):
        watched.send(7, "b")
    last = watched.send(7, "c", START | END)
    watched.next()
    assert watched.batcher.reschedule(last) == NOT_HANDLED


def test_what_would_hang_is_refused():
    with pytest.raises(InferenceError, match="Leave the END flag out"):
        Watched(ITERATIVE_OLDEST).send(7, "a", START | END)


def test_a_held_batcher_executes_nothing():
    watched = Watched(DIRECT)
    with watched.batcher.hold("model") as held:
        watched.send(7, "a", START)
        watched.send(8, "b", START)
        held.wait(2)
    assert watched.run() == ["a", "b"]
