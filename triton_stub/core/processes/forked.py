"""The way to the server from children of its process: models may fork workers of their own.

A forked worker has a copy of everything, but the threads that execute models are its parent's. On
the server the way is shared memory, by which such a worker gets one response to each request.
"""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
import socket
import threading
import time
import weakref
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Listener
from typing import TYPE_CHECKING

from triton_stub import deviations
from triton_stub.errors import InferenceError
from triton_stub.pb_utils.errors import TritonModelException

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

    from triton_stub.core.bls import Exchange
    from triton_stub.core.request import InferenceRequest, InferenceResponse

    Send = Callable[[InferenceRequest, bool], Exchange]

_BACKLOG = 64
_PAUSE = 0.01  # seconds, after a connection that came to nothing


class Door:
    """Where requests of this process's children come in; ``send`` gives one to its model.

    Between ``watch`` and ``close`` it is opened when the process forks, and not before.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self._pid = os.getpid()
        self._key = secrets.token_bytes()
        self._opening = threading.Lock()
        self._listener: Listener | None = None
        self._thread = threading.Thread()

    @property
    def is_behind(self) -> bool:
        """True in a child."""
        return os.getpid() != self._pid

    def watch(self) -> None:
        """Open the door when this process forks."""
        _watch_forks()
        _DOORS.add(self)

    def open(self) -> None:
        """Let requests in; nothing happens if it is open, or in a child."""
        if self.is_behind:
            return
        with self._opening:
            if self._listener is None:
                self._listener = Listener(family="AF_UNIX", backlog=_BACKLOG, authkey=self._key)
                self._thread = threading.Thread(
                    target=self._run, args=(self._listener,), name="forked workers", daemon=True
                )
                self._thread.start()

    def close(self) -> None:
        """Let nothing in any more; what is inside is still answered."""
        _DOORS.discard(self)
        if self.is_behind:  # where nobody might ever let go of the lock
            return
        with self._opening:
            listener, self._listener = self._listener, None
            thread = self._thread
        if listener is None:
            return
        # It would not see that the listener is closed; it sees a connection, whatever comes of it.
        with contextlib.suppress(OSError):
            with socket.socket(socket.AF_UNIX) as knock:
                knock.settimeout(0)  # it fails if so many wait that nothing has to be seen
                knock.connect(listener.address)
            thread.join()
        listener.close()

    def send(self, request: InferenceRequest, decoupled: bool) -> Exchange:  # noqa: FBT001
        """The same as the parent's ``send``, in a child."""
        try:
            with self._connect(self._listener) as connection:
                connection.send((request, decoupled))
                was_taken, answer = connection.recv()
        except (OSError, EOFError) as error:
            raise InferenceError(
                f"the server, in the process that this one was forked from, is gone: {error!r}"
            ) from error
        if not was_taken:
            raise answer
        return _Answered(answer)

    def _connect(self, listener: Listener | None) -> Connection:
        if listener is None:
            raise ConnectionRefusedError("it was not open when this process was forked")
        return Client(listener.address, authkey=self._key)

    def _run(self, listener: Listener) -> None:
        while True:
            try:
                connection = listener.accept()
            except (OSError, EOFError, AuthenticationError):  # such as a child that was killed
                if self._listener is not listener:
                    return
                time.sleep(_PAUSE)
                continue
            if self._listener is not listener:
                connection.close()
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: Connection) -> None:
        with contextlib.suppress(OSError, EOFError), connection:
            request, decoupled = connection.recv()
            answer: InferenceResponse | InferenceError
            try:
                exchange = self._send(request, decoupled)
            except InferenceError as error:
                connection.send((False, error))
                return
            try:
                answer = exchange.get()
            except InferenceError as error:
                answer = error
            connection.send((True, answer))


class _Answered:
    """The exchange of a forked worker: one response."""

    def __init__(self, answer: InferenceResponse | InferenceError) -> None:
        self._answer: InferenceResponse | InferenceError | None = answer

    def get(self) -> InferenceResponse:
        answer, self._answer = self._answer, None
        if isinstance(answer, InferenceError):
            raise answer
        if answer is None:
            raise _impossible("a second response")
        return answer

    def cancel(self) -> None:
        raise _impossible("cancel()")


def _impossible(what: str) -> TritonModelException:
    return TritonModelException(
        deviations.FORKED_WORKER.text(
            f"{what} of a stream, in a worker that a model has forked",
            "Iterate over it in the process of the model itself.",
        )
    )


_DOORS: weakref.WeakSet[Door] = weakref.WeakSet()


@functools.cache
def _watch_forks() -> None:
    os.register_at_fork(before=_open_doors)


def _open_doors() -> None:
    for door in list(_DOORS):
        with contextlib.suppress(OSError):  # the worker will tell that it is closed
            door.open()
