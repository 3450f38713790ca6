"""What a model has done, counted as the server counts (core ``src/infer_stats.cc``)."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from triton_stub.core.clock import Clock

if TYPE_CHECKING:
    from collections.abc import Sequence

_MANY = 1000


@dataclass(slots=True)
class Duration:
    """How often, and how long in all, in nanoseconds."""

    count: int = 0
    ns: int = 0

    def add(self, ns: int) -> None:
        """Count once more."""
        self.count += 1
        self.ns += ns

    def to_dict(self) -> dict[str, int]:
        """``{"count": …, "ns": …}``."""
        return {"count": self.count, "ns": self.ns}


class BatchTimes(NamedTuple):
    """Clock readings of one execution in the server's clock."""

    start: int
    infer_start: int
    infer_end: int
    end: int


@dataclass(slots=True)
class _Compute:
    compute_input: Duration = field(default_factory=Duration)
    compute_infer: Duration = field(default_factory=Duration)
    compute_output: Duration = field(default_factory=Duration)

    def add(self, times: BatchTimes) -> None:
        self.compute_input.add(times.infer_start - times.start)
        self.compute_infer.add(times.infer_end - times.infer_start)
        self.compute_output.add(times.end - times.infer_end)

    def to_dict(self) -> dict[str, dict[str, int]]:
        return {
            "compute_input": self.compute_input.to_dict(),
            "compute_infer": self.compute_infer.to_dict(),
            "compute_output": self.compute_output.to_dict(),
        }


class _Execution(NamedTuple):
    """One call of ``execute``: when it ended, its requests, its times, and whether it succeeded."""

    ended_ms: int
    requests: Sequence[tuple[int, int]]
    times: BatchTimes
    success: bool
    null_rows: int


class Statistics:
    """Counters of one version of a model."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or Clock()
        self._lock = threading.Lock()
        # Added up when there are many, or when somebody looks: the model is not to wait for it.
        self._executions: deque[_Execution] = deque()
        self._last_inference_ms = 0
        self._inference_count = 0
        self._execution_count = 0
        self._success = Duration()
        self._fail = Duration()
        self._queue = Duration()
        self._compute = _Compute()
        self._cache_hit = Duration()
        self._cache_miss = Duration()
        self._by_batch_size: dict[int, _Compute] = {}

    def count(
        self,
        requests: Sequence[tuple[int, int]],
        times: BatchTimes,
        *,
        success: bool,
        null_rows: int = 0,
    ) -> None:
        """Count one call of ``execute``.

        ``requests`` are batch size (at least 1) and time of arrival of each; ``success`` is
        False if the call failed as a whole.
        ``null_rows`` are those of requests that only fill gaps.
        """
        self._executions.append(
            _Execution(time.time_ns() // 1_000_000, requests, times, success, null_rows)
        )
        if len(self._executions) > _MANY:
            with self._lock:
                self._add_up()

    def count_failure(self, enqueued: int) -> None:
        """Count a request that has failed without being executed."""
        with self._lock:
            self._fail.add(self._clock.now() - enqueued)

    def count_cache_hit(self, enqueued: int, start: int, end: int) -> None:
        """Count a request that was answered from the cache, looked up from ``start`` to ``end``."""
        with self._lock:
            self._success.add(self._clock.now() - enqueued)
            self._queue.add(start - enqueued)
            self._cache_hit.add(end - start)

    def count_cache_miss(self, ns: int) -> None:
        """Count an answer that was not in the cache; ``ns`` are for the lookup and for keeping."""
        with self._lock:
            self._success.ns += ns
            self._cache_miss.add(ns)

    def _add_up(self) -> None:
        while self._executions:
            self._add(self._executions.popleft())

    def _add(self, execution: _Execution) -> None:
        ended_ms, requests, times, success, null_rows = execution
        rows = sum(batch_size for batch_size, _ in requests)
        self._last_inference_ms = ended_ms
        self._execution_count += 1
        self._by_batch_size.setdefault(rows + null_rows, _Compute()).add(times)
        for _, enqueued in requests:
            if not success:
                self._fail.add(times.end - enqueued)
                continue
            self._success.add(times.end - enqueued)
            self._queue.add(times.start - enqueued)
            self._compute.add(times)
        if success:
            self._inference_count += rows

    def to_dict(self) -> dict[str, Any]:
        """The counters as the statistics extension prints them."""
        with self._lock:
            self._add_up()
            return {
                "last_inference": self._last_inference_ms,
                "inference_count": self._inference_count,
                "execution_count": self._execution_count,
                "inference_stats": {
                    "success": self._success.to_dict(),
                    "fail": self._fail.to_dict(),
                    "queue": self._queue.to_dict(),
                    **self._compute.to_dict(),
                    "cache_hit": self._cache_hit.to_dict(),
                    "cache_miss": self._cache_miss.to_dict(),
                },
                "response_stats": {},
                "batch_stats": [
                    {"batch_size": size, **compute.to_dict()}
                    for size, compute in sorted(self._by_batch_size.items())
                ],
                "memory_usage": [],
            }
