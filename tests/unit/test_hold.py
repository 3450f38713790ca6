"""Requests that are collected, and let go all at once."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from queued import pending, read_config

from triton_stub.core.scheduling.batch_policy import BatchPolicy
from triton_stub.core.scheduling.batcher import Batcher
from triton_stub.core.scheduling.default_scheduler import DefaultScheduler
from triton_stub.core.scheduling.hold import Hold
from triton_stub.errors import InferenceError

PATIENCE = 60


@pytest.fixture(params=["", "dynamic_batching { }"])
def scheduler(request):
    policy = BatchPolicy(read_config(request.param))
    return Batcher(policy) if policy.is_dynamic else DefaultScheduler(policy)


def rest(scheduler):
    scheduler.close()
    return [request for batch in iter(scheduler.next_batch, None) for request in batch]


def test_nothing_is_executed_before_the_end(scheduler):
    with ThreadPoolExecutor(1) as pool:
        batch = pool.submit(scheduler.next_batch)
        with scheduler.hold("model 'm'") as held:
            request = pending(8)
            scheduler.put(request)
            assert (held.count, scheduler.held) == (1, held)
            assert not batch.done()
        assert batch.result(PATIENCE) == [request]
    assert scheduler.held is None


def test_their_order_stays(scheduler):
    requests = [pending(8) for _ in range(4)]
    scheduler.put(requests[0])
    with scheduler.hold("model 'm'"):
        for request in requests[1:]:
            scheduler.put(request)
    assert rest(scheduler) == requests


def test_only_one_holds(scheduler):
    held = scheduler.hold("model 'm'")
    with pytest.raises(InferenceError, match=r"^model 'm' is held already: release it first$"):
        scheduler.hold("model 'm'")
    held.release()
    with scheduler.hold("model 'm'") as again:
        held.release()  # of the past
        assert scheduler.held is again


def test_the_end_of_a_model_lets_them_go(scheduler):
    scheduler.hold("model 'm'")
    request = pending()
    scheduler.put(request)
    assert rest(scheduler) == [request]


def test_waiting_for_requests_of_other_threads(scheduler):
    with scheduler.hold("model 'm'") as held, ThreadPoolExecutor(4) as pool:
        for _ in range(4):
            pool.submit(scheduler.put, pending())
        held.wait(4)
        assert held.count == 4
    assert len(rest(scheduler)) == 4


def test_waiting_for_what_never_comes():
    held = Hold("model 'm'", lambda: None)
    held.add()
    with pytest.raises(
        TimeoutError, match=r"1 of 2 requests are in the queue of model 'm' after 0"
    ):
        held.wait(2, timeout=0)


def test_nobody_waits_for_requests_that_are_not_collected_any_more(scheduler):
    with scheduler.hold("model 'm'") as held:
        scheduler.put(pending())
    held.wait(1)
    told = "model 'm' is not held any more, and 1 of 2 requests were queued while it was"
    with pytest.raises(InferenceError, match=told):
        held.wait(2)


def test_who_waits_hears_of_the_end(scheduler):
    held = scheduler.hold("model 'm'")
    with ThreadPoolExecutor(1) as pool:
        waits = pool.submit(held.wait, 1, PATIENCE)
        held.release()
        with pytest.raises(InferenceError, match="is not held any more"):
            waits.result(PATIENCE / 2)


def test_whose_it_is():
    held, seen = Hold("model 'm'", lambda: None), []
    thread = threading.Thread(target=lambda: seen.append(held.is_own))
    thread.start()
    thread.join(PATIENCE)
    assert (held.is_own, seen) == (True, [False])
