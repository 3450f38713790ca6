"""Models that are being loaded or unloaded: one change of a model at a time.

Source: core ``src/model_repository_manager/model_repository_manager.cc``, ``LoadUnloadModels``.
"""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from typing import TYPE_CHECKING

from triton_stub import deviations
from triton_stub.errors import ServerError, StatusCode

if TYPE_CHECKING:
    from collections.abc import Iterator


class Changes:
    """Lets changes of different models run side by side, and those of one model in turn."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._changing: set[str] = set()
        # Of each model that is being loaded: the models that its instances wait for meanwhile.
        self._awaited: dict[str, Counter[str]] = {}
        self._closed = False

    @contextlib.contextmanager
    def of(self, name: str, *, loading: str | None = None) -> Iterator[None]:
        """Change a model, when nobody else does any more.

        ``loading`` is a model that cannot be loaded before this change is done, because it asks
        for it. ServerError if the two would wait for each other, or if no change is allowed.
        """
        with contextlib.ExitStack() as stack:
            with self._condition:
                if loading is not None:
                    stack.enter_context(self._waiting(loading, name))
                while name in self._changing:
                    if loading is not None and self._waits(name, loading):
                        raise ServerError(_circle(loading, name))
                    self._condition.wait()
                if self._closed:
                    raise ServerError("Server not ready", StatusCode.UNAVAILABLE)
                self._changing.add(name)
                stack.callback(self._done, name)
            yield

    def close(self, timeout: float) -> None:
        """Allow no more changes, and wait, for so many seconds at most, until none is under way."""
        with self._condition:
            self._closed = True
            self._condition.wait_for(lambda: not self._changing, timeout)

    def open(self) -> None:
        """Allow changes again."""
        self._closed = False

    @contextlib.contextmanager
    def _waiting(self, loading: str, name: str) -> Iterator[None]:
        awaited = self._awaited.setdefault(loading, Counter())
        awaited[name] += 1
        try:
            yield
        finally:
            awaited[name] -= 1

    def _waits(self, name: str, goal: str) -> bool:
        """True if a model waits, by whatever detour, for ``goal``."""
        seen: set[str] = set()
        ahead = [name]
        while ahead:
            name = ahead.pop()
            if name == goal:
                return True
            if name not in seen and name in self._changing:
                seen.add(name)
                ahead += (+self._awaited.get(name, Counter())).keys()
        return False

    def _done(self, name: str) -> None:
        with self._condition:
            self._changing.remove(name)
            self._condition.notify_all()


def _circle(loading: str, name: str) -> str:
    return deviations.LOADING_CIRCLE.text(
        f"'{loading}' asks, while it is being loaded, for a change of '{name}', which has to wait "
        f"until '{loading}' is loaded",
        "Ask for it in execute.",
    )
