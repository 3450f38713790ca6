"""The server, as a process of a model calls it: the far side of ``remote_host.py``."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from triton_stub.pb_utils.logger import LogLevel
from triton_stub.pb_utils.metrics import MetricKind

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from triton_stub.core.host import InstanceHost
    from triton_stub.core.metrics import Family, Series
    from triton_stub.core.request import InferenceRequest, InferenceResponse
    from triton_stub.core.trace import Trace
    from triton_stub.core.waiting import LocalExchange


class HostService:
    """What one process may ask, by name. What it was given it names by numbers from then on.

    ``trace`` finds the trace of a request by the number that the process has it by.
    """

    def __init__(
        self, host: InstanceHost, trace: Callable[[int], Trace | None] = lambda _: None
    ) -> None:
        self._host = host
        self._trace = trace
        self._numbers = itertools.count(1)
        self._exchanges: dict[int, LocalExchange] = {}
        self._families: dict[int, Family] = {}
        self._series: dict[int, Series] = {}
        # Whether nothing of the model runs but what is called; known when it waits.
        self._is_alone = False
        host.is_alone = lambda: self._is_alone

    def calls(self) -> Mapping[str, Callable[..., Any]]:
        """All of it, for a ``Link``."""
        return {
            "log": self._log,
            "send": self._send,
            "next": self._next,
            "cancel": self._cancel,
            "forget": self._forget,
            "family": self._family,
            "add": self._add,
            "close_family": self._close_family,
            "forget_series": self._forget_series,
            "metric": self._metric,
            "load_model": self._host.load_model,
            "unload_model": self._unload_model,
            "is_model_ready": self._host.is_model_ready,
        }

    def _log(self, level: int, message: str, file: str, line: int, early: bool) -> None:  # noqa: FBT001
        log = self._host.log
        write = log.write_early if early else log.write
        write(LogLevel(level), message, file, line)

    def _send(self, request: InferenceRequest, decoupled: bool) -> int:  # noqa: FBT001
        if request.trace is not None:
            request.trace = self._trace(request.trace)  # type: ignore[arg-type]  # its number
        number = next(self._numbers)
        self._exchanges[number] = self._host.send(request, decoupled)
        return number

    def _next(self, number: int, is_alone: bool) -> InferenceResponse:  # noqa: FBT001
        self._is_alone = is_alone
        return self._exchanges[number].get()

    def _cancel(self, number: int) -> None:
        self._exchanges[number].cancel()

    def _forget(self, number: int) -> None:
        self._exchanges.pop(number, None)

    def _family(self, name: str, description: str, kind: int) -> int:
        number = next(self._numbers)
        self._families[number] = self._host.metrics.family(name, description, MetricKind(kind))
        return number

    def _add(self, family: int, labels: Mapping[str, str], buckets: Sequence[float] | None) -> int:
        number = next(self._numbers)
        self._series[number] = self._families[family].add(labels, buckets)
        return number

    def _close_family(self, number: int) -> None:
        self._families.pop(number).close()

    def _forget_series(self, number: int) -> None:
        self._series.pop(number, None)

    def _metric(self, number: int, operation: str, *args: float) -> float | None:
        value: float | None = getattr(self._series[number], operation)(*args)
        return value

    def _unload_model(self, name: str, unload_dependents: bool) -> None:  # noqa: FBT001
        self._host.unload_model(name, unload_dependents=unload_dependents)
