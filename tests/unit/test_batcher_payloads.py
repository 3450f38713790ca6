"""What a batcher forms ahead of time, and what the passing of time does, with a clock of the test.

No thread waits: whoever asks for a batch knows that there is one.
"""

import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from queued import OPTIONAL, Told, pending, read_config

from triton_stub.core.clock import ManualClock
from triton_stub.core.scheduling.batch_policy import BatchPolicy
from triton_stub.core.scheduling.batcher import Batcher
from triton_stub.core.scheduling.priority_queue import PriorityQueue
from triton_stub.errors import InferenceError

PATIENCE = 60
DELAYED = "max_queue_delay_microseconds: 100"
TWO = "preferred_batch_size: 2"
REJECTS = "default_queue_policy { default_timeout_microseconds: 50 }"
DELAYS = "default_queue_policy { default_timeout_microseconds: 50 timeout_action: DELAY }"
PRIORITIES = "priority_levels: 2 default_priority_level: 2"


class Bench:
    """A batcher, the time by which it lives, and what it has not executed."""

    def __init__(self, batching, instances=1, **options):
        config = read_config(f"dynamic_batching {{ {batching} }}", **options)
        self.now = 0
        self.dropped = {}
        self.batcher = Batcher(
            BatchPolicy(config),
            queue=PriorityQueue.of(config.dynamic_batching),
            clock=Told(lambda: self.now),
            instances=instances,
            drop=lambda request, error: self.dropped.update({request: str(error)}),
        )

    def put(self, *requests, at=0):
        self.now = max(self.now, at * 1000)
        for request in requests:
            request.enqueued = self.now
            self.batcher.put(request)
        return requests

    def take(self, at=0):
        self.now = max(self.now, at * 1000)
        return tuple(self.batcher.next_batch())


def some(count, rows=1, **sizes):
    return [pending(rows, **sizes) for _ in range(count)]


def test_a_batch_grows_until_it_is_taken():
    bench = Bench("")
    requests = [*bench.put(*some(2)), *bench.put(*some(3))]
    assert bench.take() == tuple(requests)


def test_no_delay_and_a_preferred_size_seal_a_batch():
    bench = Bench(TWO)
    requests = bench.put(*some(5))
    assert [bench.take() for _ in range(3)] == [requests[:2], requests[2:4], requests[4:]]


def test_with_a_delay_a_preferred_size_may_be_exceeded_by_one():
    bench = Bench(f"{TWO} {DELAYED}")
    requests = bench.put(*some(4))
    assert bench.take() == requests[:3]


def test_no_more_than_two_batches_for_each_instance_are_formed():
    bench = Bench("", instances=2)
    requests = bench.put(*some(5, rows=8))
    for request in requests:
        request.answer.cancel()
    assert [bench.take() for _ in range(4)] == [(request,) for request in requests[:4]]
    assert bench.dropped == {requests[4]: ""}


def test_late_batches_that_fit_are_merged():
    bench = Bench(f"{TWO} {DELAYED}")
    requests = bench.put(*some(6))
    assert bench.take(at=101) == requests[:5]


@pytest.mark.parametrize("at", [99, 100])
def test_batches_that_are_not_late_are_not_merged(at):
    bench = Bench(f"{TWO} {DELAYED}")
    requests = bench.put(*some(6))
    assert bench.take(at=at) == requests[:3]


def test_batches_that_do_not_fit_are_not_merged_and_grow_no_more():
    bench = Bench(f"preferred_batch_size: 4 {DELAYED}")
    requests = bench.put(*some(2, rows=4), *some(1, rows=3))
    assert bench.take(at=101) == requests[:2]


def test_other_shapes_are_not_merged():
    bench = Bench(f"{TWO} {DELAYED}")
    first = bench.put(*some(3, OPEN=1))
    second = bench.put(*some(2, OPEN=2))
    assert [bench.take(at=101), bench.take()] == [first, second]


def test_a_batch_waits_for_others_in_its_own_time():
    # Nobody was there when the delay was over: what came later came too late for the first batch,
    # which takes it all the same, because no instance has taken the batch.
    bench = Bench(DELAYED)
    first = bench.put(*some(1))
    second = bench.put(*some(1), at=150)
    assert bench.take(at=151) == (*first, *second)


def test_another_request_is_not_looked_at_before_it_matters():
    # Only optional inputs differ: the server does not wake up for it.
    bench = Bench(DELAYED, inputs=OPTIONAL.replace("-1 ]", "1 ]"))
    first = bench.put(pending(OPEN=1))
    second = bench.put(pending(OPEN=1, FIXED=4), at=10)
    first[0].answer.cancel()
    assert bench.take(at=120) == second
    assert bench.dropped == {first[0]: ""}


def test_shapes_are_looked_at_at_once():
    bench = Bench(DELAYED)
    first = bench.put(pending(OPEN=1))
    second = bench.put(pending(OPEN=2))
    first[0].answer.cancel()
    assert bench.take() == first
    assert bench.take(at=120) == second


def test_who_is_too_late_is_not_executed():
    bench = Bench(f"{REJECTS} {DELAYED}")
    (late,) = bench.put(pending())
    in_time = bench.put(pending(), at=40)
    bench.batcher.close()
    assert bench.take(at=60) == in_time
    assert bench.dropped == {late: "Request timeout expired"}


def test_who_is_delayed_is_executed_last():
    bench = Bench(f"{DELAYS} {PRIORITIES.replace('2', '1')}")
    (late,) = bench.put(pending(5))
    (in_time,) = bench.put(pending(5), at=40)
    assert [bench.take(at=60), bench.take()] == [(in_time,), (late,)]


def test_a_closed_batcher_waits_for_nobody():
    bench = Bench(f"{PRIORITIES} {DELAYED}")
    requests = bench.put(*some(2))
    bench.batcher.close()
    assert bench.take() == requests
    assert bench.batcher.next_batch() is None


def test_what_is_drained_has_no_answer_yet():
    bench = Bench(TWO)
    requests = bench.put(*some(7))
    assert set(bench.batcher.drain()) == set(requests)
    assert not bench.dropped


def test_time_alone_answers_while_nobody_is_free():
    clock, dropped = ManualClock(), threading.Event()
    config = read_config(f"dynamic_batching {{ {REJECTS} }}")
    batcher = Batcher(
        BatchPolicy(config),
        queue=PriorityQueue.of(config.dynamic_batching),
        clock=clock,
        drop=lambda *_: dropped.set(),
    )
    batcher.put(pending(enqueued=clock.now()))
    assert not dropped.is_set()
    clock.advance(0.000051)
    assert dropped.wait(PATIENCE)
    watch = batcher._watch
    batcher.close()
    assert batcher.next_batch() is None
    watch.join(PATIENCE)
    assert not watch.is_alive()


def test_time_alone_forms_a_batch_for_an_instance_that_waits():
    clock = ManualClock()
    config = read_config(f"dynamic_batching {{ {DELAYED} }}")
    batcher = Batcher(BatchPolicy(config), clock=clock)
    request = pending(enqueued=clock.now())
    with ThreadPoolExecutor(1) as pool:
        batch = pool.submit(batcher.next_batch)
        batcher.put(request)
        clock.advance(0.0001)
        assert batch.result(PATIENCE) == [request]


def test_whoever_hears_of_the_end_of_a_request_may_send_the_next_one():
    bench = Bench("")
    requests, again = some(4, rows=8), pending()
    bench.batcher._drop = lambda *_: bench.put(again)
    requests[2].answer.cancel()
    bench.put(*requests[:3])
    assert [bench.take() for _ in range(2)] == [(request,) for request in requests[:2]]
    assert bench.take() == (again,)


class TestHold:
    def test_all_are_looked_at_at_once(self):
        bench = Bench(TWO)
        held = bench.batcher.hold("model 'm'")
        requests = bench.put(*some(1), *some(1, rows=2), *some(1))
        held.wait(3)
        assert held.count == 3
        held.release()
        assert [bench.take() for _ in range(3)] == [(request,) for request in requests]
        bench.put(*some(1), *some(1, rows=2))
        assert len(bench.take()) == 2  # one after the other they come together

    def test_priorities(self):
        bench = Bench(PRIORITIES)
        with bench.batcher.hold("model 'm'"):
            requests = [pending(8) for _ in range(4)]
            for request, priority in zip(requests, (2, 1, 0, 1), strict=True):
                request.request = dataclasses.replace(request.request, priority=priority)
            bench.put(*requests)
        assert [bench.take() for _ in requests] == [(requests[n],) for n in (1, 3, 0, 2)]

    def test_what_is_late_by_then(self):
        bench = Bench(REJECTS)
        with bench.batcher.hold("model 'm'"):
            (late,) = bench.put(pending())
            (in_time,) = bench.put(pending(), at=60)
            assert not bench.dropped
        assert bench.dropped == {late: "Request timeout expired"}
        assert bench.take() == (in_time,)

    def test_a_full_queue_refuses_at_once(self):
        bench = Bench("default_queue_policy { max_queue_size: 1 }")
        with bench.batcher.hold("model 'm'") as held:
            bench.put(pending())
            with pytest.raises(InferenceError, match="Exceeds maximum queue size"):
                bench.put(pending())
            assert held.count == 1

    def test_closing_lets_them_go(self):
        bench = Bench("")
        held = bench.batcher.hold("model 'm'")
        requests = bench.put(*some(2))
        bench.batcher.close()
        assert bench.take() == requests
        held.release()

    def test_batches_that_a_test_has_formed_go_first(self):
        bench = Bench("")
        with bench.batcher.hold("model 'm'") as held:
            one = bench.put(pending())
            batch = some(2)
            bench.batcher.put_batch(batch)
            assert held.count == 3
        assert [bench.take(), bench.take()] == [tuple(batch), one]

    def test_what_was_late_before(self):
        bench = Bench(REJECTS)
        (late,) = bench.put(pending())
        bench.now = 60_000
        with bench.batcher.hold("model 'm'"):
            assert bench.dropped == {late: "Request timeout expired"}

    def test_a_batch_that_waits_is_held_too(self):
        bench = Bench(DELAYED)
        first = bench.put(pending())
        with bench.batcher.hold("model 'm'"):
            second = bench.put(pending(), at=200)
        assert bench.take() == (*first, *second)
