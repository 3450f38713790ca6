"""Sequences that wait, are idle, late or cancelled, or that the end of the model meets."""

import threading

import pytest
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

from triton_stub.core.clock import ManualClock
from triton_stub.core.scheduling.scheduler import NOT_HANDLED
from triton_stub.errors import InferenceError, StatusCode
from triton_stub.pb_utils.logger import LogLevel


@pytest.mark.parametrize("scheduling", [ITERATIVE, ITERATIVE_OLDEST])
def test_the_backlog_waits_for_a_slot(scheduling):
    watched = Watched(scheduling)
    first, second, _ = watched.put("a", "b", "c")
    assert names(watched.next()) == ["a", "b"]
    watched.batcher.release(first)
    watched.batcher.reschedule(second)
    assert sorted(names(watched.next())) == ["b", "c"]


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


@pytest.mark.parametrize(("idle", "is_forgotten"), [(2**63 - 1, False), (2**63, True)])
def test_a_number_that_is_to_mean_never_may_mean_at_once(idle, is_forgotten):
    watched = Watched(f"sequence_batching {{ max_sequence_idle_microseconds: {idle} }}")
    watched.send(7, "a", START)
    assert watched.run() == ["a"]
    if is_forgotten:
        with pytest.raises(InferenceError, match="must specify the START flag"):
            watched.send(7, "b")
    else:
        watched.send(7, "b")
        assert watched.run() == ["b"]


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


def test_nobody_watches_the_time_of_a_sequence_that_waits_no_more():
    before = set(threading.enumerate())
    watched = Watched(DIRECT, max_batch_size=1, clock=ManualClock())
    watched.send(7, "a", START | END)
    watched.send(8, "b", START | END, timeout=5)
    (watch,) = set(threading.enumerate()) - before
    assert [watched.run(), watched.run()] == [["a"], ["b"]]
    watch.join(60)  # seconds; nobody advances the clock
    assert not watch.is_alive()


def test_an_iterative_sequence_that_is_forgotten_meanwhile_cannot_be_ended():
    watched = Watched(max_batch_size=1)
    (request,) = watched.put("a")
    watched.next()
    watched.now = SECOND
    watched.batcher.release(request)
    assert watched.notes == [(LogLevel.ERROR, f"Invalid argument: {MISSING_START.format(1)}")]
    watched.put("b")
    assert watched.run() == ["b"]


def test_two_sequences_of_one_id_in_the_backlog():
    watched = Watched(DIRECT, max_batch_size=1)
    watched.send(7, "a", START)
    watched.send(8, "b", START | END)
    watched.send(8, "c", START)
    watched.send(8, "d", END)
    watched.send(7, "e", END)
    assert [watched.run() for _ in range(5)] == [["a"], ["e"], ["b"], ["c"], ["d"]]
    assert watched.notes == []


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
    watched.send(9, "c", START)
    watched.batcher.close()
    assert [watched.run() for _ in range(3)] == [["a"], ["b"], ["c"]]
    assert watched.next() is None


def test_a_clients_iterative_sequence_ends_with_its_request():
    watched = Watched(ITERATIVE)
    watched.send(7, "a", START)
    assert watched.run() == ["a"]
    with pytest.raises(InferenceError, match="must specify the START flag"):
        watched.send(7, "b")
    last = watched.send(7, "c", START | END)
    watched.next()
    assert watched.batcher.reschedule(last) == NOT_HANDLED
