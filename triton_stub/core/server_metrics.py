"""The server's own metrics: what each version of a model has done, and how the machine is.

Sources: core ``src/metrics.cc`` (names, texts and their order) and
``src/metric_model_reporter.cc`` (which series a model has, and for how long).
"""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from triton_stub.core.log import Log
from triton_stub.core.statistics import FailureReason
from triton_stub.core.summaries import Summaries, page, parse_quantiles
from triton_stub.pb_utils.metrics import MetricKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from triton_stub.core.cache import ResponseCache
    from triton_stub.core.metrics import Family, Metrics, Series
    from triton_stub.core.statistics import Statistics

_FAILURES = "nv_inference_request_failure"
_PENDING = "nv_inference_pending_request_count"
_LOAD_TIME = "nv_model_load_duration_secs"  # since 24.11
_CPU = "nv_cpu_utilization"
_MEMORY_TOTAL = "nv_cpu_memory_total_bytes"
_MEMORY_USED = "nv_cpu_memory_used_bytes"
_PINNED = ("nv_pinned_memory_pool_total_bytes", "nv_pinned_memory_pool_used_bytes")
_PER_CPU = (_CPU, _MEMORY_TOTAL, _MEMORY_USED)
# Of latencies: left out with counter_latencies=false.
_LATENCIES = {
    "nv_inference_request_duration_us": "Cumulative inference request duration in microseconds "
    "(includes cached requests)",
    "nv_inference_queue_duration_us": "Cumulative inference queuing duration in microseconds "
    "(includes cached requests)",
    "nv_inference_compute_input_duration_us": "Cumulative compute input duration in microseconds "
    "(does not include cached requests)",
    "nv_inference_compute_infer_duration_us": "Cumulative compute inference duration in "
    "microseconds (does not include cached requests)",
    "nv_inference_compute_output_duration_us": "Cumulative inference compute output duration in "
    "microseconds (does not include cached requests)",
}
# Only of models with a response cache.
_CACHE = {
    "nv_cache_num_hits_per_model": "Number of cache hits per model",
    "nv_cache_hit_duration_per_model": "Total cache hit duration per model, in microseconds",
    "nv_cache_num_misses_per_model": "Number of cache misses per model",
    "nv_cache_miss_duration_per_model": "Total cache miss (insert+lookup) duration per model, in "
    "microseconds",
}
_COUNTERS = {
    "nv_inference_request_success": "Number of successful inference requests, all batch sizes",
    _FAILURES: "Number of failed inference requests, all batch sizes",
    "nv_inference_count": "Number of inferences performed (does not include cached requests)",
    "nv_inference_exec_count": "Number of model executions performed (does not include cached "
    "requests)",
    **_LATENCIES,
    **_CACHE,
}
_GAUGES = {
    _PENDING: "Instantaneous number of pending requests awaiting execution per-model.",
    _LOAD_TIME: "Model load time in seconds",
    "nv_pinned_memory_pool_total_bytes": "Pinned memory pool total memory size, in bytes",
    "nv_pinned_memory_pool_used_bytes": "Pinned memory pool used memory size, in bytes",
    _CPU: "CPU utilization rate [0.0 - 1.0]",
    _MEMORY_TOTAL: "CPU total memory (RAM), in bytes",
    _MEMORY_USED: "CPU used memory (RAM), in bytes",
}
# Only with a response cache, which makes these itself.
_CACHE_GAUGES = {
    "nv_cache_util": "Cache utilization [0.0 - 1.0]",
    "nv_cache_num_entries": "Number of responses stored in response cache",
    "nv_cache_num_hits": "Number of cache hits in response cache",
    "nv_cache_num_misses": "Number of cache misses in response cache",
    "nv_cache_num_lookups": "Number of cache lookups in response cache",
    "nv_cache_num_evictions": "Number of cache evictions in response cache",
    "nv_cache_lookup_duration": "Total cache lookup duration (hit and miss), in microseconds",
    "nv_cache_insertion_duration": "Total cache insertion duration, in microseconds",
}


class ServerMetrics:
    """The server's own families in a registry, which are the first of their kinds there.

    ``config`` are the settings of ``--metrics-config`` without a name before them; of these
    ``counter_latencies``, ``summary_latencies`` and ``summary_quantiles`` count. ``cache`` is the
    response cache, if there is one. Unless ``enabled`` none of the settings counts, nothing is
    told of the machine, and of models only what does not happen in their instances; ``cpu`` is
    for what is told of the CPU.
    """

    def __init__(
        self,
        metrics: Metrics,
        config: Mapping[str, str] | None = None,
        cache: ResponseCache | None = None,
        log: Log | None = None,
        *,
        enabled: bool = True,
        cpu: bool = True,
    ) -> None:
        config = config if config and enabled else {}
        self._enabled = enabled
        self._metrics = metrics
        self._cache = cache
        self._lock = threading.Lock()
        self._with_counters = config.get("counter_latencies") != "false"
        self._with_summaries = config.get("summary_latencies") == "true"
        self._quantiles = parse_quantiles(config.get("summary_quantiles", ""), log or Log())
        self._models: dict[tuple[tuple[str, str], ...], _ModelSeries] = {}
        for name in _COUNTERS:
            self._family(name)
        # Like the page itself these live as long as the server.
        gauges = _GAUGES if cache is None else _GAUGES | _CACHE_GAUGES
        self._families = {name: self._family(name) for name in gauges}
        self._gauges = {
            name: family.add({}, None)
            for name, family in self._families.items()
            if name in _CACHE_GAUGES
            or (enabled and name in _PINNED)
            or (enabled and cpu and name in _PER_CPU)
        }
        self._last_cpu = _cpu_times()

    def add(self, config: Any, version: int, statistics: Statistics, *, cached: bool) -> None:
        """Show what a version of a model counts, until it is removed.

        A version that is loaded again while it serves goes on with the same series.
        """
        labels = {"model": config.name, "version": str(version)}
        labels |= {f"_{name}": text for name, text in config.metric_tags.items()}
        key = tuple(sorted(labels.items()))
        with self._lock:
            if key not in self._models:
                self._models[key] = _ModelSeries(labels)
            series = self._models[key]
            if not series.users:
                self._show(series, cached=cached)
            statistics.summaries = series.summaries
            series.users.add(statistics)
            # By now those are done that were gone before.
            self._retire(series, [each for each in series.counted if each not in series.users])
            series.counted.append(statistics)

    def remove(self, statistics: Statistics) -> None:
        """A version of a model is gone; nothing happens if it was never there.

        The series go with the last that is added to them, but for those of failures, which the
        server leaves and goes on with (the reporter's destructor does not know them).
        """
        with self._lock:
            for series in self._models.values():
                if statistics in series.users:
                    series.users.remove(statistics)
                    if not series.users:
                        self._hide(series)

    def text(self) -> str:
        """The page: these families and all others of the registry."""
        with self._lock:
            for series in self._models.values():
                self._update(series)
            self._update_machine()
            if self._cache is not None:
                self._update_cache(self._cache)
            summaries = {
                labels: series.summaries
                for labels, series in self._models.items()
                if series.summaries is not None
            }
        return self._metrics.text() + page(summaries, self._quantiles)

    def _family(self, name: str) -> Family:
        kind = MetricKind.COUNTER if name in _COUNTERS else MetricKind.GAUGE
        return self._metrics.family(name, (_COUNTERS | _GAUGES | _CACHE_GAUGES)[name], kind)

    def _show(self, series: _ModelSeries, *, cached: bool) -> None:
        names = [
            name
            for name in (*_COUNTERS, _PENDING, _LOAD_TIME)
            if name != _FAILURES
            and (name not in _LATENCIES or self._with_counters)
            and (name not in _CACHE or (cached and self._with_counters))
        ]
        series.families = {name: self._family(name) for name in names}
        series.numbers = {
            name: family.add(series.labels, None) for name, family in series.families.items()
        }
        if self._with_summaries:
            series.summaries = Summaries(cached=cached)
        failures = self._family(_FAILURES)
        series.failures = {
            reason: failures.add({**series.labels, "reason": reason}, None)
            for reason in FailureReason
        }

    def _hide(self, series: _ModelSeries) -> None:
        self._update(series)
        self._retire(series, series.counted[:])
        series.past.clear()
        series.numbers.clear()
        series.summaries = None
        for family in series.families.values():
            family.close()

    def _retire(self, series: _ModelSeries, gone: Iterable[Statistics]) -> None:
        for statistics in gone:
            series.past.update(self._counters(statistics))
            series.failed.update(self._failures(statistics))
            series.counted.remove(statistics)

    def _counters(self, statistics: Statistics) -> Mapping[str, int]:
        counters = statistics.counters()  # this is also when summaries hear of executions
        # A defect of the server (``IncrementCounter``): without latencies it counts nothing.
        if not self._with_counters:
            return {}
        if self._enabled:
            return counters
        # Instances tell nobody (core ``src/backend_model_instance.cc``), queues and caches do.
        hits = counters["nv_cache_num_hits_per_model"]
        return {"nv_inference_request_success": hits} | {name: counters[name] for name in _CACHE}

    def _failures(self, statistics: Statistics) -> Mapping[FailureReason, int]:
        if not self._with_counters:
            return {}
        failures = statistics.failures()
        return failures if self._enabled else failures | {FailureReason.BACKEND: 0}

    def _update(self, series: _ModelSeries) -> None:
        counters, failed = series.past.copy(), series.failed.copy()
        for statistics in series.counted:
            counters.update(self._counters(statistics))
            failed.update(self._failures(statistics))
        if series.numbers:
            for name, number in series.numbers.items():
                number.overwrite(counters[name])
            waiting = sum(len(statistics.waiting) for statistics in series.counted)
            series.numbers[_PENDING].overwrite(waiting)
            series.numbers[_LOAD_TIME].overwrite(series.counted[-1].load_seconds)
        for reason, number in series.failures.items():
            number.overwrite(failed[reason])

    def _update_machine(self) -> None:
        if _CPU not in self._gauges:
            return
        now = _cpu_times()
        busy, idle = now.busy - self._last_cpu.busy, now.idle - self._last_cpu.idle
        if busy + idle > 0:
            self._gauges[_CPU].set(max(0, busy) / (busy + idle))
            self._last_cpu = now
        total, available = _memory()
        self._gauges[_MEMORY_TOTAL].set(total)
        self._gauges[_MEMORY_USED].set(total - available)

    def _update_cache(self, cache: ResponseCache) -> None:
        numbers = (
            cache.arena.used / cache.arena.size,
            len(cache),
            cache.hits,
            cache.misses,
            cache.hits + cache.misses,
            cache.evictions,
            cache.lookup_ns // 1000,
            cache.insertion_ns // 1000,
        )
        for name, number in zip(_CACHE_GAUGES, numbers, strict=True):
            self._gauges[name].set(number)


class _ModelSeries:
    """The series with the labels of one version of a model, and what they add up."""

    def __init__(self, labels: dict[str, str]) -> None:
        self.labels = labels
        self.families: dict[str, Family] = {}
        self.numbers: dict[str, Series] = {}
        self.failures: dict[FailureReason, Series] = {}
        self.summaries: Summaries | None = None
        #: Who counts, and these and who has counted lately, in the order in which they came.
        self.users: set[Statistics] = set()
        self.counted: list[Statistics] = []
        #: What others have counted since the series are there; failures from before that, too.
        self.past: Counter[str] = Counter()
        self.failed: Counter[FailureReason] = Counter()


class _Cpu(NamedTuple):
    busy: int
    idle: int


def _cpu_times() -> _Cpu:
    """Ticks of all processors since the machine has started; zeros where nobody tells."""
    try:
        line = Path("/proc/stat").read_text("ascii").split("\n", 1)[0].split()
    except OSError:
        return _Cpu(0, 0)
    user, nice, system, idle, iowait, irq, softirq, steal = map(int, line[1:9])
    return _Cpu(user + nice + system + irq + softirq + steal, idle + iowait)


def _memory() -> tuple[int, int]:
    """Bytes of memory, and how many of them are available; zeros where nobody tells."""
    try:
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
    except OSError:
        return 0, 0
    found = dict(line.split(":", 1) for line in lines)
    total, available = (int(found[name].split()[0]) * 1024 for name in ("MemTotal", "MemAvailable"))
    return total, available
