"""Summaries: how durations are spread (``--metrics-config=summary_latencies=true``).

Sources: core ``src/metrics.cc`` and ``src/metric_model_reporter.cc``; prometheus-cpp's
``ckms_quantiles.cc``, of which this has the order statistics and not the approximation.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from itertools import pairwise
from typing import TYPE_CHECKING

from triton_stub.core.metrics import braces, number
from triton_stub.pb_utils.logger import LogLevel

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from triton_stub.core.log import Log
    from triton_stub.core.statistics import BatchTimes

REQUEST = "nv_inference_request_summary_us"
QUEUE = "nv_inference_queue_summary_us"
COMPUTE = (
    "nv_inference_compute_input_summary_us",
    "nv_inference_compute_infer_summary_us",
    "nv_inference_compute_output_summary_us",
)
CACHE_HIT = "nv_cache_hit_summary_per_model"
CACHE_MISS = "nv_cache_miss_summary_per_model"
_FAMILIES = {
    REQUEST: "Summary of inference request duration in microseconds (includes cached requests)",
    QUEUE: "Summary of inference queuing duration in microseconds (includes cached requests)",
    COMPUTE[0]: "Cumulative compute input duration in microseconds (does not include cached "
    "requests)",
    COMPUTE[1]: "Cumulative compute inference duration in microseconds (does not include cached "
    "requests)",
    COMPUTE[2]: "Cumulative inference compute output duration in microseconds (does not include "
    "cached requests)",
    CACHE_HIT: "Summary of cache hit counts/durations per model, in microseconds.",
    CACHE_MISS: "Summary of cache miss counts/durations per model, in microseconds.",
}
_QUANTILES = (0.5, 0.9, 0.95, 0.99, 0.999)
_WINDOW_MS = 60_000  # for so long an observation counts for quantiles
_MOST = 10_000


class Summaries:
    """The summaries of one version of a model; ``cached`` if it has a response cache."""

    def __init__(self, *, cached: bool) -> None:
        # With a cache the server shows none of whole requests, because it would be misleading.
        names = (QUEUE, *COMPUTE, CACHE_HIT, CACHE_MISS) if cached else (REQUEST, QUEUE, *COMPUTE)
        self._lock = threading.Lock()
        self._counts = dict.fromkeys(names, 0)
        self._sums = dict.fromkeys(names, 0)
        self._latest: dict[str, deque[tuple[int, int]]] = {
            name: deque(maxlen=_MOST) for name in names
        }

    def observe(self, name: str, ns: int, at_ms: int | None = None) -> None:
        """Count a duration, which ended at ``at_ms`` of the wall clock, or now.

        Nothing happens if there is no such summary.
        """
        with self._lock:
            if name in self._counts:
                self._counts[name] += 1
                self._sums[name] += ns // 1000
                self._latest[name].append((_now() if at_ms is None else at_ms, ns // 1000))

    def executed(self, request_ns: int, queue_ns: int, times: BatchTimes, at_ms: int) -> None:
        """Count a request that was executed, and answered."""
        parts = pairwise(times)
        durations = [request_ns, queue_ns, *(end - start for start, end in parts)]
        for name, ns in zip((REQUEST, QUEUE, *COMPUTE), durations, strict=True):
            self.observe(name, ns, at_ms)

    def lines(
        self, name: str, labels: tuple[tuple[str, str], ...], quantiles: Iterable[float]
    ) -> Iterator[str]:
        """One summary as it is printed; nothing if there is no such one."""
        if name not in self._counts:
            return
        with self._lock:
            since = _now() - _WINDOW_MS
            values = sorted(us for when, us in self._latest[name] if when >= since)
            count, total = self._counts[name], self._sums[name]
        yield f"{name}_count{braces(labels)} {count}"
        yield f"{name}_sum{braces(labels)} {number(total)}"
        for quantile in quantiles:
            value = values[max(1, int(quantile * len(values))) - 1] if values else float("nan")
            marked = (*labels, ("quantile", number(quantile)))
            yield f"{name}{braces(marked)} {number(value)}"


def _now() -> int:
    return time.time_ns() // 1_000_000


def page(
    summaries: Mapping[tuple[tuple[str, str], ...], Summaries], quantiles: Iterable[float]
) -> str:
    """The summaries of all models, by their labels, in Prometheus' text format."""
    lines: list[str] = []
    for name, text in _FAMILIES.items():
        found = [
            line
            for labels, each in summaries.items()
            for line in each.lines(name, labels, quantiles)
        ]
        if found:
            lines += [f"# HELP {name} {text}", f"# TYPE {name} summary", *found]
    return "".join(f"{line}\n" for line in lines)


def parse_quantiles(text: str, log: Log) -> tuple[float, ...]:
    """Quantiles of ``summary_quantiles``, as ``0.5:0.05,0.9:0.01``; the errors have no effect.

    The log says what is none; the server's own quantiles if nothing is left.
    """
    quantiles: list[float] = []
    for pair in text.split(",") if text else ():
        quantile, colon, error = pair.partition(":")
        if not colon:
            log.note(
                LogLevel.ERROR,
                f"Invalid option: [{pair}]. No ':' delimiter found. Expected format is "
                "<quantile>:<error>",
            )
            continue
        try:
            _ = float(error)
            quantiles.append(float(quantile))
        except ValueError:
            log.note(LogLevel.ERROR, f"Invalid option: [{pair}]. Error: stod")
    return tuple(quantiles) or _QUANTILES
