"""A process for a model, seen from the process of the server."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from triton_stub.core.processes.link import Link, LinkClosedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# Found where this package is, and without the working directory, which comes with the model.
_PROGRAM = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from triton_stub.core.processes.model_process import main; sys.path.pop(0); "
    "main(int(sys.argv[2]))"
)
_PACKAGES = str(Path(__file__).resolve().parents[3])
_PATIENCE = 2.0  # seconds for what needs none unless nothing goes on in the process


class Child:
    """Runs ``model_process.py`` from here on, in a new process and not in a copy of this one.

    ``calls`` is what it may call here; ``ended`` is called as soon as it is gone, before whoever
    waits for it gets a LinkClosedError. It does not outlive this process, nor this thread.
    """

    def __init__(
        self,
        name: str,
        calls: Mapping[str, Callable[..., Any]],
        ended: Callable[[], None] = lambda: None,
    ) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            descriptor = theirs.fileno()
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-c", _PROGRAM, _PACKAGES, str(descriptor)],
                    stdin=subprocess.DEVNULL,
                    pass_fds=[descriptor],
                )
            except BaseException:
                ours.close()
                raise
        self._link = Link(ours, calls, ended=ended, name=f"{name} reader")
        self.start = self._link.start
        self.call = self._link.call
        self.tell = self._link.tell

    @property
    def is_gone(self) -> bool:
        """True once it has ended, however."""
        return self._link.closed

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def where(self) -> str:
        """Where the model is in its code."""
        where = ""
        with contextlib.suppress(LinkClosedError, TimeoutError):
            where = self.call("where", timeout=_PATIENCE)
        return where or f"Process {self.pid} does not say where it is: it lets no thread run"

    def end(self, timeout: float | None = None) -> bool:
        """Have it end, in the way that it ends by itself, and wait for that, or for ``kill``.

        False if it does not within ``timeout`` seconds.
        """
        self.tell("end")
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return False
        self._link.close()
        return True

    def kill(self) -> None:
        """End it now."""
        self._process.kill()

    def status(self) -> str:
        """How it has ended; it must be gone."""
        # All that is certain until here is that it has closed its end.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_PATIENCE)
        if self._process.poll() is None:
            self.kill()
        status = self._process.wait()
        if status >= 0:
            return f"ended with status {status}"
        with contextlib.suppress(ValueError):
            return f"was killed by {signal.Signals(-status).name}"
        return f"was killed by signal {-status}"
