"""Whose message is the next one of a stream."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from tritonclient.grpc.service_pb2 import ModelStreamInferResponse

    from triton_stub.endpoints.grpc.asked import Asked
    from triton_stub.errors import ServerError


class Turns:
    """Requests of one stream, and in which order they are answered.

    Models that answer once are answered for in the order of the requests, as is what is refused on
    the way to them. Decoupled models take turns, one message each, whoever has one.

    ``finished`` is called of each request whose last message has been handed on. With ``strict``
    the first error of a model is the last that there is: ``failure``.
    """

    def __init__(self, finished: Callable[[Asked], None], *, strict: bool) -> None:
        self.failure: ServerError | None = None
        #: Whose message was handed on last.
        self.current: Asked | None = None
        self._finished = finished
        self._strict = strict
        self._ordered: deque[Asked] = deque()
        self._ready: deque[Asked] = deque()

    def note(self, asked: Asked) -> None:
        """Take a new request, or what has come for one."""
        if self.failure is not None:
            return
        if not asked.placed and not asked.decoupled:
            self._ordered.append(asked)
        asked.placed = True
        is_waiting = bool(asked.messages)
        was_done = asked.done
        asked.fetch(strict=self._strict)
        if self._strict:
            self.failure = asked.failure
        if not asked.decoupled:
            return
        if asked.messages and not is_waiting:
            self._ready.append(asked)
        if asked.done and not was_done and not asked.messages:
            self._finished(asked)

    def next(self) -> ModelStreamInferResponse | None:
        """Hand on a message; None if there is none yet."""
        if self._ordered and self._ordered[0].done and self._ordered[0].messages:
            self.current = asked = self._ordered.popleft()
            self._finished(asked)
            return asked.messages[0]
        if not self._ready:
            return None
        self.current = asked = self._ready.popleft()
        message = asked.messages.popleft()
        if asked.messages:
            self._ready.append(asked)
        elif asked.done:
            self._finished(asked)
        return message
