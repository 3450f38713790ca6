"""``max_inflight_requests``: how many requests may be at a step of an ensemble.

Source: core ``src/ensemble_scheduler/ensemble_scheduler.cc``, ``StepInflightRequestLimiter``, since
Triton 25.11. There whoever has made the inputs of a step waits; here the step alone does.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class StepLimit:
    """So many requests at most are at a step, of all requests to the ensemble."""

    def __init__(self, most: int) -> None:
        self._lock = threading.Lock()
        self._free = most
        self._waiting: deque[Callable[[], None]] = deque()
        self._is_calling = False

    def enter(self, go_on: Callable[[], None], *, at_once: bool = False) -> bool:
        """True if there is room for one more; else ``go_on`` is called as soon as there is.

        ``at_once`` makes room where there is none.
        """
        with self._lock:
            if self._free > 0 or at_once:
                self._free -= 1
                return True
            self._waiting.append(go_on)
            return False

    def leave(self) -> None:
        """A request is not at the step any more."""
        with self._lock:
            self._free += 1
        # One after the other: whoever goes on may leave at once.
        while (go_on := self._next()) is not None:
            try:
                go_on()
            finally:
                with self._lock:
                    self._is_calling = False

    def _next(self) -> Callable[[], None] | None:
        with self._lock:
            if self._is_calling or self._free <= 0 or not self._waiting:
                return None
            self._is_calling = True
            self._free -= 1
            return self._waiting.popleft()
