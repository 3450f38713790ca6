"""Calls between two processes, in both directions at once, over one socket.

A call that comes back while one waits (a model that asks the server something in ``execute``) is
answered by the very thread that waits: both sides see one thread of control, as if there were one
process.
"""

from __future__ import annotations

import contextlib
import itertools
import queue
import socket
import sys
import threading
from typing import TYPE_CHECKING, Any

from triton_stub.core.processes.frames import Frame, Frames
from triton_stub.errors import ServerError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Job = Callable[[], None]

_CALL, _TOLD, _RESULT, _FAILURE = range(1, 5)


class LinkClosedError(Exception):
    """The other process is gone, or was let go of."""


class Link:
    """One end of it.

    Args:
        connection: the socket, which this closes.
        calls: what the other side may call or tell, by name. What it tells is done in the thread
            that reads, and must not wait for anything.
        begin: decides where a call is answered that nobody waits for: it gets the name and a job.
        ended: called once when the other side is gone, before those who wait are told.
        name: of the thread that reads.
    """

    def __init__(
        self,
        connection: socket.socket,
        calls: Mapping[str, Callable[..., Any]],
        *,
        begin: Callable[[str, Job], None] | None = None,
        ended: Callable[[], None] = lambda: None,
        name: str = "link",
    ) -> None:
        self._socket = connection
        self._frames = Frames(connection)
        self._calls = calls
        self._begin = begin or _in_a_thread
        self._ended = ended
        self._numbers = itertools.count(1)
        self._waiting: dict[int, queue.SimpleQueue[Frame | None]] = {}
        self._answering = threading.local()
        self.closed = False
        self._thread = threading.Thread(target=self._read, name=name, daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def call(self, name: str, *args: Any, timeout: float | None = None) -> Any:
        """Call what the other side has, and wait.

        Raises what that raises; LinkClosedError; and TimeoutError after ``timeout`` seconds.
        """
        if threading.current_thread() is self._thread:
            # A garbage collection, in which an object's __del__ asks for something.
            raise ServerError(f"'{name}' cannot be waited for in this thread")
        arrived: queue.SimpleQueue[Frame | None] = queue.SimpleQueue()
        number = next(self._numbers)
        self._waiting[number] = arrived
        try:
            inside = getattr(self._answering, "number", 0)
            self._send(Frame.of(_CALL, number, inside, (name, args)))
            while True:
                try:
                    frame = arrived.get(timeout=timeout)
                except queue.Empty:
                    raise TimeoutError(f"'{name}' took more than {timeout:g} s") from None
                if frame is None:
                    raise LinkClosedError
                if frame.kind == _CALL:
                    self._take(frame, _at_once)
                elif frame.kind == _FAILURE:
                    raise frame.content()
                else:
                    return frame.content()
        finally:
            del self._waiting[number]

    def tell(self, name: str, *args: Any) -> None:
        """Call what the other side has, and go on; nothing happens if that is gone."""
        with contextlib.suppress(LinkClosedError):
            self._send(Frame.of(_TOLD, 0, 0, (name, args)))

    def close(self) -> None:
        """Let go of the other side, which sees it at once."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join()

    def _send(self, frame: Frame) -> None:
        if self.closed:
            raise LinkClosedError
        try:
            self._frames.send(frame)
        except OSError as error:
            raise LinkClosedError from error

    def _read(self) -> None:
        while frame := self._frames.receive():
            if frame.kind == _TOLD:
                self._listen(frame)
            elif frame.kind == _CALL:
                asks = self._waiting.get(frame.inside)
                if asks is not None:
                    asks.put(frame)
                else:
                    self._take(frame, self._begin)
            elif (waits := self._waiting.get(frame.number)) is not None:
                waits.put(frame)
        self.closed = True
        self._ended()
        for waits in list(self._waiting.values()):
            waits.put(None)
        self._frames.close()

    def _take(self, frame: Frame, begin: Callable[[str, Job], None]) -> None:
        try:
            name, args = frame.content()
        except Exception as error:  # noqa: BLE001 - it belongs to who has called
            with contextlib.suppress(LinkClosedError):
                self._send(_failure(frame.number, error))
        else:
            begin(name, _Job(self._answer, frame, name, args))

    def _listen(self, frame: Frame) -> None:
        try:
            name, args = frame.content()
            self._calls[name](*args)
        except Exception:  # noqa: BLE001 - told like that of any thread, but this one goes on
            threading.excepthook(threading.ExceptHookArgs((*sys.exc_info(), self._thread)))

    def _answer(self, frame: Frame, name: str, args: tuple[Any, ...]) -> None:
        before = getattr(self._answering, "number", 0)
        self._answering.number = frame.number
        try:
            reply = Frame.of(_RESULT, frame.number, 0, self._calls[name](*args))
        except BaseException as error:  # noqa: BLE001 - it belongs to who has called
            reply = _failure(frame.number, error)
        finally:
            self._answering.number = before
        with contextlib.suppress(LinkClosedError):
            self._send(reply)


class _Job:
    """A call that waits for a thread; not a closure, so that nothing outlives it."""

    def __init__(self, answer: Callable[..., None], *args: Any) -> None:
        self._answer = answer
        self._args = args

    def __call__(self) -> None:
        answer, args = self._answer, self._args
        del self._args
        answer(*args)


def _failure(number: int, error: BaseException) -> Frame:
    try:
        return Frame.of(_FAILURE, number, 0, error)
    except Exception:  # noqa: BLE001 - whatever pickle says of it
        return Frame.of(_FAILURE, number, 0, ServerError(repr(error)))


def _at_once(_: str, job: Job) -> None:
    job()


def _in_a_thread(name: str, job: Job) -> None:
    threading.Thread(target=job, name=name, daemon=True).start()
