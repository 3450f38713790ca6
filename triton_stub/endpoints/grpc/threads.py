"""Threads that answer calls."""

from __future__ import annotations

import queue
import threading
from concurrent.futures import Executor, Future
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class Threads(Executor):
    """Threads that are made when they are needed, ``most`` of them; one thread gives them work.

    Unlike those of ThreadPoolExecutor they do not keep a process from ending that has never
    stopped its server, as long as a client has a stream open.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._made = 0
        # As often as a thread has nothing to do for which no work is under way to it.
        self._idle = threading.Semaphore(0)
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Have it called in one of the threads."""
        future: Future[Any] = Future()

        def work() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(fn(*args, **kwargs))
            except BaseException as error:  # noqa: BLE001 - for whoever waits
                future.set_exception(error)

        self._work.put(work)
        if not self._idle.acquire(blocking=False) and self._made < self._most:
            self._made += 1
            threading.Thread(target=self._run, name=f"grpc_{self._made}", daemon=True).start()
        return future

    def shutdown(self, *_: Any, **__: Any) -> None:
        """End the threads after all work that they have; whatever is asked, nobody waits."""
        for _each in range(self._made):
            self._work.put(None)

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            work()
            del work  # with the call that it answered
            self._idle.release()
