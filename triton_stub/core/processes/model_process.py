"""The process of one model instance, as on the server; this is what runs in it.

Sources: python_backend ``src/pb_stub.cc`` (``main``) and ``src/stub_launcher.cc``.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import queue
import signal
import socket
import sys
import threading
from typing import TYPE_CHECKING, Any

from triton_stub.core.clock import Clock
from triton_stub.core.executor import ThreadExecutor
from triton_stub.core.processes.link import Link
from triton_stub.core.processes.remote_host import RemoteHost
from triton_stub.core.processes.remote_requests import RemotePending
from triton_stub.runtime.activity import Activity
from triton_stub.runtime.auto_complete import completed
from triton_stub.runtime.own_process import OWN_THREADS, OwnOffspring

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from triton_stub.core.conversion import Conversion
    from triton_stub.core.executor import Sender
    from triton_stub.core.processes.forked import Door
    from triton_stub.core.request import InferenceResponse
    from triton_stub.runtime.instance import InstanceSpec

    Job = Callable[[], None]

# What the main thread does, one after another. Everything else is done beside it.
_IN_MAIN_THREAD = frozenset({"auto_complete", "load", "execute", "drop", "die", "unload"})
# Not even a thread may be needed for it: the interpreter may be ending.
_AT_ONCE = frozenset({"where"})
_PR_SET_PDEATHSIG = 1


class ModelProcess:
    """Does what the server calls for, until it is told to end.

    It has one model: either an instance of it, or its class for ``auto_complete_config``.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._offspring = OwnOffspring()
        self._activity: Activity | None = None
        self._executor: ThreadExecutor | None = None
        self._again: dict[int, Sender] = {}
        self._is_over = False
        self._doors: list[Door] = []
        self._link = Link(
            connection,
            {
                "auto_complete": self._auto_complete,
                "load": self._load,
                "execute": self._execute,
                "drop": self._drop,
                "die": self._die,
                "unload": self._unload,
                "end": self._end,
                "check_ready": self._check_ready,
                "collect": self._collect,
                "where": self._where,
            },
            begin=self._begin,
            ended=_exit,
            name=f"{OWN_THREADS}reader",
        )
        # Otherwise this process would not seem to end before what it forks.
        os.register_at_fork(after_in_child=lambda: os.close(connection.detach()))

    def run(self) -> None:
        """Work until the end."""
        self._link.start()
        while not self._is_over:
            self._jobs.get()()

    def _begin(self, name: str, job: Job) -> None:
        if name in _IN_MAIN_THREAD:
            self._jobs.put(job)
        elif name in _AT_ONCE:
            job()
        else:
            threading.Thread(target=job, name=f"{OWN_THREADS}{name}", daemon=True).start()

    def _auto_complete(self, file: Path, text: str, name: str, backend_of: Path | None) -> str:
        self._activity = Activity(f"Model '{name}'")
        return completed(
            file, text, self._host(name), self._activity, backend_of=backend_of, is_alone=True
        )

    def _load(self, spec: InstanceSpec, conversion: Conversion) -> bool:
        """Load the model; whether it has an ``is_ready``."""
        conversion.pid = os.getpid()
        executor = ThreadExecutor(
            spec, conversion, self._host(spec.instance_name), Clock(), is_alone=True
        )
        self._activity = executor.instance.activity
        executor.load()
        self._executor = executor
        return executor.instance.can_be_asked

    def _execute(
        self, batch: list[tuple[Any, ...]]
    ) -> tuple[bool, list[InferenceResponse | None], dict[int, bool]]:
        """Success, answers, and whether the final response was sent to what is rescheduled."""
        assert self._executor is not None
        requests = [RemotePending(self._link, *each) for each in batch]
        done = self._executor.execute(requests)  # type: ignore[arg-type]
        senders = {pending.number: sender for pending, sender in done.rescheduled.items()}  # type: ignore[attr-defined]
        # The server may let go of these in words of its own.
        self._again |= {number: sender for number, sender in senders.items() if not sender.closed}
        closed = {number: sender.closed for number, sender in senders.items()}
        return done.success, list(done.answers), closed

    def _drop(self, number: int, instead: str) -> None:
        if sender := self._again.pop(number, None):
            sender.drop(instead)

    def _die(self, text: str) -> None:
        assert self._executor is not None
        self._executor.die(text)

    def _unload(self) -> None:
        assert self._executor is not None
        self._executor.unload()

    def _end(self) -> None:
        """Leave: from here on it is as at the end of any program."""
        self._jobs.put(self._leave)

    def _leave(self) -> None:
        self._is_over = True
        for door in self._doors:
            door.close()
        if self._activity is not None:
            self._activity.end()

    def _collect(self) -> None:
        # Not in the thread that reads: objects of the model may ask something when they go.
        threading.Thread(target=gc.collect, name=f"{OWN_THREADS}collector", daemon=True).start()

    def _check_ready(self) -> None:
        assert self._executor is not None
        self._executor.check_ready()

    def _where(self) -> str:
        return "" if self._activity is None else self._activity.where()

    def _host(self, name: str) -> RemoteHost:
        host = RemoteHost(self._link, name, self._is_alone)
        host.door.watch()
        self._doors.append(host.door)
        return host

    def _is_alone(self) -> bool:
        loop = None if self._activity is None else self._activity.loop
        return loop is None and not self._offspring.running()


def main(descriptor: int) -> None:
    """Serve the process that has the other end of a socket, and end with it."""
    _end_with_parent()
    os.set_inheritable(descriptor, False)  # noqa: FBT003
    # As the server's process of an instance: a signal for the server must not take it along.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    # What it prints is not to be lost with it.
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    sys.argv[:] = [""]
    sys.path.insert(0, "")
    ModelProcess(socket.socket(fileno=descriptor)).run()


def _end_with_parent() -> None:
    """Ask to be killed when the parent dies, even if the model lets no other thread run."""
    with contextlib.suppress(OSError, AttributeError):  # Linux only
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _exit() -> None:
    # Nobody is left whom finalize could matter to.
    os._exit(1)
