"""What is counted: successes, failures, executions and batches. Durations are each server's own."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from comparing import Engines

from triton_stub import InferenceError
from triton_stub.engines.engine import Engine

PATIENCE = 30.0


def text(how: str, rows: int = 1) -> np.ndarray:
    return np.full((rows, 1), how.encode(), object)


def ask(engine: Engine, how: str, rows: int = 1, model: str = "counted") -> str:
    """What becomes of a request: how many outputs, or the first words of the error."""
    try:
        return str(len(engine.infer(model, HOW=text(how, rows))))
    except InferenceError as error:
        return error.message.partition(",")[0]


def counts(engine: Engine, model: str) -> Counter[str]:
    (row,) = engine.statistics(model)["model_stats"]
    found = Counter({name: row[name] for name in ("inference_count", "execution_count")})
    found.update({name: times["count"] for name, times in row["inference_stats"].items()})
    for batch in row["batch_stats"]:
        size = batch.pop("batch_size")
        found.update({f"{name} of {size}": times["count"] for name, times in batch.items()})
    return found


def same_counts(
    engines: Engines, body: Callable[[Engine], Any], model: str = "counted"
) -> Counter[str]:
    """Run ``body`` on both engines; what it adds to the counters is the same."""
    stub_before, native_before = (counts(engine, model) for engine in engines)
    engines.same(body)
    expected = counts(engines.stub, model) - stub_before
    # The real server counts after it has answered.
    deadline = time.monotonic() + PATIENCE
    while (found := counts(engines.native, model) - native_before) != expected:
        if time.monotonic() > deadline:
            break
        time.sleep(0.01)
    assert found == expected
    return expected


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("how", ["fine", "error", "nothing", "raise", "too few"])
def test_a_request(engines: Engines, how: str, rows: int) -> None:
    added = same_counts(engines, lambda engine: ask(engine, how, rows))
    assert added["execution_count"] == added[f"compute_infer of {rows}"] == 1


def test_a_request_that_is_refused(engines: Engines) -> None:
    assert not same_counts(engines, lambda engine: ask(engine, "fine", rows=9))


@pytest.mark.parametrize(
    "others", [["fine"] * 3, ["fine", "error", "fine"], ["fine", "raise", "fine"]], ids=" ".join
)
def test_requests_that_are_batched(engines: Engines, others: list[str]) -> None:
    def body(engine: Engine) -> list[str]:
        with ThreadPoolExecutor() as clients:
            batch = [clients.submit(ask, engine, how, 1, "counted_threes") for how in others]
            return [answer.result() for answer in batch]

    added = same_counts(engines, body, "counted_threes")
    assert added["execution_count"] == added["compute_infer of 3"] == 1


def shape(value: Any) -> Any:
    """The same document with types for numbers."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shape(item) for item in value]
    return type(value).__name__ if isinstance(value, int) else value


def test_how_statistics_are_laid_out(engines: Engines) -> None:
    engines.same(lambda engine: ask(engine, "fine"))
    engines.same(lambda engine: shape(engine.statistics("facts")))
    # How many batch sizes there are is the business of the tests before.
    engines.same(lambda engine: shape(engine.statistics("counted"))["model_stats"][0].keys())


def test_which_models_have_statistics(engines: Engines) -> None:
    def rows(engine: Engine) -> list[tuple[str, str]]:
        return [(row["name"], row["version"]) for row in engine.statistics()["model_stats"]]

    assert ["facts", "3"] in engines.same(rows)


@pytest.mark.parametrize(("model", "version"), [("nobody", ""), ("facts", "2"), ("facts", "3")])
def test_statistics_of_what_may_not_be_there(engines: Engines, model: str, version: str) -> None:
    engines.same(lambda engine: shape(engine.statistics(model, version)))
