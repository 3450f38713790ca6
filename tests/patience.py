"""How long a test waits for what must come: long, since only a test that fails waits so long."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE = 60.0  # seconds


def wait_until(condition: Callable[[], bool], complaint: str = "still not so") -> None:
    """Wait until something is so; AssertionError with the complaint if it never is."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"{complaint} after {PATIENCE:g} s"
        time.sleep(0.005)
