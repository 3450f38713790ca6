"""Instances that wait for each other: found at once, where the server stands still for ever."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, NamedTuple

from triton_stub import deviations
from triton_stub.pb_utils.errors import TritonModelException

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from triton_stub.core.host import InstanceHost
    from triton_stub.core.model import ServedModel
    from triton_stub.core.request import InferenceResponse
    from triton_stub.core.responses import Responses


class _Wait(NamedTuple):
    """An instance can do nothing until another model has answered its request."""

    model: ServedModel
    responses: Responses
    before: int  # responses that came before

    def needs(self) -> frozenset[InstanceHost] | None:
        """The instances of which one must go on before a response can come; None if unknown."""
        if self.responses.count > self.before:
            return None
        return _needed(self.model, self.responses)


def _needed(model: ServedModel, responses: Responses) -> frozenset[InstanceHost] | None:
    """The instances of which one must go on before this is answered; None if unknown."""
    if responses.closed:
        return None
    steps = responses.steps
    if steps is not None:
        needed = [_needed(*step) for step in steps()]
        known = [hosts for hosts in needed if hosts is not None]
        return frozenset().union(*known) if needed and len(known) == len(needed) else None
    executor = responses.executor
    if executor is None:
        # In the queue, where any instance of the model may take it.
        return frozenset(model.hosts())
    if responses.kept and not executor.is_alone():
        return None  # it may have given the sender to a thread
    return frozenset([executor])


class LocalExchange:
    """``core.bls.Exchange`` with a model of this process.

    ``host`` is the instance that asks; None if that cannot be said.
    """

    def __init__(
        self, model: ServedModel, responses: Responses, waits: Waits, host: InstanceHost | None
    ) -> None:
        self._model = model
        self._responses = responses
        self._waits = waits
        self._host = host
        self._count = 0

    def get(self) -> InferenceResponse:
        """Wait for the next response; TritonModelException if none can come."""
        if self._host is None or not self._host.is_here():
            # From a thread of the model's own, without which its execute may well go on.
            return next(self._responses)
        with self._waits.wait(self._host, self._model, self._responses, self._count):
            response = next(self._responses)
        self._count += 1
        return response

    def cancel(self) -> None:
        """Tell the model that nobody needs its responses any more."""
        self._responses.cancel()


class Waits:
    """The instances of one server whose ``execute`` waits for a request of their own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waits: dict[InstanceHost, _Wait] = {}

    @contextlib.contextmanager
    def wait(
        self, host: InstanceHost, model: ServedModel, responses: Responses, count: int
    ) -> Iterator[None]:
        """While ``host`` waits for another response than the ``count`` that it has.

        TritonModelException if none can come, because everybody who could answer waits, too.
        """
        with self._lock:
            self._waits[host] = _Wait(model, responses, count)
            stuck = self._stuck()
            if host in stuck:
                del self._waits[host]
        if host in stuck:
            responses.cancelled = responses.withdrawn = True
            raise TritonModelException(_told(stuck))
        try:
            yield
        finally:
            with self._lock:
                del self._waits[host]

    def closes_circle(self, model: ServedModel, responses: Responses) -> str:
        """What is to be said if a request, just sent to ``model``, is never answered; else empty.

        That is because everybody who could answer waits, in the end, for just this.
        """
        if not self._waits:
            return ""
        with self._lock:
            needed, stuck = _needed(model, responses), self._stuck()
        return _told(stuck) if needed and needed <= stuck.keys() else ""

    def _stuck(self) -> dict[InstanceHost, _Wait]:
        """Who waits for ever."""
        stuck = dict(self._waits)
        needs = {waiting: wait.needs() for waiting, wait in stuck.items()}
        while free := [
            waiting
            for waiting in stuck
            if (needed := needs[waiting]) is None or not needed <= stuck.keys()
        ]:
            for waiting in free:
                del stuck[waiting]
        return stuck


def _told(stuck: Mapping[InstanceHost, _Wait]) -> str:
    circle = ", ".join(
        f"'{waiting.instance_name}' waits for model '{wait.model.name}'"
        for waiting, wait in stuck.items()
    )
    return deviations.BLS_CIRCLE.text(
        f"this request cannot be answered, because {circle}",
        "Give a model of the circle more instances (instance_group), or call its code without a "
        "request.",
    )
