"""Requests that a test collects in a model's queue, and lets go all at once.

The real server has this for its dynamic and its sequence batcher alone, in the environment variable
``TRITONSERVER_DELAY_SCHEDULER`` (core ``src/dynamic_batch_scheduler.cc``).
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Self

from triton_stub.errors import InferenceError, StatusCode

if TYPE_CHECKING:
    from collections.abc import Callable


class Hold:
    """A model whose requests wait, until ``release`` or the end of the ``with`` block.

    Whatever can be said at once is still said at once: a request may be refused, because it is
    invalid or its queue is full, and deadlines pass. Then the requests are executed as if all had
    come at that moment, in the order in which they came.
    """

    def __init__(self, what: str, release: Callable[[], None]) -> None:
        self._what = what
        self._release = release
        self._thread = threading.get_ident()
        self._grown = threading.Condition()
        self._count = 0
        self._is_over = False

    @property
    def count(self) -> int:
        """How many requests have been queued so far."""
        return self._count

    @property
    def is_own(self) -> bool:
        """True in the thread that holds the model."""
        return threading.get_ident() == self._thread

    def add(self) -> None:
        """One more request is in the queue."""
        with self._grown:
            self._count += 1
            self._grown.notify_all()

    def wait(self, count: int, timeout: float = 30.0) -> None:
        """Wait until so many requests are queued; TimeoutError after ``timeout`` seconds.

        InferenceError if the hold is released before: what comes then is executed at once.
        """
        with self._grown:
            self._grown.wait_for(lambda: self._count >= count or self._is_over, timeout)
            if self._count < count and self._is_over:
                raise InferenceError(
                    f"{self._what} is not held any more, and {self._count} of {count} requests "
                    "were queued while it was: wait before release(), or the end of the block",
                    StatusCode.INVALID_ARG,
                )
            if self._count < count:
                raise TimeoutError(
                    f"{self._count} of {count} requests are in the queue of {self._what} after "
                    f"{timeout:g} s. The others have not been sent, or were refused: a request "
                    "that is refused raises where it is sent. Send them from threads, or with "
                    "infer() or async_infer(), which do not wait for the answer"
                )

    def release(self) -> None:
        """Let the requests go; nothing happens if they are gone already."""
        self._release()
        with self._grown:
            self._is_over = True
            self._grown.notify_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


class Holding:
    """A scheduler that can be held: it executes nothing while ``_held`` is not None.

    ``_changed`` is the condition with which it guards its queue, and on which its instances wait.
    It calls ``_note_queued`` for every request that it has queued.
    """

    _changed: threading.Condition
    _held: Hold | None = None

    @property
    def held(self) -> Hold | None:
        """Who holds the requests; None if they are executed."""
        return self._held

    def hold(self, what: str) -> Hold:
        """Execute nothing any more; ``what`` is the model's name for people."""
        with self._changed:
            if self._held is not None:
                text = f"{what} is held already: release it first"
                raise InferenceError(text, StatusCode.INVALID_ARG)
            held = self._held = Hold(what, lambda: self._resume(held))
            return held

    def _note_queued(self) -> None:
        if self._held is not None:
            self._held.add()

    def _resume(self, held: Hold) -> None:
        with self._changed:
            if self._held is held:
                self._held = None
                self._go_on()
        self._answer_skipped()

    def _go_on(self) -> None:
        """Execute what is queued; the lock is held."""
        self._changed.notify_all()

    def _answer_skipped(self) -> None:
        """Answer the requests that will not be executed; without the lock."""
