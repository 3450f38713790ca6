"""Counters of a model."""

import time

import pytest

from triton_stub.core.clock import ManualClock
from triton_stub.core.statistics import BatchTimes, FailureReason, Statistics

TIMES = BatchTimes(start=100, infer_start=110, infer_end=140, end=145)


def counted(*calls, **how):
    statistics = Statistics()
    for requests in calls:
        statistics.count(requests, TIMES, **{"success": True, **how})
    return statistics.to_dict()


def test_nothing_has_happened():
    fresh = Statistics().to_dict()
    assert fresh["inference_count"] == fresh["execution_count"] == fresh["last_inference"] == 0
    assert fresh["batch_stats"] == []
    assert all(duration == {"count": 0, "ns": 0} for duration in fresh["inference_stats"].values())


def test_rows_are_inferences_and_calls_are_executions():
    counts = counted([(2, 50), (1, 70)], [(1, 90)])
    assert counts["inference_count"] == 4
    assert counts["execution_count"] == 2


@pytest.mark.parametrize(
    ("name", "ns"),
    [
        ("success", (145 - 50) + (145 - 70)),
        ("queue", (100 - 50) + (100 - 70)),
        ("compute_input", 2 * 10),
        ("compute_infer", 2 * 30),
        ("compute_output", 2 * 5),
    ],
)
def test_every_request_of_a_batch_is_told_its_time(name, ns):
    stats = counted([(2, 50), (1, 70)])["inference_stats"]
    assert stats[name] == {"count": 2, "ns": ns}


def test_a_call_that_fails_is_an_execution_without_inferences():
    counts = counted([(2, 50), (1, 70)], success=False)
    assert counts["inference_count"] == 0
    assert counts["execution_count"] == 1
    stats = counts["inference_stats"]
    assert stats.pop("fail") == {"count": 2, "ns": (145 - 50) + (145 - 70)}
    assert all(duration["count"] == 0 for duration in stats.values())


def test_a_call_that_never_came_back_is_no_execution():
    counts = counted([(2, 50), (1, 70)], success=False, lost=True)
    assert counts["execution_count"] == counts["last_inference"] == 0
    assert counts["batch_stats"] == []
    assert counts["inference_stats"]["fail"] == {"count": 2, "ns": (145 - 50) + (145 - 70)}


def test_batches_are_listed_by_their_rows():
    batches = counted([(3, 0)], [(1, 0), (2, 0)], [(1, 0)])["batch_stats"]
    assert [(batch["batch_size"], batch["compute_infer"]["count"]) for batch in batches] == [
        (1, 1),
        (3, 2),
    ]
    assert batches[1]["compute_infer"]["ns"] == 60


def test_last_inference_is_the_wall_clock_in_milliseconds():
    before = time.time_ns() // 1_000_000
    assert before <= counted([(1, 0)])["last_inference"] <= time.time_ns() // 1_000_000


def test_what_is_printed_is_a_copy():
    statistics = Statistics()
    statistics.to_dict()["inference_stats"]["success"]["count"] = 7
    assert statistics.to_dict()["inference_stats"]["success"]["count"] == 0


def test_why_requests_have_failed():
    statistics = Statistics()
    statistics.count([(2, 50)], TIMES, success=False)
    statistics.count_failure(5, FailureReason.CANCELED, end=15)
    statistics.count_failure(5, end=15)
    assert statistics.failures() == {"REJECTED": 1, "CANCELED": 1, "BACKEND": 1, "OTHER": 0}
    fail = statistics.to_dict()["inference_stats"]["fail"]
    assert fail == {"count": 3, "ns": (145 - 50) + 10 + 10}


def test_what_comes_from_the_cache_is_a_success_without_an_inference():
    statistics = Statistics()
    statistics.count_cache_hit(10, 20, 25, end=40)
    counts = statistics.to_dict()
    assert counts["inference_count"] == counts["execution_count"] == 0
    stats = counts["inference_stats"]
    assert stats["success"] == {"count": 1, "ns": 30}
    assert stats["queue"] == {"count": 1, "ns": 10}
    assert stats["cache_hit"] == {"count": 1, "ns": 5}


def test_what_goes_into_the_cache_makes_a_success_longer():
    statistics = Statistics()
    statistics.count([(1, 50)], TIMES, success=True)
    statistics.count_cache_miss(7)
    stats = statistics.to_dict()["inference_stats"]
    assert stats["success"] == {"count": 1, "ns": 145 - 50 + 7}
    assert stats["cache_miss"] == {"count": 1, "ns": 7}


def test_an_ensemble_takes_as_long_as_its_steps():
    clock = ManualClock()
    statistics, now = Statistics(clock), clock.now()
    statistics.count_ensemble(3, now - 950, now - 940, [TIMES, TIMES])
    counts = statistics.to_dict()
    assert (counts["inference_count"], counts["execution_count"]) == (3, 1)
    stats = counts["inference_stats"]
    assert stats["success"] == {"count": 1, "ns": 950}
    assert stats["queue"] == {"count": 1, "ns": 10}
    assert stats["compute_input"] == {"count": 1, "ns": 2 * 10}
    assert stats["compute_infer"] == {"count": 1, "ns": 2 * 30}
    assert stats["compute_output"] == {"count": 1, "ns": 2 * 5}
    assert [batch["batch_size"] for batch in counts["batch_stats"]] == [3]
