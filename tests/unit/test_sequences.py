"""Slots and ids of sequences, without any model."""

import threading

import pytest
from queued import pending
from sequenced import (
    DIRECT,
    END,
    ITERATIVE,
    ITERATIVE_OLDEST,
    MISSING_START,
    OLDEST,
    SECOND,
    START,
    Watched,
    names,
)

from triton_stub.core.scheduling.scheduler import NOT_HANDLED
from triton_stub.errors import InferenceError, StatusCode
from triton_stub.pb_utils.logger import LogLevel


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
    ((level, warning),) = watched.notes
    assert level == LogLevel.WARNING
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
def test_only_iterative_requests_are_rescheduled(scheduling):
    watched = Watched(scheduling)
    request = watched.send(7, "a", START)
    watched.next()
    assert watched.batcher.reschedule(request) == NOT_HANDLED
    assert "iterative_sequence: true" in watched.batcher.instead(request)
    watched.send(7, "b")
    assert watched.run() == ["b"]


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
