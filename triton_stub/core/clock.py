"""The time by which requests wait: the machine's, or one that a test drives."""

from __future__ import annotations

import threading
import time
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Clock:
    """The machine's monotonic clock; times are in nanoseconds (``time.monotonic_ns``)."""

    #: The time.
    now: Callable[[], int] = staticmethod(time.monotonic_ns)

    def attend(self, condition: threading.Condition) -> None:
        """Have a condition notified whenever the time jumps: before anybody waits for a time."""

    def wait(self, condition: threading.Condition, ns: int | None = None) -> None:
        """Wait, with the condition's lock held, for a notice, or for so many nanoseconds.

        Who waits looks again anyway: of a time beyond what Python can wait for, that is enough.
        """
        condition.wait(None if ns is None else min(ns / 1e9, threading.TIMEOUT_MAX))


class ManualClock(Clock):
    """A clock that stands still until ``advance``: queue delays and timeouts without waiting.

        clock = triton_stub.ManualClock()
        with Server(folder, clock=clock) as server:
            answer = server.model("delayed").infer(inputs={"IN": array})
            clock.advance(0.5)  # max_queue_delay_microseconds is over

    It concerns what the server does with queued requests, and what it counts; the limits after
    which a test is not kept waiting (``response_timeout`` and so on) are real seconds.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now = time.monotonic_ns()
        self._waiting: weakref.WeakSet[threading.Condition] = weakref.WeakSet()

    def now(self) -> int:
        """The time, which only ``advance`` changes."""
        return self._now

    def attend(self, condition: threading.Condition) -> None:
        """Have a condition notified by every ``advance``."""
        with self._lock:
            self._waiting.add(condition)

    def wait(self, condition: threading.Condition, ns: int | None = None) -> None:  # noqa: ARG002
        """Wait for a notice; who waits for a time is woken by every ``advance``, to look again."""
        self.attend(condition)
        condition.wait()

    def advance(self, seconds: float) -> None:
        """Let so much time pass at once; ValueError if it is negative."""
        if seconds < 0:
            raise ValueError(f"time does not go back: advance({seconds!r})")
        with self._lock:
            self._now += round(seconds * 1e9)
            waiting = list(self._waiting)
        for condition in waiting:
            with condition:
                condition.notify_all()
