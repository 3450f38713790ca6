"""What one thread waits for and another rings."""

from __future__ import annotations

import os
import select
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_LONGEST = 1e9  # milliseconds that poll can be told


class Bell:
    """Wakes the one thread that waits for it; a ring is kept until somebody waits.

    Whoever rings lets go of the interpreter meanwhile. A lock's ``release`` does not: the thread
    that it wakes finds the interpreter taken and sleeps again, which takes longer than all else
    that a small request costs.
    """

    __slots__ = ("_descriptor", "_poll")

    def __init__(self) -> None:
        self._descriptor = os.eventfd(0, os.EFD_CLOEXEC)
        self._poll = select.poll()
        self._poll.register(self._descriptor, select.POLLIN)

    def ring(self) -> None:
        """Wake who waits, or who waits next."""
        os.eventfd_write(self._descriptor, 1)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait, for so many seconds at most; True if it was rung."""
        # To poll a negative timeout is none.
        if timeout is not None and not self._poll.poll(max(0, min(timeout * 1000, _LONGEST))):
            return False
        while True:
            try:
                os.eventfd_read(self._descriptor)
            except InterruptedError:  # by a signal: what Python does about it elsewhere
                continue
            return True

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        # At the end of the interpreter there may be no module any more.
        if hasattr(self, "_descriptor"):
            close(self._descriptor)


class LockBell:
    """The same where there is no ``eventfd``, or none is left for this process."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Semaphore(0)

    def ring(self) -> None:
        """Wake who waits, or who waits next."""
        self._lock.release()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait, for so many seconds at most; True if it was rung."""
        return self._lock.acquire(
            timeout=None if timeout is None else min(timeout, threading.TIMEOUT_MAX / 2)
        )


class _Own(threading.local):
    bell: Bell | LockBell | None = None

    def forget(self) -> None:
        self.bell = None


_own = _Own()
_new_bell = Bell if hasattr(os, "eventfd") else LockBell
if hasattr(os, "register_at_fork"):
    # A process that is forked would have its rings in common with this one.
    os.register_at_fork(after_in_child=_own.forget)


def take_bell() -> Bell | LockBell:
    """That of this thread, until it is given back.

    Whoever waits meanwhile in the same thread, in the handler of a signal say, gets another one.
    """
    bell, _own.bell = _own.bell, None
    if bell is None:
        try:
            bell = _new_bell()
        except OSError:
            bell = LockBell()
    return bell


def give_back(bell: Bell | LockBell) -> None:
    """Keep it for the next time that this thread waits."""
    _own.bell = bell
