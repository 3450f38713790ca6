"""The requests of one priority: too many, too late, cancelled, delayed."""

import dataclasses

import pytest
from queued import pending, read_config

from triton_stub.core.scheduling.queue_policy import LevelQueue, QueuePolicy
from triton_stub.errors import InferenceError, StatusCode

REJECT = QueuePolicy(timeout_ns=1000)
DELAY = QueuePolicy(timeout_ns=1000, delays=True)


def queue_of(policy, *requests):
    queue = LevelQueue(policy)
    for request in requests:
        queue.put(request)
    return queue


def left(queue):
    return [queue.at(index)[0] for index in range(len(queue))]


def test_what_a_configuration_says():
    config = read_config(
        "dynamic_batching { default_queue_policy { timeout_action: DELAY max_queue_size: 3 "
        "default_timeout_microseconds: 5 allow_timeout_override: true } }"
    )
    policy = QueuePolicy.of(config.dynamic_batching.default_queue_policy)
    assert policy == QueuePolicy(timeout_ns=5000, delays=True, may_shorten=True, most=3)


def test_a_policy_that_nobody_wrote():
    policy = QueuePolicy.of(
        read_config("dynamic_batching { }").dynamic_batching.default_queue_policy
    )
    assert policy == QueuePolicy()
    assert policy.is_free


@pytest.mark.parametrize("field", [{"timeout_ns": 1}, {"may_shorten": True}, {"most": 1}])
def test_what_keeps_requests_in_the_queue(field):
    assert not QueuePolicy(**field).is_free


@pytest.mark.parametrize(
    ("policy", "own_us", "deadline"),
    [
        (QueuePolicy(), 0, 0),
        (QueuePolicy(), 3, 0),
        (QueuePolicy(timeout_ns=9000), 3, 9007),
        (QueuePolicy(timeout_ns=9000, may_shorten=True), 3, 3007),
        (QueuePolicy(timeout_ns=9000, may_shorten=True), 0, 9007),
        (QueuePolicy(timeout_ns=9000, may_shorten=True), 10, 9007),
        (QueuePolicy(may_shorten=True), 3, 0),
    ],
)
def test_deadlines(policy, own_us, deadline):
    request = pending(enqueued=7)
    request.request = dataclasses.replace(request.request, timeout=own_us)
    assert policy.deadline(request) == deadline


def test_one_too_many():
    queue = queue_of(QueuePolicy(most=2), pending(), pending())
    with pytest.raises(
        InferenceError, match=r"^\[request id: x\] Exceeds maximum queue size$"
    ) as e:
        queue.put(pending(request_id="x"))
    assert e.value.code is StatusCode.UNAVAILABLE
    queue.pop()
    queue.put(pending())
    assert len(queue) == 2


def test_the_last_nanosecond_is_in_time():
    request, skipped = pending(), []
    queue = queue_of(REJECT, request)
    assert queue.settle(0, 1000, skipped)
    assert not queue.settle(0, 1001, skipped)
    ((rejected, error),) = skipped
    assert rejected is request
    assert (str(error), error.code) == ("Request timeout expired", StatusCode.UNAVAILABLE)
    assert len(queue) == 0


def test_late_ones_go_behind_the_others():
    old, new = pending(), pending(enqueued=500)
    queue = queue_of(DELAY, old, new)
    assert queue.settle(0, 1200, [])
    assert left(queue) == [new, old]
    assert (queue.fresh, queue.at(1)) == (1, (old, 0))
    assert [queue.pop(), queue.pop()] == [new, old]


@pytest.mark.parametrize("policy", [QueuePolicy(), REJECT, DELAY])
def test_cancelled_ones_are_dropped_when_their_turn_comes(policy):
    requests, skipped = [pending(), pending(), pending()], []
    queue = queue_of(policy, *requests)
    for request in requests[:2]:
        request.answer.cancel()
    assert queue.settle(0, 0, skipped)
    assert left(queue) == requests[2:]
    assert [(one, str(error), error.code) for one, error in skipped] == [
        (request, "", StatusCode.CANCELLED) for request in requests[:2]
    ]


def test_a_delayed_one_is_executed_though_it_is_cancelled():
    request, skipped = pending(), []
    queue = queue_of(DELAY, request)
    assert queue.settle(0, 2000, skipped)
    request.answer.cancel()
    assert queue.settle(0, 2000, skipped)
    assert (left(queue), skipped) == ([request], [])


def test_rejecting_from_the_middle():
    requests = [pending(enqueued=2000), pending(), pending(enqueued=3000)]
    queue = queue_of(REJECT, *requests)
    assert queue.first_rejection() == 1000
    assert [request for request, _ in queue.reject_late(1500)] == [requests[1]]
    assert left(queue) == [requests[0], requests[2]]
    assert queue.first_rejection() == 3000


@pytest.mark.parametrize("policy", [QueuePolicy(), DELAY])
def test_queues_that_reject_nobody(policy):
    queue = queue_of(policy, pending())
    assert (queue.first_rejection(), queue.reject_late(10**9)) == (None, [])
