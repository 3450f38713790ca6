"""The server's own metrics."""

import gc
import weakref
from types import SimpleNamespace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from triton_stub.core import server_metrics
from triton_stub.core.cache import ResponseCache
from triton_stub.core.log import Log
from triton_stub.core.metrics import Metrics
from triton_stub.core.server_metrics import ServerMetrics
from triton_stub.core.statistics import BatchTimes, FailureReason, Statistics
from triton_stub.core.summaries import parse_quantiles
from triton_stub.pb_utils.metrics import MetricKind

TIMES = BatchTimes(start=100_000, infer_start=112_000, infer_end=140_500, end=145_000)
LATENCIES = [f"compute_{part}" for part in ("input", "infer", "output")] + ["request", "queue"]


def config(name="m", **tags):
    return SimpleNamespace(name=name, metric_tags=tags)


def numbers(metrics):
    """The page as a dictionary; it must be one that Prometheus reads."""
    return {
        (sample.name.removesuffix("_total"), *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(metrics.text())
        for sample in family.samples
    }


@pytest.fixture
def metrics():
    return ServerMetrics(Metrics())


@pytest.fixture
def statistics(metrics):
    counters = Statistics()
    metrics.add(config(), 1, counters, cached=False)
    return counters


def test_counts_of_executions(metrics, statistics):
    statistics.count([(2, 50_000), (1, 70_500)], TIMES, success=True)
    page = numbers(metrics)
    assert page["nv_inference_request_success", "m", "1"] == 2
    assert page["nv_inference_count", "m", "1"] == 3
    assert page["nv_inference_exec_count", "m", "1"] == 1
    # Of each request the whole microseconds.
    assert page["nv_inference_request_duration_us", "m", "1"] == 95 + 74
    assert page["nv_inference_queue_duration_us", "m", "1"] == 50 + 29
    assert page["nv_inference_compute_input_duration_us", "m", "1"] == 12 + 12
    assert page["nv_inference_compute_infer_duration_us", "m", "1"] == 28 + 28
    assert page["nv_inference_compute_output_duration_us", "m", "1"] == 4 + 4


def test_failures_by_their_reasons(metrics, statistics):
    statistics.count([(1, 0), (1, 0)], TIMES, success=False)
    statistics.count_failure(0, FailureReason.CANCELED)
    page = numbers(metrics)
    found = {
        reason: page["nv_inference_request_failure", "m", reason, "1"] for reason in FailureReason
    }
    assert found == {"REJECTED": 0, "CANCELED": 1, "BACKEND": 2, "OTHER": 0}


def test_requests_that_wait(metrics, statistics):
    first, second = object(), object()
    statistics.waiting.update((first, second))
    assert numbers(metrics)["nv_inference_pending_request_count", "m", "1"] == 2
    statistics.waiting.discard(first)
    assert numbers(metrics)["nv_inference_pending_request_count", "m", "1"] == 1


def test_how_long_a_model_took_to_load(metrics, statistics):
    statistics.load_seconds = 0.25
    assert numbers(metrics)["nv_model_load_duration_secs", "m", "1"] == 0.25


def test_series_of_the_cache_are_of_models_that_have_one(metrics, statistics):
    cached = Statistics()
    metrics.add(config("cached"), 1, cached, cached=True)
    cached.count_cache_hit(1_000, 2_000, 5_500, end=9_000)
    cached.count_cache_miss(4_000)
    page = numbers(metrics)
    assert ("nv_cache_num_hits_per_model", "m", "1") not in page
    assert page["nv_cache_num_hits_per_model", "cached", "1"] == 1
    assert page["nv_cache_hit_duration_per_model", "cached", "1"] == 3
    assert page["nv_cache_num_misses_per_model", "cached", "1"] == 1
    assert page["nv_cache_miss_duration_per_model", "cached", "1"] == 4
    assert page["nv_inference_request_duration_us", "cached", "1"] == 8 + 4
    assert page["nv_inference_request_success", "cached", "1"] == 1


def test_tags_are_labels(metrics):
    metrics.add(config(team="a"), 7, Statistics(), cached=False)
    assert 'nv_inference_count{_team="a",model="m",version="7"} 0\n' in metrics.text()


def test_a_version_that_is_loaded_while_it_serves_goes_on_counting(metrics, statistics):
    statistics.count([(1, 0)], TIMES, success=True)
    later = Statistics()
    metrics.add(config(), 1, later, cached=False)
    metrics.remove(statistics)
    later.count([(1, 0)], TIMES, success=True)
    # The old one still works off what it had.
    statistics.count([(1, 0)], TIMES, success=True)
    assert numbers(metrics)["nv_inference_request_success", "m", "1"] == 3


def test_of_versions_that_are_gone_nothing_is_kept_but_what_they_have_counted(metrics):
    gone, statistics = [], Statistics()
    metrics.add(config(), 1, statistics, cached=False)
    for _ in range(3):
        statistics.count([(2, 0)], TIMES, success=True)
        statistics.count([(1, 0)], TIMES, success=False)
        new = Statistics()
        metrics.add(config(), 1, new, cached=False)
        metrics.remove(statistics)
        gone.append(weakref.ref(statistics))
        statistics = new
    page = numbers(metrics)
    assert page["nv_inference_count", "m", "1"] == 6
    assert page["nv_inference_request_failure", "m", "BACKEND", "1"] == 3
    gc.collect()
    assert [each() for each in gone[:2]] == [None, None]  # the last one may still be at work


def test_of_a_version_that_is_gone_failures_are_left(metrics, statistics):
    statistics.count([(1, 0)], TIMES, success=True)
    statistics.count([(1, 0)], TIMES, success=False)
    metrics.remove(statistics)
    metrics.remove(statistics)
    page = numbers(metrics)
    assert {name for name, *labels in page if labels} == {"nv_inference_request_failure"}
    assert page["nv_inference_request_failure", "m", "BACKEND", "1"] == 1
    again = Statistics()
    metrics.add(config(), 1, again, cached=False)
    again.count([(1, 0)], TIMES, success=False)
    page = numbers(metrics)
    assert page["nv_inference_request_success", "m", "1"] == 0
    assert page["nv_inference_request_failure", "m", "BACKEND", "1"] == 2


def test_without_latencies_nothing_is_counted():
    metrics = ServerMetrics(Metrics(), {"counter_latencies": "false"})
    counters = Statistics()
    metrics.add(config(), 1, counters, cached=True)
    counters.count([(1, 0)], TIMES, success=True)
    counters.count([(1, 0)], TIMES, success=False)
    page = numbers(metrics)
    assert not {name for name, *_ in page} & {
        f"nv_inference_{each}_duration_us" for each in LATENCIES
    }
    assert page["nv_inference_request_success", "m", "1"] == 0
    assert page["nv_inference_request_failure", "m", "BACKEND", "1"] == 0


def test_families_of_models_come_after_the_server_s(metrics):
    registry = Metrics()
    metrics = ServerMetrics(registry)
    family = registry.family("own", "text", MetricKind.COUNTER)
    family.add({}, None)
    metrics.add(config(), 1, Statistics(), cached=True)
    names = [line.split()[2] for line in metrics.text().splitlines() if line.startswith("# TYPE")]
    assert names.index("own") == names.index("nv_cache_miss_duration_per_model") + 1
    assert names[0] == "nv_inference_request_success"


def test_the_machine(metrics, monkeypatch, tmp_path):
    page = numbers(metrics)
    assert 0 < page["nv_cpu_memory_used_bytes",] < page["nv_cpu_memory_total_bytes",]
    assert 0 <= page["nv_cpu_utilization",] <= 1
    times = iter([server_metrics._Cpu(100, 100), server_metrics._Cpu(130, 110)])
    monkeypatch.setattr(server_metrics, "_cpu_times", lambda: next(times))
    metrics = ServerMetrics(Metrics())
    assert numbers(metrics)["nv_cpu_utilization",] == 0.75


def test_metrics_that_are_turned_off():
    metrics = ServerMetrics(Metrics(), {"counter_latencies": "false"}, enabled=False)
    counters = Statistics()
    metrics.add(config(), 1, counters, cached=True)
    counters.count([(2, 50_000)], TIMES, success=True)
    counters.count([(2, 50_000)], TIMES, success=False)
    counters.count_failure(0, FailureReason.REJECTED)
    counters.count_cache_hit(0, 0, 3000)
    counters.count_cache_miss(4000)
    counters.waiting.add(object())
    counted = {name: number for name, number in numbers(metrics).items() if number}
    assert counted == {
        ("nv_inference_request_success", "m", "1"): 1,
        ("nv_inference_request_failure", "m", "REJECTED", "1"): 1,
        ("nv_inference_pending_request_count", "m", "1"): 1,
        ("nv_cache_num_hits_per_model", "m", "1"): 1,
        ("nv_cache_hit_duration_per_model", "m", "1"): 3,
        ("nv_cache_num_misses_per_model", "m", "1"): 1,
        ("nv_cache_miss_duration_per_model", "m", "1"): 4,
    }


def test_failures_that_nobody_is_told_of_are_not_told_later():
    metrics, counters = ServerMetrics(Metrics(), enabled=False), Statistics()
    metrics.add(config(), 1, counters, cached=False)
    counters.count([(2, 50_000)], TIMES, success=False)
    counters.count_failure(0, FailureReason.REJECTED)
    metrics.remove(counters)
    page = numbers(metrics)
    assert page["nv_inference_request_failure", "m", "BACKEND", "1"] == 0
    assert page["nv_inference_request_failure", "m", "REJECTED", "1"] == 1


@pytest.mark.parametrize(
    ("options", "left"),
    [
        ({}, {"nv_pinned", "nv_cpu", "nv_cache"}),
        ({"cpu": False}, {"nv_pinned", "nv_cache"}),
        ({"enabled": False}, {"nv_cache"}),
    ],
)
def test_what_is_told_of_the_machine(options, left):
    page = numbers(ServerMetrics(Metrics(), cache=ResponseCache(1 << 20), **options))
    assert {"_".join(name.split("_")[:2]) for name, *_ in page} == left


def test_a_machine_that_tells_nothing(monkeypatch):
    def nothing(*_, **__):
        raise FileNotFoundError

    monkeypatch.setattr(server_metrics.Path, "read_text", nothing)
    page = numbers(ServerMetrics(Metrics()))
    assert page["nv_cpu_memory_total_bytes",] == page["nv_cpu_utilization",] == 0


def test_the_response_cache():
    cache = ResponseCache(1 << 20)
    metrics = ServerMetrics(Metrics(), cache=cache)
    cache.lookup(1)
    page = numbers(metrics)
    assert page["nv_cache_num_misses",] == page["nv_cache_num_lookups",] == 1
    assert page["nv_cache_num_entries",] == page["nv_cache_num_hits",] == 0
    assert 0 < page["nv_cache_util",] < 1


def summaries(metrics, name):
    """The lines of one summary without its labels' model."""
    return [
        line.removeprefix(name) for line in metrics.text().splitlines() if line.startswith(name)
    ]


@pytest.mark.parametrize("counters", ["true", "false"])
def test_summaries_of_executions(counters):
    config_ = {"summary_latencies": "true", "summary_quantiles": "0.5:0.1,0.9:0.1"}
    config_["counter_latencies"] = counters
    metrics = ServerMetrics(Metrics(), config_)
    counters = Statistics()
    metrics.add(config(), 1, counters, cached=False)
    labels = 'model="m",version="1"'
    name = "nv_inference_request_summary_us"
    assert summaries(metrics, name) == [
        f"_count{{{labels}}} 0",
        f"_sum{{{labels}}} 0",
        f'{{{labels},quantile="0.5"}} Nan',
        f'{{{labels},quantile="0.9"}} Nan',
    ]
    counters.count([(1, TIMES.end - 1000 * us) for us in (1, 2, 3, 40)], TIMES, success=True)
    counters.count([(1, 0)], TIMES, success=False)
    assert summaries(metrics, name) == [
        f"_count{{{labels}}} 4",
        f"_sum{{{labels}}} 46",
        # As the real server says of four.
        f'{{{labels},quantile="0.5"}} 2',
        f'{{{labels},quantile="0.9"}} 3',
    ]
    assert summaries(metrics, "nv_inference_compute_input_summary_us")[1].endswith(" 48")
    assert not summaries(metrics, "nv_cache")


def test_summaries_of_a_model_with_a_cache():
    metrics = ServerMetrics(Metrics(), {"summary_latencies": "true"})
    counters = Statistics()
    metrics.add(config(), 1, counters, cached=True)
    counters.count([(1, 0)], TIMES, success=True)
    counters.count_cache_hit(0, 5_000, 9_500, end=20_000)
    counters.count_cache_miss(7_000)
    counters.count_ensemble(1, TIMES.start, TIMES.start, [TIMES])
    labels = 'model="m",version="1"'
    assert not summaries(metrics, "nv_inference_request_summary_us")
    assert summaries(metrics, "nv_inference_queue_summary_us")[0] == f"_count{{{labels}}} 3"
    hits = summaries(metrics, "nv_cache_hit_summary_per_model")
    assert hits[:2] == [f"_count{{{labels}}} 1", f"_sum{{{labels}}} 4"]
    assert summaries(metrics, "nv_cache_miss_summary_per_model")[1] == f"_sum{{{labels}}} 7"
    assert numbers(metrics)  # Prometheus reads it


def test_quantiles_that_are_none_are_in_the_log():
    log = Log()
    assert parse_quantiles("0.5:0.05,x,y:1,0.25:z", log) == (0.5,)
    assert str(log).count("Invalid option: [") == 3
    assert len(parse_quantiles("", log)) == 5
