"""Garbage collections for many who wait."""

import itertools
import math
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from triton_stub.core import garbage, responses
from triton_stub.core.garbage import Collections
from triton_stub.core.request import InferenceResponse
from triton_stub.core.responses import Responses
from triton_stub.errors import InferenceError

WAITERS = 20


class Clock:
    """Time that passes only when it is told to."""

    now = 1000.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    monkeypatch.setattr(garbage, "time", fake := Clock())
    return fake


def test_the_first_is_done_at_once(clock):
    begun = []
    collections = Collections(lambda: begun.append(clock.now))
    assert collections.ask(clock.now, math.inf) == 0
    assert begun == [1000]


def test_the_next_is_put_off_and_is_one_for_all(clock):
    begun = []

    def collect():
        begun.append(clock.now)
        clock.now += 5  # which is not a part of the pause

    collections = Collections(collect)
    collections.ask(clock.now, math.inf)
    asked = [clock.now + number / 10 for number in range(5)]
    for clock.now in asked:
        assert collections.ask(clock.now, math.inf) == pytest.approx(asked[0] + 1 - clock.now)
    clock.now = asked[0] + 1
    assert [collections.ask(since, math.inf) for since in asked] == [0] * 5
    assert begun == [1000, 1006]


@pytest.mark.parametrize("within", [0, 0.5, 0.99])
def test_who_has_no_time_is_not_put_off(clock, within):
    begun = []
    collections = Collections(lambda: begun.append(clock.now))
    for _ in range(3):
        clock.now += 0.001
        assert collections.ask(clock.now, within) == 0
    assert len(begun) == 3


def test_one_that_was_under_way_is_not_enough(clock):
    asked = []

    def collect():
        clock.now += 0.1
        asked.append(collections.ask(clock.now, math.inf))  # as a __del__ may

    collections = Collections(collect)
    collections.ask(clock.now, math.inf)
    assert asked == [pytest.approx(0.9)]


def test_many_who_wait_have_python_collect_once_a_second(monkeypatch):
    times = []
    own = Collections(lambda: times.append(time.monotonic()))
    monkeypatch.setattr(garbage, "collect", own.ask)
    monkeypatch.setattr(responses, "UNTIL_COLLECTION", 0.01)
    waiting = [Responses(60) for _ in range(WAITERS)]
    answer = InferenceResponse(model_name="m", model_version="1")
    with ThreadPoolExecutor(WAITERS) as pool:
        results = [pool.submit(each.result) for each in waiting]
        while len(times) < 2:
            threading.Event().wait(0.01)
        for each in waiting:
            each.put(answer)
        assert [each.result() for each in results] == [answer] * WAITERS
    gaps = [after - before for before, after in itertools.pairwise(times)]
    assert len(times) < WAITERS
    assert min(gaps) >= 1


def test_who_gives_up_soon_has_python_collect_before(monkeypatch):
    """Even though that has just been done."""
    waiting = Responses(0.01)
    answer = InferenceResponse(model_name="m", model_version="1")
    collected = []

    def collect():
        collected.append(True)
        waiting.put(answer)

    own = Collections(collect)
    monkeypatch.setattr(garbage, "collect", own.ask)
    with pytest.raises(InferenceError):
        Responses(0.001).result()
    assert waiting.take() is answer
    waiting = Responses(0.01)
    assert waiting.result() is answer
    assert len(collected) == 2
