"""One request at a time, in the order in which they came, and an end that forgets nobody."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from queued import pending, read_config

from triton_stub.core.batch_policy import BatchPolicy
from triton_stub.core.default_scheduler import DefaultScheduler
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
