"""The server, as the objects of a model see it in a process of its own.

What they ask goes to ``host_service.py`` in the process of the server.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from triton_stub.core import bls
from triton_stub.core.processes.forked import Door
from triton_stub.core.processes.link import LinkClosedError
from triton_stub.errors import InferenceError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from triton_stub import pb_utils
    from triton_stub.core.processes.link import Link
    from triton_stub.core.request import InferenceRequest, InferenceResponse
    from triton_stub.pb_utils.logger import LogLevel
    from triton_stub.pb_utils.metrics import MetricKind


class RemoteHost:
    """``pb_utils.host.Host`` of a model in a process of its own.

    ``is_alone`` says whether nothing of the model runs but the method that is called.
    """

    #: Only the instance itself knows when its process is about to end.
    ended = False

    def __init__(self, link: Link, instance_name: str, is_alone: Callable[[], bool]) -> None:
        self.instance_name = instance_name
        self.log = RemoteLog(link)
        self.metrics = _Metrics(link)
        #: The way in for what the model forks.
        self.door = Door(self._send)
        self._link = link
        self._is_alone = is_alone

    def infer(self, request: pb_utils.InferenceRequest, *, decoupled: bool) -> bls.Call:
        """Send a request of the model's own."""
        send = self.door.send if self.door.is_behind else self._send
        return bls.Call(send, request, decoupled=decoupled)

    def load_model(self, name: str, config: str, files: Mapping[str, bytes]) -> None:
        """Load a model of the server."""
        _ask(self._link, "load_model", name, config, dict(files))

    def unload_model(self, name: str, *, unload_dependents: bool) -> None:
        """Unload a model of the server."""
        _ask(self._link, "unload_model", name, unload_dependents)

    def is_model_ready(self, name: str, version: int) -> bool:
        """True if a model of the server takes requests."""
        ready: bool = _ask(self._link, "is_model_ready", name, version)
        return ready

    def _send(self, request: InferenceRequest, decoupled: bool) -> _Exchange:  # noqa: FBT001
        return _Exchange(self._link, _ask(self._link, "send", request, decoupled), self._is_alone)


class RemoteLog:
    """The server's log: a ``LogSink``. What a forked worker logs never gets there."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._pid = os.getpid()

    def write(self, level: LogLevel, message: str, file: str, line: int) -> None:
        """Add one line."""
        self._tell(level, message, file, line, early=False)

    def write_early(self, level: LogLevel, message: str, file: str, line: int) -> None:
        """Add one line from before ``initialize``."""
        self._tell(level, message, file, line, early=True)

    def note(self, level: LogLevel, message: str) -> None:
        """Add a line of this library's own; its place is the caller's."""
        caller = sys._getframe(1)
        self.write(level, message, caller.f_code.co_filename, caller.f_lineno)

    def _tell(self, level: LogLevel, message: str, file: str, line: int, *, early: bool) -> None:
        if os.getpid() == self._pid:
            self._link.tell("log", int(level), message, file, line, early)


class _Exchange:
    """``core.bls.Exchange``: a request that another model has."""

    def __init__(self, link: Link, number: int, is_alone: Callable[[], bool]) -> None:
        self._link = link
        self._number = number
        self._is_alone = is_alone

    def get(self) -> InferenceResponse:
        response: InferenceResponse = _ask(self._link, "next", self._number, self._is_alone())
        return response

    def cancel(self) -> None:
        _ask(self._link, "cancel", self._number)

    def __del__(self) -> None:
        self._link.tell("forget", self._number)


class _Metrics:
    """``pb_utils.metrics.MetricStore``."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def family(self, name: str, description: str, kind: MetricKind) -> _Family:
        return _Family(self._link, _ask(self._link, "family", name, description, int(kind)))


class _Family:
    """``pb_utils.metrics.MetricSeriesFamily``."""

    def __init__(self, link: Link, number: int) -> None:
        self.closed = False
        self._link = link
        self._number = number

    def add(self, labels: Mapping[str, str], buckets: Sequence[float] | None) -> _Series:
        return _Series(self._link, _ask(self._link, "add", self._number, dict(labels), buckets))

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._link.tell("close_family", self._number)


class _Series:
    """``pb_utils.metrics.MetricSeries``."""

    def __init__(self, link: Link, number: int) -> None:
        self._link = link
        self._number = number

    def increment(self, amount: float) -> None:
        _ask(self._link, "metric", self._number, "increment", amount)

    def set(self, number: float) -> None:
        _ask(self._link, "metric", self._number, "set", number)

    def observe(self, number: float) -> None:
        _ask(self._link, "metric", self._number, "observe", number)

    def value(self) -> float:
        value: float = _ask(self._link, "metric", self._number, "value")
        return value

    def __del__(self) -> None:
        self._link.tell("forget_series", self._number)


def _ask(link: Link, name: str, *args: Any) -> Any:
    try:
        return link.call(name, *args)
    except LinkClosedError:
        raise InferenceError("the server is gone") from None
