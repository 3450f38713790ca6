"""One request at a time, in the order in which they came, and an end that forgets nobody."""

import queue
from collections import deque
from concurrent.futures import ThreadPoolExecutor

import pytest
from patience import wait_until
from queued import pending, read_config

from triton_stub.core.scheduling import default_scheduler
from triton_stub.core.scheduling.batch_policy import BatchPolicy
from triton_stub.core.scheduling.default_scheduler import DefaultScheduler
from triton_stub.errors import InferenceError, StatusCode

TIMEOUT = 60


@pytest.fixture
def scheduler():
    return DefaultScheduler(BatchPolicy(read_config("")))


def test_one_at_a_time_in_order(scheduler):
    requests = [pending(rows) for rows in (1, 3, 2)]
    for request in requests:
        scheduler.put(request)
    assert [scheduler.next_batch() for _ in requests] == [[request] for request in requests]


def test_an_exact_batch_of_one(scheduler):
    request = pending()
    scheduler.put_batch([request])
    assert scheduler.next_batch() == [request]


def test_an_exact_batch_of_more_is_refused(scheduler):
    with pytest.raises(InferenceError, match="one request at a time"):
        scheduler.put_batch([pending(), pending()])
    scheduler.close()
    assert scheduler.next_batch() is None


def test_the_instance_that_has_been_idle_for_longest_comes_first(scheduler):
    taken = queue.SimpleQueue()

    def work(instance):
        while (batch := scheduler.next_batch(instance)) is not None:
            taken.put((instance, batch))

    with ThreadPoolExecutor(3) as pool:
        for instance in range(3):
            pool.submit(work, instance)
            wait_until(lambda count=instance + 1: len(scheduler._idle) == count)
        requests = [pending() for _ in range(7)]
        order = []
        for request in requests:
            scheduler.put(request)
            order.append(taken.get(timeout=TIMEOUT))
            wait_until(lambda: len(scheduler._idle) == 3)
        scheduler.close()
    assert order == [(number % 3, [request]) for number, request in enumerate(requests)]


def test_what_is_queued_is_executed_before_the_end(scheduler):
    request = pending()
    scheduler.put(request)
    scheduler.close()
    scheduler.close()
    assert scheduler.next_batch() == [request]
    assert scheduler.next_batch() is None


def test_the_end_comes_to_every_instance(scheduler):
    with ThreadPoolExecutor(3) as pool:
        ends = [pool.submit(scheduler.next_batch, instance) for instance in range(3)]
        scheduler.close()
        assert [end.result(TIMEOUT) for end in ends] == [None, None, None]


def test_after_the_end_nothing_is_taken(scheduler):
    scheduler.close()
    with pytest.raises(InferenceError, match="has stopped accepting") as caught:
        scheduler.put(pending())
    assert caught.value.code is StatusCode.UNAVAILABLE


def test_what_is_left_is_given_back(scheduler):
    requests = [pending(), pending()]
    for request in requests:
        scheduler.put(request)
    scheduler.close()
    assert scheduler.drain() == requests
    assert scheduler.drain() == []
    assert scheduler.next_batch() is None


def test_an_instance_too_many_executes_what_waits_and_ends(scheduler):
    requests = [pending(), pending()]
    scheduler.put(requests[0])
    scheduler.update([], [0])
    scheduler.put(requests[1])
    assert [scheduler.next_batch(0) for _ in range(3)] == [[requests[0]], [requests[1]], None]


def test_an_idle_instance_too_many_ends_at_once(scheduler):
    with ThreadPoolExecutor(2) as pool:
        ends, stays = pool.submit(scheduler.next_batch, 0), pool.submit(scheduler.next_batch, 1)
        wait_until(lambda: len(scheduler._idle) == 2)
        scheduler.update([2], [0])
        assert ends.result(TIMEOUT) is None
        request = pending()
        scheduler.put(request)
        assert stays.result(TIMEOUT) == [request]
        scheduler.discard([1])
        assert scheduler.next_batch(1) is None


@pytest.mark.parametrize("after", ["add", "popleft"])
def test_an_interrupt_of_whoever_asks_leaves_every_instance_at_work(scheduler, monkeypatch, after):
    """Ctrl-C between any two steps of handing a request over: none waits for ever."""
    monkeypatch.setattr(default_scheduler, "_LOOKS_AGAIN", 0.05)
    taken = queue.SimpleQueue()

    def work():
        while (batch := scheduler.next_batch()) is not None:
            taken.put(batch)

    class Interrupting(deque):
        def popleft(self):
            if after == "add":
                raise KeyboardInterrupt
            super().popleft()
            raise KeyboardInterrupt

    with ThreadPoolExecutor(1) as pool:
        pool.submit(work)
        wait_until(lambda: len(scheduler._idle) == 1)
        first, second = pending(), pending()
        with monkeypatch.context() as patch:
            patch.setattr(scheduler, "_idle", Interrupting(scheduler._idle))
            with pytest.raises(KeyboardInterrupt):
                scheduler.put(first)
            left = deque(scheduler._idle)
        scheduler._idle = left
        assert taken.get(timeout=TIMEOUT) == [first]
        scheduler.put(second)
        assert taken.get(timeout=TIMEOUT) == [second]
        scheduler.close()
