"""How many requests are at a step of an ensemble."""

from functools import partial

from triton_stub.core.ensembles.limit import StepLimit


def test_who_comes_too_many_goes_on_in_its_turn():
    limit, gone = StepLimit(2), []
    assert limit.enter(partial(gone.append, "a"))
    assert limit.enter(partial(gone.append, "b"))
    assert not limit.enter(partial(gone.append, "c"))
    assert not limit.enter(partial(gone.append, "d"))
    assert gone == []
    limit.leave()
    assert gone == ["c"]
    limit.leave()
    assert gone == ["c", "d"]
    limit.leave()
    limit.leave()
    assert limit.enter(partial(gone.append, "e"))


def test_who_is_let_in_at_once_counts_all_the_same():
    limit, gone = StepLimit(1), []
    assert limit.enter(partial(gone.append, "a"))
    assert limit.enter(partial(gone.append, "b"), at_once=True)
    assert not limit.enter(partial(gone.append, "c"))
    limit.leave()
    assert gone == []
    limit.leave()
    assert gone == ["c"]


def test_any_number_may_leave_as_soon_as_they_go_on():
    limit, gone = StepLimit(1), []

    def leave_at_once():
        gone.append(len(gone))
        limit.leave()

    assert limit.enter(leave_at_once)
    for _ in range(10_000):
        assert not limit.enter(leave_at_once)
    limit.leave()
    assert gone == list(range(10_000))
