"""What a model has done, counted as the server counts (core ``src/infer_stats.cc``)."""

from __future__ import annotations

import threading
import time
from collections import defaultdict, deque
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from triton_stub.core import summaries
from triton_stub.core.clock import Clock

if TYPE_CHECKING:
    from collections.abc import Sequence

    from triton_stub.core.summaries import Summaries

    # The time (``time.time_ns``), and then the arguments of ``Statistics.count``.
    _Execution = tuple[int, Sequence[tuple[int, int]], "BatchTimes", bool, int, bool]

_MANY = 64


class FailureReason(StrEnum):
    """Why a request has failed, as the metrics tell it (core ``src/infer_stats.h``)."""

    REJECTED = "REJECTED"  # dropped by the queue, because it has waited for too long
    CANCELED = "CANCELED"  # dropped by the queue, because its client does not want it any more
    BACKEND = "BACKEND"  # ``execute`` has failed
    OTHER = "OTHER"  # whatever makes an ensemble fail


@dataclass(slots=True)
class Duration:
    """How often, and how long in all: in nanoseconds, and in whole microseconds of each time.

    The statistics tell the former, the metrics the latter.
    """

    count: int = 0
    ns: int = 0
    us: int = 0

    def add(self, ns: int) -> None:
        """Count once more."""
        self.count += 1
        self.ns += ns
        self.us += ns // 1000

    def lengthen(self, ns: int) -> None:
        """Add to what is counted already."""
        self.ns += ns
        self.us += ns // 1000

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


class Statistics:
    """Counters of one version of a model."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or Clock()
        #: Requests that wait for their execution, whatever they are.
        self.waiting: set[object] = set()
        #: Who is told of every success, if anybody is.
        self.summaries: Summaries | None = None
        #: How long the model took to load.
        self.load_seconds = 0.0
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
        self._reasons = dict.fromkeys(FailureReason, 0)
        self._by_batch_size: defaultdict[int, _Compute] = defaultdict(_Compute)

    def count(
        self,
        requests: Sequence[tuple[int, int]],
        times: BatchTimes,
        *,
        success: bool,
        null_rows: int = 0,
        lost: bool = False,
    ) -> None:
        """Count one call of ``execute``.

        ``requests`` are batch size (at least 1) and time of arrival of each; ``success`` is
        False if the call failed as a whole.
        ``null_rows`` are those of requests that only fill gaps. With ``lost``, because the model's
        process is gone, the requests have failed, and there was no execution (python_backend
        ``src/python_be.cc``: ``SetBatchStatistics`` comes after the answer of the process).
        """
        self._executions.append((time.time_ns(), requests, times, success, null_rows, lost))
        if len(self._executions) > _MANY:
            with self._lock:
                self._add_up()

    def count_failure(
        self, enqueued: int, reason: FailureReason = FailureReason.REJECTED, end: int | None = None
    ) -> None:
        """Count a request that has failed without being executed."""
        with self._lock:
            self._count_failure((self._clock.now() if end is None else end) - enqueued, reason)

    def count_cache_hit(
        self, enqueued: int, lookup_start: int, lookup_end: int, end: int | None = None
    ) -> None:
        """Count a request that is answered from the response cache, without an execution.

        Source: ``UpdateSuccessCacheHit``.
        """
        end = self._clock.now() if end is None else end
        with self._lock:
            self._success.add(end - enqueued)
            self._queue.add(lookup_start - enqueued)
            self._cache_hit.add(lookup_end - lookup_start)
        if self.summaries is not None:
            self.summaries.observe(summaries.QUEUE, lookup_start - enqueued)
            self.summaries.observe(summaries.CACHE_HIT, lookup_end - lookup_start)

    def count_cache_miss(self, ns: int) -> None:
        """Count so many nanoseconds of looking up, and inserting, what was not in the cache.

        The request itself is counted where it is executed (``UpdateSuccessCacheMiss``).
        """
        with self._lock:
            self._success.lengthen(ns)
            self._cache_miss.add(ns)
        if self.summaries is not None:
            self.summaries.observe(summaries.CACHE_MISS, ns)

    def count_ensemble(
        self, batch_size: int, enqueued: int, start: int, steps: Sequence[BatchTimes]
    ) -> BatchTimes:
        """Count a request to an ensemble that has succeeded; the times that it has by that.

        It is one execution, whose durations are the sums of those of its steps; steps that are
        answered from a cache have none. ``start`` is when it was taken from the queue. Source:
        ``UpdateSuccessWithDuration``.
        """
        end = self._clock.now()
        infer_start = start + sum(times.infer_start - times.start for times in steps)
        infer_end = infer_start + sum(times.infer_end - times.infer_start for times in steps)
        output_end = infer_end + sum(times.end - times.infer_end for times in steps)
        with self._lock:
            self._last_inference_ms = time.time_ns() // 1_000_000
            times = BatchTimes(start, infer_start, infer_end, output_end)
            rows = max(1, batch_size)
            self._inference_count += rows
            self._execution_count += 1
            self._success.add(end - enqueued)
            self._queue.add(start - enqueued)
            self._compute.add(times)
            self._by_batch_size[rows].add(times)
            if self.summaries is not None:
                ended_ms = self._last_inference_ms
                self.summaries.executed(end - enqueued, start - enqueued, times, ended_ms)
        return times

    def _count_failure(self, ns: int, reason: FailureReason) -> None:
        self._fail.add(ns)
        self._reasons[reason] += 1

    def _add_up(self) -> None:
        while self._executions:
            self._add(self._executions.popleft())

    def _add(self, execution: _Execution) -> None:
        ended, requests, times, success, null_rows, lost = execution
        ended_ms = ended // 1_000_000
        rows = sum(batch_size for batch_size, _ in requests)
        if not lost:
            self._last_inference_ms = ended_ms
            self._execution_count += 1
            self._by_batch_size[rows + null_rows].add(times)
        for _, enqueued in requests:
            if not success:
                self._count_failure(times.end - enqueued, FailureReason.BACKEND)
                continue
            self._success.add(times.end - enqueued)
            self._queue.add(times.start - enqueued)
            self._compute.add(times)
            if self.summaries is not None:
                request_ns, queue_ns = times.end - enqueued, times.start - enqueued
                self.summaries.executed(request_ns, queue_ns, times, ended_ms)
        if success:
            self._inference_count += rows

    def counters(self) -> dict[str, int]:
        """The counters by the names of their metrics; durations are in microseconds."""
        with self._lock:
            self._add_up()
            return {
                "nv_inference_request_success": self._success.count,
                "nv_inference_count": self._inference_count,
                "nv_inference_exec_count": self._execution_count,
                "nv_inference_request_duration_us": self._success.us,
                "nv_inference_queue_duration_us": self._queue.us,
                "nv_inference_compute_input_duration_us": self._compute.compute_input.us,
                "nv_inference_compute_infer_duration_us": self._compute.compute_infer.us,
                "nv_inference_compute_output_duration_us": self._compute.compute_output.us,
                "nv_cache_num_hits_per_model": self._cache_hit.count,
                "nv_cache_hit_duration_per_model": self._cache_hit.us,
                "nv_cache_num_misses_per_model": self._cache_miss.count,
                "nv_cache_miss_duration_per_model": self._cache_miss.us,
            }

    def failures(self) -> dict[FailureReason, int]:
        """How many requests have failed, and why."""
        with self._lock:
            self._add_up()
            return dict(self._reasons)

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
