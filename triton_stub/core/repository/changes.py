"""Models that are being loaded or unloaded: one change of a model at a time.

Source: core ``src/model_repository_manager/model_repository_manager.cc``, ``LoadUnloadModels``.
"""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from typing import TYPE_CHECKING, Protocol, TypeVar

from triton_stub import deviations
from triton_stub.errors import ServerError, StatusCode

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator


class Plan(Protocol):
    """What is to be changed."""

    @property
    def affected(self) -> Collection[str]:
        """The models that nobody else may change meanwhile."""

    def begin(self, busy: Collection[str]) -> None:
        """It will be done; others are changing the ``busy`` ones."""

    def end(self) -> None:
        """It is done, or has failed."""


P = TypeVar("P", bound=Plan)


class Changes:
    """Lets changes of different models run side by side, and those of one model in turn."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        # Of each model that is being changed: all that are changed together with it.
        self._changing: dict[str, frozenset[str]] = {}
        # Of each model that is being loaded: the models that its instances wait for meanwhile.
        self._awaited: dict[str, Counter[str]] = {}
        self._closed = False

    @contextlib.contextmanager
    def of(self, prepare: Callable[[], P], *, loading: str | None = None) -> Iterator[P]:
        """Make a plan, as often as needed until nobody else changes these models any more.

        ``loading`` is a model that cannot be loaded before this change is done, because it asks
        for it. ServerError if the two would wait for each other, or if no change is allowed.
        """
        with self._condition:
            plan = self._prepared(prepare, loading)
            names = frozenset(plan.affected)
            plan.begin(self._changing.keys() - names)
            self._changing |= dict.fromkeys(names, names)
        try:
            with self._waiting(loading, names):
                yield plan
        finally:
            with self._condition:
                plan.end()
                for name in names:
                    del self._changing[name]
                self._condition.notify_all()

    def _prepared(self, prepare: Callable[[], P], loading: str | None) -> P:
        while True:
            self._check_open()
            plan = prepare()
            busy = sorted(plan.affected & self._changing.keys())
            if not busy:
                return plan
            if loading is not None:
                for name in busy:
                    if self._waits(name, loading):
                        raise ServerError(_circle(loading, name))
            with self._waiting(loading, busy):
                self._condition.wait()

    def close(self, timeout: float) -> None:
        """Allow no more changes, and wait, for so many seconds at most, until none is under way."""
        with self._condition:
            self._closed = True
            self._condition.wait_for(lambda: not self._changing, timeout)

    def open(self) -> None:
        """Allow changes again."""
        self._closed = False

    def _check_open(self) -> None:
        if self._closed:
            raise ServerError("Server not ready", StatusCode.UNAVAILABLE)

    @contextlib.contextmanager
    def _waiting(self, loading: str | None, names: Iterable[str]) -> Iterator[None]:
        if loading is None:
            yield
            return
        with self._condition:
            self._awaited.setdefault(loading, Counter()).update(names)
        try:
            yield
        finally:
            with self._condition:
                self._awaited[loading].subtract(names)

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
                ahead += self._changing[name]
                ahead += (+self._awaited.get(name, Counter())).keys()
        return False


def _circle(loading: str, name: str) -> str:
    return deviations.LOADING_CIRCLE.text(
        f"'{loading}' asks, while it is being loaded, for a change of '{name}', which has to wait "
        f"until '{loading}' is loaded",
        "Ask for it in execute.",
    )
