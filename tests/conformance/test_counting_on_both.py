"""Statistics and metrics after the same requests: both engines have counted the same."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import urllib3
from broken_models import both_engines
from comparing import Engines
from mortal import control
from observed import (
    CACHE,
    CACHE_OPTION,
    MODELS,
    NEWER,
    ask,
    cancelled,
    counted,
    series,
    settled,
    statistics,
    wait_for_pending,
    write,
)
from patience import wait_until

from triton_stub.engines.engine import Engine
from triton_stub.engines.native import NativeEngine
from triton_stub.engines.stub import StubEngine


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("counting")
    write(folder)
    return folder


@pytest.fixture(scope="module")
def engines(repository: Path) -> Iterator[Engines]:
    options = ["--model-control-mode=explicit", CACHE_OPTION]
    with both_engines(
        repository,
        options=[*options, *(f"--load-model={model}" for model in MODELS)],
        model_control_mode="explicit",
        startup_models=MODELS,
        cache_config=CACHE,
    ) as both:
        yield both


def number(
    engine: Engine, name: str, model: str, version: str = "1", **labels: str
) -> float | None:
    """One number of the page; None if it is not there."""
    wanted = {"model": model, "version": version, **labels}
    return series(engine).get((name, tuple(sorted(wanted.items()))))


CASES = {
    "one": lambda engine: ask(engine, "plain"),
    "rows": lambda engine: ask(engine, "plain", rows=3),
    "another version": lambda engine: ask(engine, "two", model_version="1"),
    "an error response": lambda engine: ask(engine, "plain", 9),
    "a failure": lambda engine: ask(engine, "plain", -1),
    "a refusal": lambda engine: ask(engine, "plain", rows=9),
    "a decoupled model": lambda engine: len(
        list(engine.stream("answers", {"X": np.full((1, 1), 3, np.float32)}))
    ),
    "requests of a model": lambda engine: ask(engine, "asks"),
    "a failure of one of these": lambda engine: ask(engine, "asks", -1),
    "not in the cache": lambda engine: ask(engine, "cached", 7),
    "in the cache": lambda engine: [ask(engine, "cached", 8) for _ in range(3)],
    "a sequence": lambda engine: ask(
        engine, "sequence", sequence_id=3, sequence_start=True, sequence_end=True
    ),
    "an ensemble": lambda engine: ask(engine, "ensemble", rows=2),
    "an ensemble whose step fails": lambda engine: ask(engine, "ensemble", -1),
    "an ensemble whose step answers with an error": lambda engine: ask(engine, "ensemble", 9),
    "an ensemble that refuses": lambda engine: ask(engine, "ensemble", rows=9),
    "too long in the queue": lambda engine: ask(engine, "slow"),
}


def one_too_many(engine: Engine) -> list[str]:
    """One request waits, and another does not find room."""
    with ThreadPoolExecutor() as clients:
        first = clients.submit(ask, engine, "full")
        wait_for_pending(engine, "full", 1)
        return [ask(engine, "full"), first.result()]


CASES |= {
    "no room in the queue": one_too_many,
    "an iterative sequence": lambda engine: len(
        list(engine.stream("again", {"X": np.full((1, 1), 3, np.float32)}))
    ),
}


@pytest.mark.rule(
    "4.16-success", "4.16-failure", "4.16-refused", "4.16-rows", "4.16-decoupled",
    "4.16-ensemble", "4.16-cache", "4.16-bls", "4.16-reasons", "4.16-timed-out",
    "4.16-no-room",
)  # fmt: skip
@pytest.mark.parametrize("case", CASES)
def test_what_a_request_adds(engines: Engines, case: str) -> None:
    engines.same(CASES[case])
    settled(engines, statistics)
    settled(engines, counted)


@pytest.mark.rule("4.16-reasons")
def test_why_requests_have_failed(engines: Engines) -> None:
    def reasons(engine: Engine) -> dict[Any, float]:
        return {key: count for key, count in counted(engine).items() if "failure" in key[0]}

    def failed(model: str, reason: str) -> float:
        name = "nv_inference_request_failure"
        return number(engines.stub, name, model, reason=reason) or 0.0

    before = {name: failed(*name) for name in (("plain", "BACKEND"), ("ensemble", "OTHER"))}
    engines.same(lambda engine: ask(engine, "ensemble", -1))
    settled(engines, reasons)
    assert failed("plain", "BACKEND") == before["plain", "BACKEND"] + 1
    # For its answer, and for itself.
    assert failed("ensemble", "OTHER") == before["ensemble", "OTHER"] + 2


@pytest.mark.rule("4.16-cancelled", "4.16-reasons")
def test_a_request_that_is_cancelled_in_the_queue(engines: Engines) -> None:
    name, labels = "nv_inference_request_failure", {"reason": "CANCELED"}
    before = number(engines.stub, name, "patient", **labels) or 0.0
    for engine in engines:
        cancelled(engine, "patient")
        # The server looks at it when others come, whether it has heard of it or not.
        wait_until(
            lambda engine=engine: (  # type: ignore[misc]
                ask(engine, "patient", rows=8) != ""
                and number(engine, name, "patient", **labels) == before + 1
            )
        )
    settled(engines, lambda engine: number(engine, name, "patient", **labels))


@pytest.mark.rule("4.16-iterative", "4.16-reasons")
def test_an_iterative_sequence(engines: Engines) -> None:
    def counts(engine: Engine) -> dict[Any, float]:
        return {
            key[0]: count for key, count in counted(engine).items() if count and "again" in str(key)
        }

    engines.same(CASES["an iterative sequence"])
    before = settled(engines, counts)
    engines.same(CASES["an iterative sequence"])
    after = settled(engines, counts)
    added = {name: after[name] - before[name] for name in after if "duration" not in name}
    assert added == {
        "nv_inference_request_success": 3,
        "nv_inference_request_failure": 1,
        "nv_inference_count": 3,
        "nv_inference_exec_count": 3,
    }


@pytest.mark.rule("4.16-pending")
@pytest.mark.parametrize("model", ["plain", "dynamic"])
def test_requests_that_wait(engines: Engines, repository: Path, model: str) -> None:
    door, begun = (repository / model / f"1/model.py.{name}" for name in ("open", "begun"))
    for engine in engines:
        with ThreadPoolExecutor() as clients:
            answers = [clients.submit(ask, engine, model, 4)]
            try:
                wait_until(begun.exists)
                answers += [clients.submit(ask, engine, model, 4) for _ in range(3)]
                wait_for_pending(engine, model, 3)
            finally:
                door.touch()
            assert [answer.result() for answer in answers] == ["[[4.0]]"] * 4
        wait_for_pending(engine, model, 0)
        door.unlink()
        begun.unlink()


def comments(engine: Engine) -> list[str]:
    """The page without its numbers: which families there are, in which order."""
    lines = engine.metrics().splitlines()
    return [line for line in lines if line[0] == "#" and line.split()[2] not in NEWER]


@pytest.mark.rule("4.16-families", "4.16-labels", "4.16-no-gpu", "4.16-cache-families")
def test_which_families_and_series_there_are(engines: Engines) -> None:
    assert engines.same(comments)[0].startswith("# HELP nv_inference_request_success Number of")
    keys = engines.same(lambda engine: sorted(series(engine)))
    assert any(["_team", 'a "b"'] in labels for _, labels in keys)
    assert not any("gpu" in line for line in comments(engines.stub))


@pytest.mark.rule("4.16-load-time")
@pytest.mark.newer("24.11", "core src/model_repository_manager/model_lifecycle.cc")
def test_how_long_models_took_to_load(engines: Engines) -> None:
    lines = [line for line in engines.stub.metrics().splitlines() if line.startswith(NEWER[0])]
    assert len(lines) == len(statistics(engines.stub)["model_stats"])
    for line in lines:
        # The server does not tell it of ensembles.
        assert (float(line.split()[-1]) > 0) is ("ensemble" not in line)


@pytest.mark.rule("4.16-machine")
def test_what_is_told_of_the_machine(engines: Engines) -> None:
    def machine(engine: Engine) -> dict[str, float]:
        lines = [line.split() for line in engine.metrics().splitlines() if "{" not in line]
        return {line[0]: float(line[1]) for line in lines if line[0].startswith("nv_cpu")}

    # The real server looks every two seconds, and tells nothing before it has.
    wait_until(lambda: machine(engines.native)["nv_cpu_memory_total_bytes"] > 0)
    stub, native = map(machine, engines)
    assert stub.keys() == native.keys()
    assert stub["nv_cpu_memory_total_bytes"] == native["nv_cpu_memory_total_bytes"]
    assert 0 < stub["nv_cpu_memory_used_bytes"] < stub["nv_cpu_memory_total_bytes"]
    assert 0 <= stub["nv_cpu_utilization"] <= 1


@pytest.mark.rule("4.16-number-format")
def test_how_numbers_are_written(engines: Engines) -> None:
    engines.same(lambda engine: ask(engine, "plain"))
    for engine in engines:
        lines = [line for line in engine.metrics().splitlines() if "nv_inference" in line]
        values = [line.rsplit(" ", 1)[1] for line in lines if line[0] != "#"]
        assert all(re.fullmatch("[0-9]+|[0-9.]+e[+][0-9]+", value) for value in values)


@pytest.mark.rule("4.16-cache-gauges")
def test_what_is_told_of_the_cache(engines: Engines) -> None:
    def cache(engine: Engine) -> dict[str, str]:
        lines = [line.split() for line in engine.metrics().splitlines() if "{" not in line]
        return {
            line[0]: "" if "duration" in line[0] else line[1]
            for line in lines
            if line[0].startswith("nv_cache")
        }

    engines.same(lambda engine: [ask(engine, "cached", value) for value in (21, 22, 21)])
    assert int(settled(engines, cache)["nv_cache_num_hits"]) > 0


PATHS = [
    *(
        ("GET", "/metrics"),
        ("GET", "/metrics/"),
        ("GET", "/"),
        ("GET", "/v2"),
        ("POST", "/metrics"),
    ),
    *(("HEAD", "/metrics"), ("GET", "/metrics?x=1"), ("GET", "/metrics/x"), ("PUT", "/x")),
]


@pytest.mark.rule("4.16-port")
@pytest.mark.parametrize(("method", "path"), PATHS)
def test_the_port_of_metrics(engines: Engines, method: str, path: str) -> None:
    stub, native = engines
    assert isinstance(stub, StubEngine)
    assert isinstance(native, NativeEngine)
    with stub.server.serve(http_port=0, metrics_port=0) as endpoint, urllib3.PoolManager() as pool:

        def answer(url: str | None) -> Any:
            found = pool.request(method, f"http://{url}{path}")
            page = re.sub(rb" [0-9.e+-]+\n", b" N\n", found.data)
            lines = [line for line in page.splitlines() if NEWER[0].encode() not in line]
            return found.status, found.headers.get("content-type"), sorted(lines)

        assert answer(endpoint.metrics_url) == answer(native.metrics_url)


@pytest.mark.rule("4.16-reload", "4.16-unload", "4.16-failures-stay")
def test_a_model_that_comes_and_goes(engines: Engines, repository: Path) -> None:
    def both(action: Callable[[Engine], Any]) -> None:
        engines.same(action)
        settled(engines, counted)
        settled(engines, statistics)

    def spare(engine: Engine) -> list[Any]:
        return [key for key in series(engine) if ("model", "spare") in key[1]]

    assert not spare(engines.stub)
    both(lambda engine: control(engine, "load", "spare"))
    both(lambda engine: [ask(engine, "spare", value) for value in (1, -1, 9)])
    # Loaded while it serves, it goes on counting in the metrics, and begins anew in the
    # statistics.
    (repository / "spare/1/model.py").write_text(
        (repository / "spare/1/model.py").read_text() + "\n"
    )
    both(lambda engine: control(engine, "load", "spare", replaces=True))
    assert number(engines.stub, "nv_inference_request_success", "spare") == 2
    assert statistics(engines.stub, "spare")["model_stats"][0]["execution_count"] == 0
    both(lambda engine: ask(engine, "spare"))
    assert number(engines.stub, "nv_inference_request_success", "spare") == 3
    # Without the model its series are gone, but for the failures.
    both(lambda engine: control(engine, "unload", "spare"))
    assert {name for name, _ in spare(engines.stub)} == {"nv_inference_request_failure"}
    both(lambda engine: control(engine, "load", "spare"))
    assert number(engines.stub, "nv_inference_request_success", "spare") == 0
    failure = "nv_inference_request_failure"
    assert number(engines.stub, failure, "spare", reason="BACKEND") == 1
    both(lambda engine: ask(engine, "spare", -1))
    assert number(engines.stub, failure, "spare", reason="BACKEND") == 2
    both(lambda engine: control(engine, "unload", "spare"))


@pytest.mark.rule("4.16-failed-load")
def test_a_model_that_does_not_load(engines: Engines) -> None:
    for engine in engines:
        assert "ValueError: no" in control(engine, "load", "broken")
    settled(engines, counted)


@pytest.mark.rule("4.16-statistics-of-all", "4.16-response-stats", "4.16-memory-usage")
def test_statistics_of_all_models(engines: Engines) -> None:
    rows = settled(engines, lambda engine: statistics(engine)["model_stats"])
    assert [row["name"] for row in rows] == sorted([*MODELS, "two"])
    assert all(row["response_stats"] == {} and row["memory_usage"] == [] for row in rows)
