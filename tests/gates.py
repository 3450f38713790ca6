"""Doors between a test and a model that runs in the same process: both import this module."""

from collections import defaultdict
from threading import Event

PATIENCE = 60.0


class Gate:
    """A model that comes to it waits until the test opens it."""

    def __init__(self) -> None:
        self.reached = Event()
        self.opened = Event()

    def pass_through(self) -> None:
        """Say that somebody is here, and wait."""
        self.reached.set()
        assert self.opened.wait(PATIENCE)

    def wait_for_somebody(self) -> None:
        """Wait until a model is at the gate."""
        assert self.reached.wait(PATIENCE)


GATES: defaultdict[str, Gate] = defaultdict(Gate)
