"""The clocks by which requests wait."""

import threading
import time

import pytest

from triton_stub.core.clock import Clock, ManualClock

PATIENCE = 60.0  # seconds
CLOCKS = [Clock, ManualClock]


class Waiter:
    """A thread that waits for a notice, or for a time."""

    def __init__(self, clock, ns):
        self.condition = threading.Condition()
        self.begins = threading.Event()
        self.error = None
        self._clock, self._ns = clock, ns
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self.begins.wait(PATIENCE)

    def _run(self):
        with self.condition:
            self.begins.set()
            try:
                self._clock.wait(self.condition, self._ns)
            except OverflowError as error:
                self.error = error

    def notify(self):
        with self.condition:
            self.condition.notify_all()

    def has_ended(self):
        self._thread.join(PATIENCE)
        return not self._thread.is_alive()


@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize("ns", [None, 10**12, 2**64 * 1000])
def test_who_waits_is_woken_by_a_notice_however_long_the_time_is(clock, ns):
    waiter = Waiter(clock(), ns)
    waiter.notify()
    assert waiter.has_ended()
    assert waiter.error is None


def test_the_machines_clock_wakes_by_itself():
    assert Waiter(Clock(), 1).has_ended()


def test_every_advance_wakes_who_waits_for_a_time():
    clock = ManualClock()
    waiter = Waiter(clock, 10**12)
    with waiter.condition:  # it waits by now
        pass
    clock.advance(1e-9)
    assert waiter.has_ended()


def test_time_passes_by_advance_alone():
    clock = ManualClock()
    start = clock.now()
    assert abs(start - time.monotonic_ns()) < PATIENCE * 1e9
    clock.advance(0.25)
    clock.advance(0)
    assert clock.now() - start == 250_000_000


def test_time_does_not_go_back():
    clock = ManualClock()
    start = clock.now()
    with pytest.raises(ValueError, match=r"time does not go back: advance\(-1\)"):
        clock.advance(-1)
    assert clock.now() == start
