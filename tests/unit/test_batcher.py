"""Which requests make the next batch, and the queue that they wait in."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from queued import OPTIONAL, Told, pending, read_config

from triton_stub.core.scheduling.batch_policy import BatchPolicy
from triton_stub.core.scheduling.batcher import Batcher
from triton_stub.errors import InferenceError, StatusCode

DYNAMIC = "dynamic_batching { }"
FOURS = "dynamic_batching { preferred_batch_size: [ 4, 8 ] }"
ONLY_FOUR = "dynamic_batching { preferred_batch_size: [ 4 ] }"
DELAY = "dynamic_batching { max_queue_delay_microseconds: 100 }"
FOUR_DELAYED = "dynamic_batching { preferred_batch_size: [ 4 ] max_queue_delay_microseconds: 100 }"


def policy(scheduling, **options):
    return BatchPolicy(read_config(scheduling, **options))


def plan(scheduling, rows, age_us=0, **options):
    return policy(scheduling, **options).plan([pending(size) for size in rows], age_us * 1000)


@pytest.mark.parametrize(
    ("scheduling", "rows", "taken"),
    [
        pytest.param("", [1, 1], 1, id="no batcher: one at a time"),
        pytest.param(DYNAMIC, [1], 1, id="alone"),
        pytest.param(DYNAMIC, [1, 1, 1], 3, id="all that wait"),
        pytest.param(DYNAMIC, [3, 5, 1], 2, id="full"),
        pytest.param(DYNAMIC, [3, 3, 3], 2, id="the next would be too many"),
        pytest.param(DYNAMIC, [8, 8], 1, id="one fills it"),
        pytest.param(FOURS, [1] * 5, 4, id="the preferred size, though more wait"),
        pytest.param(FOURS, [1] * 9, 8, id="the largest preferred size"),
        pytest.param(FOURS, [1] * 3, 3, id="what is there, if nobody may wait"),
        pytest.param(FOURS, [3, 2, 3], 3, id="a preferred size after one that is none"),
        pytest.param(ONLY_FOUR, [3, 3], 1, id="not beyond the largest preferred size"),
        pytest.param(ONLY_FOUR, [4, 1, 1], 1, id="the preferred size, not the largest that fits"),
        pytest.param(ONLY_FOUR, [5, 1], 1, id="a single request may be beyond it"),
    ],
)
def test_requests_taken_without_delay(scheduling, rows, taken):
    assert plan(scheduling, rows) == (taken, 0)


@pytest.mark.parametrize(
    ("scheduling", "rows", "age_us", "outcome"),
    [
        pytest.param(DELAY, [1], 0, (0, 100_000), id="wait for more"),
        pytest.param(DELAY, [1, 1], 40, (0, 60_000), id="the oldest request counts"),
        pytest.param(DELAY, [1, 1], 100, (2, 0), id="long enough"),
        pytest.param(DELAY, [4, 4], 0, (2, 0), id="full"),
        pytest.param(DELAY, [4, 5], 0, (1, 0), id="it cannot grow"),
        pytest.param(FOUR_DELAYED, [1] * 5, 0, (4, 0), id="a preferred size does not wait"),
        pytest.param(FOUR_DELAYED, [1] * 5, 100, (5, 0), id="too old to be choosy"),
        pytest.param(FOUR_DELAYED, [5], 0, (1, 0), id="beyond every preferred size"),
    ],
)
def test_requests_taken_with_delay(scheduling, rows, age_us, outcome):
    assert plan(scheduling, rows, age_us) == outcome


def test_without_max_batch_size_there_are_no_batches():
    assert plan(DYNAMIC, [1, 1], max_batch_size=0) == (1, 0)


@pytest.mark.parametrize("scheduling", [DYNAMIC, DELAY])
@pytest.mark.parametrize(
    ("first", "second", "taken"),
    [
        ({"OPEN": 1}, {"OPEN": 2}, 1),
        ({"OPEN": 1}, {"OPEN": 1}, 2),
        ({"OPEN": 1, "RAGGED": 1}, {"OPEN": 1, "RAGGED": 2}, 2),
    ],
)
def test_open_sizes_must_be_equal_unless_ragged(scheduling, first, second, taken):
    queue = [pending(4, **first), pending(4, **second)]
    assert policy(scheduling).plan(queue, 0) == (taken, 0)


@pytest.mark.parametrize(
    ("second", "taken"), [({"OPEN": 1}, 1), ({"OPEN": 1, "FIXED": 4}, 2), ({"FIXED": 4}, 1)]
)
def test_with_optional_inputs_the_same_ones_must_be_there(second, taken):
    queue = [pending(4, OPEN=1, FIXED=4), pending(4, **second)]
    assert policy(DYNAMIC, inputs=OPTIONAL).plan(queue, 0) == (taken, 0)


def test_order_of_inputs_does_not_matter():
    queue = [pending(OPEN=1, FIXED=4), pending(FIXED=4, OPEN=1)]
    assert policy(DYNAMIC, inputs=OPTIONAL).plan(queue, 0) == (2, 0)


@pytest.mark.parametrize(
    ("scheduling", "requests", "words"),
    [
        ("", [pending(), pending()], "dynamic_batching"),
        (DYNAMIC, [pending(5), pending(4)], "9 rows in all, and max_batch_size is 8"),
        (DYNAMIC, [pending(OPEN=1), pending(OPEN=2)], "same variable dimensions"),
    ],
)
def test_what_the_server_would_never_batch(scheduling, requests, words):
    assert words in policy(scheduling).obstacle(requests)
    with pytest.raises(InferenceError, match=words) as caught:
        Batcher(policy(scheduling)).put_batch(requests)
    assert caught.value.code is StatusCode.INVALID_ARG


@pytest.mark.parametrize("scheduling", ["", DYNAMIC])
def test_one_request_is_always_a_batch(scheduling):
    assert policy(scheduling).obstacle([pending(8)]) is None


def test_requests_leave_in_the_order_in_which_they_came():
    batcher = Batcher(policy(DYNAMIC))
    requests = [pending(8) for _ in range(3)]
    for request in requests:
        batcher.put(request)
    assert [batcher.next_batch() for _ in range(3)] == [[request] for request in requests]


def test_a_formed_batch_comes_first_and_alone():
    batcher = Batcher(policy(DYNAMIC))
    waiting, first, second = pending(), pending(), pending()
    batcher.put(waiting)
    batcher.put_batch([first, second])
    assert batcher.next_batch() == [first, second]
    assert batcher.next_batch() == [waiting]


def test_a_closed_queue_is_emptied_at_once_and_then_ends():
    batcher = Batcher(policy("dynamic_batching { max_queue_delay_microseconds: 60000000 }"))
    requests = [pending(enqueued=time.monotonic_ns()) for _ in range(2)]
    for request in requests:
        batcher.put(request)
    batcher.close()
    assert batcher.next_batch() == requests
    assert batcher.next_batch() is None


@pytest.mark.parametrize("put", [Batcher.put, lambda batcher, one: batcher.put_batch([one])])
def test_a_closed_queue_takes_nothing(put):
    batcher = Batcher(policy(DYNAMIC))
    batcher.close()
    with pytest.raises(InferenceError) as caught:
        put(batcher, pending(request_id="x7"))
    assert caught.value.code is StatusCode.UNAVAILABLE
    assert str(caught.value) == (
        "[request id: x7] Server is stopping, scheduler for model has stopped accepting new "
        "inference requests"
    )


def test_what_is_drained_is_everything():
    batcher = Batcher(policy(DYNAMIC))
    requests = [pending() for _ in range(4)]
    batcher.put(requests[0])
    batcher.put_batch(requests[1:3])
    batcher.put(requests[3])
    assert set(batcher.drain()) == set(requests)
    batcher.close()
    assert batcher.next_batch() is None


def in_thread(function, results):
    thread = threading.Thread(target=lambda: results.append(function()), daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize(
    "scheduling", [DYNAMIC, "dynamic_batching { max_queue_delay_microseconds: 20000 }"]
)
def test_a_waiting_instance_gets_what_comes(scheduling):
    batcher, batches = Batcher(policy(scheduling)), []
    thread = in_thread(batcher.next_batch, batches)
    request = pending(enqueued=time.monotonic_ns())
    batcher.put(request)
    thread.join(60)
    assert batches == [[request]]


def test_a_delayed_batch_goes_as_soon_as_it_is_full():
    batcher = Batcher(policy("dynamic_batching { max_queue_delay_microseconds: 60000000 }"))
    batches = []
    thread = in_thread(batcher.next_batch, batches)
    requests = [pending(4, enqueued=time.monotonic_ns()) for _ in range(2)]
    for request in requests:
        batcher.put(request)
    thread.join(60)
    assert batches == [requests]


def test_what_one_instance_leaves_another_takes():
    asked = set()

    def clock():
        asked.add(threading.get_ident())
        return 0

    batcher = Batcher(
        policy("dynamic_batching { max_queue_delay_microseconds: 600000000 }"), clock=Told(clock)
    )
    requests, batches = [pending(4), pending(8)], []
    batcher.put(requests[0])
    threads = [in_thread(batcher.next_batch, batches) for _ in range(2)]
    while len(asked) < 2:  # who has looked at the clock, waits
        time.sleep(0.001)
    batcher.put(requests[1])
    for thread in threads:
        thread.join(60)
    assert sorted(batches, key=lambda batch: requests.index(batch[0])) == [[r] for r in requests]


def test_closing_wakes_every_waiting_instance():
    batcher, batches = Batcher(policy(DYNAMIC)), []
    threads = [in_thread(batcher.next_batch, batches) for _ in range(3)]
    batcher.close()
    for thread in threads:
        thread.join(60)
    assert batches == [None] * 3


def test_several_instances_share_the_work_and_lose_nothing():
    batcher, taken = Batcher(policy(DYNAMIC), instances=4), []

    def work():
        while batch := batcher.next_batch():
            taken.extend(batch)

    threads = [in_thread(work, []) for _ in range(4)]
    requests = [pending() for _ in range(200)]
    for request in requests:
        batcher.put(request)
    batcher.close()
    for thread in threads:
        thread.join(60)
    assert len(taken) == len(requests)
    assert set(taken) == set(requests)


def test_an_instance_too_many_executes_what_waits_and_ends():
    batcher = Batcher(policy(DYNAMIC), instances=2)
    request = pending()
    batcher.put(request)
    batcher.update([], [0])
    assert [batcher.next_batch(0), batcher.next_batch(0)] == [[request], None]
    batcher.put(request)
    assert batcher.next_batch(1) == [request]


def test_an_idle_instance_too_many_ends_at_once():
    batcher = Batcher(policy(DYNAMIC), instances=2)
    with ThreadPoolExecutor(1) as pool:
        ends = pool.submit(batcher.next_batch, 1)
        batcher.update([2], [1])
        assert ends.result(60) is None
    batcher.discard([3])
    assert batcher.next_batch(3) is None


def test_more_instances_have_more_payloads():
    batcher = Batcher(policy("dynamic_batching { max_queue_delay_microseconds: 1 }"), instances=1)
    batcher.update([1, 2], [])
    assert len(batcher._instances) == 3
    batcher.update([], [2])
    assert batcher.next_batch(2) is None
    assert len(batcher._instances) == 2
