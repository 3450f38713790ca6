"""A queue whose receiver runs as soon as something comes."""

from __future__ import annotations

import contextlib
import queue
import time
from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

from triton_stub.core.bell import give_back, take_bell

if TYPE_CHECKING:
    from triton_stub.core.bell import Bell, LockBell

T = TypeVar("T")


class Mailbox(Generic[T]):
    """As ``queue.SimpleQueue``, for any number of threads; see ``Bell`` for what is better.

    Who puts something adds it first and then looks who waits; who waits says so first and then
    looks what is there. So nothing is missed, and a ring too many does no harm.
    """

    __slots__ = ("_items", "_waiting")

    def __init__(self) -> None:
        self._items: deque[T] = deque()
        self._waiting: deque[Bell | LockBell] = deque()

    def put(self, item: T) -> None:
        """Add an item. Another thread may run at once: best called without a lock held."""
        bell = self.add(item)
        if bell is not None:
            bell.ring()

    def add(self, item: T) -> Bell | LockBell | None:
        """Add an item; the bell that is to be rung for it, if anybody waits."""
        self._items.append(item)
        if self._waiting:
            try:
                return self._waiting.popleft()
            except IndexError:  # it does not wait any more
                return None
        return None

    def get_nowait(self) -> T:
        """Take the first item; ``queue.Empty`` if there is none."""
        try:
            return self._items.popleft()
        except IndexError:
            raise queue.Empty from None

    def get(self, timeout: float | None = None) -> T:
        """Wait for an item, for so many seconds at most, and take it; ``queue.Empty`` if none."""
        until = None if timeout is None else time.monotonic() + timeout
        while True:
            if not self._items:
                self._wait(timeout)
            try:
                return self._items.popleft()
            except IndexError:  # it is too late, another thread was faster, or the ring was older
                if until is not None and (timeout := until - time.monotonic()) <= 0:
                    raise queue.Empty from None

    def _wait(self, timeout: float | None) -> None:
        bell = take_bell()
        self._waiting.append(bell)
        try:
            if not self._items:  # what came before was told to nobody
                bell.wait(timeout)
        except BaseException:  # an interrupt, perhaps after a ring that others need now
            if self._items and bell not in self._waiting:
                with contextlib.suppress(IndexError):
                    self._waiting.popleft().ring()
            raise
        finally:
            if bell in self._waiting:
                with contextlib.suppress(ValueError):  # it is about to be rung
                    self._waiting.remove(bell)
            give_back(bell)
