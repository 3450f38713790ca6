"""A client that hangs up before it is answered, and who wants to know of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from starlette.requests import Request

from contextlib import contextmanager

#: In the state of a request: the Departure of its client.
DEPARTURE = "triton_stub.departure"


class Departure:
    """Happens at most once, in the event loop of the client's connection.

    ``hang_up`` is what closes our side of it, after what has been sent.
    """

    def __init__(self, hang_up: Callable[[], None] = lambda: None) -> None:
        self.happened = False
        self.hang_up = hang_up
        self._listeners: set[Callable[[], None]] = set()

    @contextmanager
    def calls(self, listener: Callable[[], None]) -> Iterator[None]:
        """Have ``listener`` called if it happens within the block, or has happened before."""
        if self.happened:
            listener()
        self._listeners.add(listener)
        try:
            yield
        finally:
            self._listeners.discard(listener)

    def happen(self) -> None:
        """Tell whoever listens."""
        self.happened = True
        for listener in tuple(self._listeners):
            listener()


def of(request: Request) -> Departure:
    """That of a request's client; one that never happens if nobody looks after the connection."""
    departure = request.scope.get("state", {}).get(DEPARTURE)
    return departure if isinstance(departure, Departure) else Departure()
