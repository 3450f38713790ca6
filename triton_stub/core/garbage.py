"""Garbage collections, for which many may ask at once."""

from __future__ import annotations

import gc
import math
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

# Seconds from the end of one to the next: while Python collects, nothing else is done.
_PAUSE = 1.0


class Collections:
    """Collects whenever somebody asks, by ``collect``, but not all the time.

    Everything may be called from any thread.
    """

    def __init__(self, collect: Callable[[], object]) -> None:
        self._collect = collect
        # One that may be taken twice: Python may collect by itself here, and a __del__ may ask.
        self._lock = threading.RLock()
        self._begun = -math.inf
        self._next = -math.inf

    def ask(self, since: float, within: float) -> float:
        """Have done a collection that has begun after ``since``, a ``time.monotonic()``.

        0 if that is so now. Otherwise there was one just before: ask again after so many seconds,
        with the same ``since``; they are fewer than ``within``.
        """
        with self._lock:
            if self._begun > since:
                return 0.0
            now = time.monotonic()
            pause = self._next - now
            if 0 < pause < within:
                return pause
            self._begun, self._next = now, now + _PAUSE
        self._collect()
        with self._lock:
            self._next = time.monotonic() + _PAUSE
        return 0.0


#: Of this process.
collect = Collections(gc.collect).ask
