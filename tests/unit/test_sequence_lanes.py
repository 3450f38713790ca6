"""Instances that come and go while a sequence batcher serves."""

import pytest
from sequenced import DIRECT, END, OLDEST, START, Watched


@pytest.mark.parametrize("scheduling", [DIRECT, OLDEST])
def test_one_that_goes_keeps_its_sequences_and_gets_no_others(scheduling):
    watched = Watched(scheduling, max_batch_size=1, instances=1)
    watched.send(1, "a", START)
    assert watched.run(0) == ["a"]
    watched.batcher.update([1], [0])
    watched.send(2, "b", START | END)
    assert watched.run(1) == ["b"]
    watched.send(1, "c", END)
    assert watched.run(0) == ["c"]
    while watched.batcher._lanes._leaving:
        assert watched.next(0) is None
    watched.send(3, "d", START | END)
    assert watched.run(1) == ["d"]


def test_one_without_a_sequence_ends_at_once():
    watched = Watched(DIRECT, max_batch_size=1, instances=2)
    watched.batcher.update([], [1])
    assert watched.next(1) is None
    watched.send(1, "a", START | END)
    assert watched.run(0) == ["a"]


def test_one_that_was_never_added_ends():
    watched = Watched(DIRECT, max_batch_size=1, instances=1)
    watched.batcher.discard([1])
    assert watched.next(1) is None
    watched.send(1, "a", START)
    watched.send(2, "b", START)  # has no slot: the other instance has none
    assert watched.run(0) == ["a"]
    assert len(watched.batcher._backlog) == 1


def test_the_backlog_waits_for_a_sequence_to_end():
    watched = Watched(DIRECT, max_batch_size=1, instances=1)
    watched.send(1, "a", START)
    watched.send(2, "b", START | END)
    watched.batcher.update([1], [])
    watched.send(3, "c", START | END)  # passes the other
    assert watched.run(1) == ["c"]
    assert watched.run(1) == ["b"]
    assert watched.run(0) == ["a"]


def test_the_backlog_gets_no_slot_of_one_that_goes():
    watched = Watched(DIRECT, max_batch_size=1, instances=1)
    watched.send(1, "a", START)
    watched.send(2, "b", START | END)
    watched.batcher.update([1], [0])
    watched.send(1, "c", END)
    assert [watched.run(0), watched.run(0)] == [["a"], ["c"]]
    assert watched.next(0) is None
    watched.send(3, "d", START | END)
    assert [watched.run(1), watched.run(1)] == [["d"], ["b"]]


def test_slots_are_in_order_after_an_update():
    watched = Watched(DIRECT, max_batch_size=2, instances=1)
    watched.batcher.update([1], [])
    for sequence in range(1, 5):
        watched.send(sequence, str(sequence), START)
    taken = {instance: watched.run(instance) for instance in (0, 1)}
    assert sorted(taken[0] + taken[1]) == ["1", "2", "3", "4"]
    assert all(len(names) == 2 for names in taken.values())
