"""The threads and processes that a model starts, and what is left of them in the end.

On the server an instance is a process. When that ends, its interpreter waits, for ever if need be,
for threads that are no daemons, for what runs in a ``ThreadPoolExecutor`` and for children of
``multiprocessing``. Here it is a thread of a process that has to end: so the threads of models are
daemons, whatever they are told. Who starts one is seen from the stack at its start; for that
``Thread.start`` and ``Process.start`` are replaced while there are models.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import weakref
from multiprocessing.process import BaseProcess
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

from triton_stub.runtime.stacks import stack_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, MutableMapping
    from types import FrameType

_OWN_FILES = str(Path(__file__).resolve().parent.parent)
_TICK = 0.02  # seconds between two looks
_GRACE = 0.2  # seconds for daemons that have been told to end
_POOL = "concurrent.futures.thread"


class Offspring:
    """What the model starts whose modules run with ``builtins``, from ``watch`` to ``forget``."""

    def __init__(self, builtins: dict[str, Any]) -> None:
        self._builtins = builtins
        self._lock = threading.Lock()
        self._threads: weakref.WeakSet[Thread] = weakref.WeakSet()
        self._processes: weakref.WeakSet[BaseProcess] = weakref.WeakSet()

    def watch(self) -> None:
        """Begin, for a model that this thread loads and calls."""
        # Its threads are daemons only if told so, as if this were the main one of a process.
        _tell(threading.current_thread(), daemon=False)
        _WATCH.add(self._builtins, self)

    def forget(self) -> None:
        """See nothing any more; what is left runs on."""
        _WATCH.remove(self._builtins)

    def end_pools(self) -> None:
        """Let pools of processes go when they are idle, as the end of an interpreter does."""
        for thread in self._alive():
            executor = getattr(thread, "executor_reference", lambda: None)()
            if executor is not None:
                executor.shutdown(wait=False)

    def running(self) -> list[Thread | BaseProcess]:
        """All that runs."""
        return [*self._alive(), *self._children()]

    def left(self) -> list[Thread | BaseProcess]:
        """What runs and keeps the process of a real instance from ending."""
        pooled = _table(_POOL, "_threads_queues")
        threads = [
            thread
            for thread in self._alive()
            if (_works(thread, pooled[thread]) if thread in pooled else not thread.daemon)
        ]
        return [*threads, *self._children()]

    def daemons(self) -> list[Thread]:
        """Threads that run and would end with that process; those told to end get a moment."""
        until = time.monotonic() + _GRACE
        pooled = _table(_POOL, "_threads_queues")
        while left := [thread for thread in self._alive() if thread not in pooled]:
            if time.monotonic() > until:
                break
            time.sleep(_TICK)
        return left

    def let_go(self) -> None:
        """See to it that nothing of it keeps this process from ending."""
        for thread in self._alive():
            # What concurrent.futures waits for when the interpreter ends.
            _table(_POOL, "_threads_queues").pop(thread, None)
            _table("concurrent.futures.process", "_threads_wakeups").pop(thread, None)
        for child in self._children():
            child.kill()

    def start_thread(self, thread: Thread, start: Callable[[Thread], None]) -> None:
        """Start a thread of the model."""
        try:
            daemon, thread.daemon = thread.daemon, True
        except (AssertionError, RuntimeError):  # started before, or without __init__: it says so
            start(thread)
            return
        with self._lock:
            self._threads.add(thread)

        own = vars(thread)
        # A model may have put one there, too.
        before = {"run": own["run"]} if "run" in own else {}

        def run() -> None:
            # Before it starts another one, which will be the same.
            _tell(thread, daemon=daemon)
            del own["run"]
            own.update(before)
            thread.run()

        own["run"] = run
        start(thread)

    def start_process(self, child: BaseProcess, start: Callable[[BaseProcess], None]) -> None:
        """Start a process of the model."""
        start(child)
        with self._lock:
            self._processes.add(child)

    def _alive(self) -> list[Thread]:
        with self._lock:
            threads = list(self._threads)
        here = threading.current_thread()
        return [thread for thread in threads if thread.is_alive() and thread is not here]

    def _children(self) -> list[BaseProcess]:
        with self._lock:
            children = list(self._processes)
        return [child for child in children if _is_waited_for(child) and child.is_alive()]


def told(children: Iterable[Thread | BaseProcess]) -> str:
    """Which ones they are, and where they are."""
    return "\n".join(
        f"thread '{child.name}', at\n{stack_of(child)}".rstrip()
        if isinstance(child, Thread)
        else f"process '{child.name}', with the id {child.pid}"
        for child in children
    )


class _Watch:
    """Who starts what, while somebody wants to know."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wanted: dict[int, Offspring] = {}
        self._process = 0
        self._hooks = (
            _Hook(Thread, Offspring.start_thread),
            _Hook(BaseProcess, Offspring.start_process),
        )

    def add(self, builtins: dict[str, Any], offspring: Offspring) -> None:
        with self._lock:
            self._process = os.getpid()
            self._wanted[id(builtins)] = offspring
            for hook in self._hooks:
                hook.put()

    def remove(self, builtins: dict[str, Any]) -> None:
        with self._lock:
            self._wanted.pop(id(builtins), None)
            if not self._wanted:
                for hook in self._hooks:
                    hook.take_away()

    def starter(self, frame: FrameType | None) -> Offspring | None:
        """Whose code is the innermost on a stack: that of a model, or ours, which is nobody's."""
        if os.getpid() != self._process:  # a process that a model has forked
            return None
        while frame is not None:
            if offspring := self._wanted.get(id(frame.f_builtins)):
                return offspring
            if frame.f_code.co_filename.startswith(_OWN_FILES):
                return None
            frame = frame.f_back
        return None


class _Hook:
    """A ``start`` method that asks who calls it."""

    def __init__(self, owner: Any, begin: Callable[[Offspring, Any, Any], None]) -> None:
        def start(self: Any) -> None:
            offspring = _WATCH.starter(sys._getframe(1))
            if offspring is None:
                hook._original(self)
            else:
                begin(offspring, self, hook._original)

        hook = self
        self._owner = owner
        self._ours = start
        self._original = owner.start
        self._is_there = False

    def put(self) -> None:
        # Unless somebody has put theirs around ours.
        if not self._is_there or self._owner.start is self._original:
            self._original, self._owner.start = self._owner.start, self._ours
            self._is_there = True

    def take_away(self) -> None:
        if self._owner.start is self._ours:
            self._owner.start = self._original
            self._is_there = False


_WATCH = _Watch()


def _tell(thread: Thread, *, daemon: bool) -> None:
    """Have a running thread say that it is a daemon, or none: its own threads will be the same."""
    vars(thread)["_daemonic"] = daemon


def _is_waited_for(child: BaseProcess) -> bool:
    """Whether the process of a real instance waits for a child of its own.

    Those that are daemons get a SIGTERM first, which that process ignores, and what it has forked,
    too; save the workers of a ``Pool``, who see that it is gone.
    """
    if not child.daemon:
        return True
    is_forked = getattr(getattr(child, "_popen", None), "method", "") == "fork"
    return is_forked and "PoolWorker" not in child.name


def _table(module: str, name: str) -> MutableMapping[Thread, Any]:
    """A table of concurrent.futures, with the threads of all pools; empty if there are none."""
    return getattr(sys.modules.get(module), name, {})


def _works(thread: Thread, queue: Any) -> bool:
    """Whether a thread of a pool has something to do: then the interpreter waits for it."""
    frame = sys._current_frames().get(thread.ident or 0)
    if frame is None or frame.f_globals.get("__name__") != _POOL:
        return True
    return frame.f_code.co_name != "_worker" or not queue.empty()
