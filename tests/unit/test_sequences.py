"""Slots and the backlog of iterative sequences, without any model."""

import pytest
from queued import Told, pending, read_config

from triton_stub.core.batcher import BatchPolicy
from triton_stub.core.sequences import IterativeBatcher, unsupported
from triton_stub.errors import InferenceError, StatusCode

DIRECT = "sequence_batching { iterative_sequence: true }"
OLDEST = (
    "sequence_batching { iterative_sequence: true oldest { max_candidate_sequences: 2 "
    "preferred_batch_size: [ 2 ] } }"
)
SECOND = 10**9


class Watched:
    """A batcher with a clock of the test's own, and what becomes of its requests."""

    def __init__(self, scheduling=DIRECT, max_batch_size=2, instances=1):
        config = read_config(scheduling, max_batch_size=max_batch_size)
        self.now = 0
        self.dropped = []
        self.ended = []
        self.batcher = IterativeBatcher(
            config,
            BatchPolicy(config),
            instances,
            drop=lambda pending, error: self.dropped.append((pending, error.message, error.code)),
            ended=self.ended.append,
            clock=Told(lambda: self.now),
        )

    def put(self, *ids):
        requests = [pending(request_id=request_id) for request_id in ids]
        for request in requests:
            self.batcher.put(request)
        return requests

    def next(self, instance=0):
        return self.batcher.next_batch(instance)


def names(batch):
    return [None if one.is_null else one.request.request_id for one in batch]


def test_each_request_begins_a_sequence_of_its_own():
    watched = Watched()
    first, second = watched.put("a", "b")
    assert [(one.correlation_id, one.flags) for one in (first, second)] == [(1, 1), (2, 1)]
    assert names(watched.next()) == ["a", "b"]


@pytest.mark.parametrize("scheduling", [DIRECT, OLDEST])
def test_a_rescheduled_request_is_executed_again_without_its_start_flag(scheduling):
    watched = Watched(scheduling)
    (request,) = watched.put("a")
    watched.next()
    assert watched.batcher.reschedule(request) == ""
    assert (request.correlation_id, request.flags) == (1, 0)
    assert names(watched.next()) == ["a"]
    assert watched.ended == []
    watched.batcher.release(request)
    assert watched.ended == [request]


@pytest.mark.parametrize("scheduling", [DIRECT, OLDEST])
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
    assert watched.ended == [first]


def test_every_instance_has_slots_of_its_own():
    watched = Watched(max_batch_size=1, instances=2)
    watched.put("a", "b", "c")
    assert [names(watched.next(0)), names(watched.next(1))] == [["a"], ["b"]]


def test_whoever_comes_back_too_late_is_forgotten():
    watched = Watched()
    (request,) = watched.put("a")
    watched.next()
    watched.now = request.enqueued + SECOND
    assert watched.batcher.reschedule(request) == (
        "inference request for sequence 1 to model 'model' must specify the START flag on the "
        "first request of the sequence"
    )
    assert "1000000" in watched.batcher.instead(request)
    watched.put("b")
    assert names(watched.next()) == ["b"]


def test_a_cancelled_request_is_dropped_wherever_it_waits():
    watched = Watched(max_batch_size=1)
    running, backlog, kept = watched.put("a", "b", "c")
    watched.next()
    backlog.answer.cancel()
    running.answer.cancel()
    assert watched.batcher.reschedule(running) == ""
    assert watched.dropped == [
        (running, "", StatusCode.CANCELLED),
        (backlog, "", StatusCode.CANCELLED),
    ]
    kept.answer.cancel()
    watched.put("d")
    assert names(watched.next()) == ["d"]
    assert watched.dropped[-1][0] is kept


def test_a_timeout_in_the_backlog():
    watched = Watched(max_batch_size=1)
    (running,) = watched.put("a")
    late = pending(request_id="b")
    late.request.timeout = 5
    watched.batcher.put(late)
    watched.next()
    watched.now = late.enqueued + 6000
    watched.batcher.release(running)
    ((dropped, text, code),) = watched.dropped
    assert (dropped, code) == (late, StatusCode.UNAVAILABLE)
    assert text == "timeout of the corresponding sequence has been expired"


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
    assert watched.batcher.drain() == requests
    assert watched.batcher.reschedule(requests[0]) == ""
    watched.batcher.close()
    assert watched.next() is None


@pytest.mark.parametrize(
    ("fields", "words"),
    [({"rows": 2}, "must specify batch-size 1"), ({"correlation_id": 7}, "send no correlation id")],
)
def test_what_is_refused(fields, words):
    request = pending(rows=fields.get("rows", 1))
    request.request.correlation_id = fields.get("correlation_id", 0)
    with pytest.raises(InferenceError, match=words):
        Watched().batcher.put(request)


def test_an_exact_batch_is_one_request():
    watched = Watched()
    with pytest.raises(InferenceError, match="Send them one by one"):
        watched.batcher.put_batch([pending(), pending()])
    watched.batcher.put_batch([pending(request_id="a")])
    assert names(watched.next()) == ["a"]


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("", []),
        (DIRECT, []),
        (OLDEST, []),
        ("sequence_batching { }", ["sequence_batching without iterative_sequence"]),
        (
            "sequence_batching { iterative_sequence: true oldest { preserve_ordering: true } }",
            ["sequence_batching.oldest.preserve_ordering"],
        ),
    ],
)
def test_what_is_not_imitated(text, missing):
    assert unsupported(read_config(text)) == missing
