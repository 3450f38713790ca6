"""The order in which requests of several priorities are executed."""

import dataclasses
from itertools import islice

import pytest
from queued import pending, read_config

from triton_stub.core.scheduling.priority_queue import PriorityQueue
from triton_stub.core.scheduling.queue_policy import QueuePolicy
from triton_stub.errors import InferenceError

REJECT = QueuePolicy(timeout_ns=1000)


def asked(priority, **more):
    request = pending(**more)
    request.request = dataclasses.replace(request.request, priority=priority)
    return request


def filled(queue, *requests):
    for request in requests:
        queue.put(request)
    return queue


def seen(queue, now=0):
    return list(queue.candidates(now))


def test_without_levels_it_is_first_come_first_served():
    requests = [asked(priority) for priority in (2, 1, 3)]
    assert seen(filled(PriorityQueue(), *requests)) == requests


def test_levels_and_their_default():
    requests = [asked(priority) for priority in (3, 0, 4, 1, 2, 1)]
    queue = filled(PriorityQueue(levels=3, default_level=2), *requests)
    expected = [requests[index] for index in (3, 5, 1, 2, 4, 0)]
    assert seen(queue) == expected
    assert queue.take(4) == expected[:4]
    assert (len(queue), queue.rows) == (2, 2)
    assert seen(queue) == expected[4:]


def test_each_level_has_its_own_room():
    queue = PriorityQueue(
        QueuePolicy(most=1), levels=2, default_level=1, policies={2: QueuePolicy()}
    )
    filled(queue, asked(1), asked(2), asked(2))
    with pytest.raises(InferenceError, match="Exceeds maximum queue size"):
        queue.put(asked(1))
    assert len(queue) == 3


def test_what_a_configuration_asks_for():
    config = read_config(
        "dynamic_batching { priority_levels: 2 default_priority_level: 2 priority_queue_policy "
        "{ key: 1 value { max_queue_size: 1 } } }"
    )
    queue = PriorityQueue.of(config.dynamic_batching)
    filled(queue, asked(1), asked(0), asked(2))
    with pytest.raises(InferenceError, match="Exceeds maximum queue size"):
        queue.put(asked(1))


@pytest.mark.parametrize(
    ("queue", "is_prefetched", "has_deadlines"),
    [
        (PriorityQueue(), True, False),
        (PriorityQueue(levels=2, default_level=1), False, False),
        (PriorityQueue(REJECT), False, True),
        (PriorityQueue(QueuePolicy(timeout_ns=1, delays=True)), False, False),
        (PriorityQueue(levels=2, default_level=1, policies={1: REJECT}), False, True),
        (PriorityQueue(QueuePolicy(most=1)), False, False),
    ],
)
def test_what_follows_from_the_policies(queue, is_prefetched, has_deadlines):
    assert (queue.is_prefetched, queue.has_deadlines) == (is_prefetched, has_deadlines)


def test_what_is_looked_at_is_settled_and_nothing_else():
    requests = [pending(), pending(), pending()]
    queue = filled(PriorityQueue(), *requests)
    for request in requests[1:]:
        request.answer.cancel()
    assert list(islice(queue.candidates(0), 1)) == requests[:1]
    assert (len(queue), queue.skipped) == (3, [])
    assert seen(queue) == requests[:1]
    assert [request for request, _ in queue.skipped] == requests[1:]
    assert (len(queue), queue.rows) == (1, 1)


def test_without_a_deadline_all_are_looked_at_again():
    requests = [pending(), pending()]
    queue = filled(PriorityQueue(), *requests)
    assert seen(queue) == requests
    requests[0].answer.cancel()
    assert seen(queue) == requests[1:]


def test_with_a_deadline_those_that_were_seen_stay():
    requests = [pending(), pending()]
    queue = filled(PriorityQueue(REJECT), *requests)
    assert seen(queue, 10) == requests
    assert queue.closest_deadline == 1000
    requests[0].answer.cancel()
    assert seen(queue, 999) == requests
    assert seen(queue, 1000) == requests[1:]


@pytest.mark.parametrize(("priority", "stays"), [(1, False), (2, True)])
def test_who_comes_before_them_has_them_looked_at_again(priority, stays):
    queue = PriorityQueue(REJECT, levels=2, default_level=2)
    first = asked(2)
    filled(queue, first)
    assert seen(queue, 10) == [first]
    first.answer.cancel()
    queue.put(asked(priority))
    assert (first in seen(queue, 11)) == stays


def test_rejection_anywhere():
    requests = [asked(1, enqueued=5000), asked(2), asked(2, enqueued=4000)]
    queue = filled(PriorityQueue(REJECT, levels=2, default_level=1), *requests)
    assert queue.first_rejection() == 1000
    queue.reject_late(2000)
    assert [request for request, _ in queue.skipped] == [requests[1]]
    assert seen(queue, 2000) == [requests[0], requests[2]]
    assert queue.first_rejection() == 5000


def test_nobody_to_reject():
    assert PriorityQueue(REJECT).first_rejection() is None
