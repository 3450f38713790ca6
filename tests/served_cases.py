"""Cases: metadata, configuration, what a model is told, batching and errors.

They ask the fixtures ``engines`` and ``engine``, with the models of ``conformance/models``.
"""

from __future__ import annotations

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from patience import wait_until

if TYPE_CHECKING:
    from comparing import Engines

    from triton_stub.engines.engine import Engine

MODELS = ["add", "facts", "raises", "slow"]
ROW = np.arange(4, dtype=np.float32).reshape(1, 4)


@pytest.mark.parametrize("model", MODELS)
def test_metadata(engines: Engines, model: str) -> None:
    assert engines.same(lambda engine: engine.metadata(model))["name"] == model


@pytest.mark.parametrize("model", MODELS)
def test_config(engines: Engines, model: str) -> None:
    assert engines.same(lambda engine: engine.config(model))["name"] == model


@pytest.mark.parametrize("version", ["", "1", "2", "3"])
def test_versions(engines: Engines, version: str) -> None:
    assert engines.same(lambda engine: engine.ready("facts", version)) == (version != "2")
    engines.same(lambda engine: engine.metadata("facts", version))
    engines.same(lambda engine: engine.config("facts", version))
    engines.same(
        lambda engine: (
            engine.infer(
                "facts", IN=np.ones((1, 1, 2), np.float16), model_version=version
            ).model_version
        )
    )


def test_answer(engines: Engines) -> None:
    def body(engine: Engine) -> Any:
        result = engine.infer("add", A=ROW, B=ROW, request_id="seven")
        return result["SUM"], result.request_id, result.model_name, result.model_version

    (total, *_rest) = engines.same(body)
    assert total["values"] == (2 * ROW).tolist()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"request_id": "seven"},
        {"outputs": ["JSON"]},
        {"outputs": ["OUT", "JSON"]},
        {"parameters": {"number": 3, "text": "x", "yes": True}},
        {"parameters": {"fraction": 1.5}},
    ],
)
def test_what_a_model_is_told(engines: Engines, options: dict[str, Any]) -> None:
    def body(engine: Engine) -> Any:
        result = engine.infer("facts", IN=np.ones((2, 3, 2), np.float16), **options)
        facts = json.loads(result["JSON"].item())
        # Triton's schema has grown since 2.51; test_config compares the whole of it.
        facts["args"]["model_config"] = json.loads(facts["args"]["model_config"])
        return list(result), facts, dict(result.outputs) | {"JSON": None}

    (names, *_rest) = engines.same(body)
    assert names == options.get("outputs", ["JSON", "OUT"]) or set(names) == {"JSON", "OUT"}


@pytest.mark.parametrize(
    "how",
    [
        "exception",
        "key",
        "silent",
        "exit",
        "chained",
        "triton_error",
        "model_exception",
        "tuple",
        "too_many",
        "text",
        "error:UNKNOWN",
        "error:INTERNAL",
        "error:NOT_FOUND",
        "error:INVALID_ARG",
        "error:UNAVAILABLE",
        "error:UNSUPPORTED",
        "error:ALREADY_EXISTS",
        "error:CANCELLED",
        "not at all",
    ],
)
def test_a_model_that_fails(engines: Engines, how: str) -> None:
    data = np.array([[how.encode()]], dtype=object)
    engines.same(lambda engine: engine.infer("raises", HOW=data)["OUT"])


def _four(value: float = 0.0, rows: int = 1) -> np.ndarray:
    return np.full((rows, 4), value, np.float32)


@pytest.mark.parametrize(
    ("model", "inputs", "options"),
    [
        pytest.param("nobody", {"A": ROW}, {}, id="unknown model"),
        pytest.param("add", {"A": ROW, "B": ROW}, {"model_version": "9"}, id="unknown version"),
        pytest.param("add", {"A": ROW}, {}, id="missing input"),
        pytest.param("add", {"A": ROW, "C": ROW}, {}, id="unknown input"),
        pytest.param("add", {"A": ROW, "B": ROW, "C": ROW}, {}, id="too many inputs"),
        pytest.param("add", {"A": ROW, "B": ROW}, {"outputs": ["NO"]}, id="unknown output"),
        pytest.param("add", {"A": ROW, "B": ROW.astype(np.float64)}, {}, id="wrong datatype"),
        pytest.param("add", {"A": ROW, "B": ROW[:, :3]}, {}, id="wrong shape"),
        pytest.param("add", {"A": ROW, "B": ROW[0]}, {}, id="no batch dimension"),
        pytest.param("add", {"A": _four(rows=9), "B": _four(rows=9)}, {}, id="batch too large"),
        pytest.param("add", {"A": ROW, "B": _four(rows=2)}, {}, id="batches differ"),
        pytest.param(
            "add", {"A": ROW, "B": ROW[:, :3]}, {"request_id": "x"}, id="with a request id"
        ),
    ],
)
def test_a_request_that_is_refused(
    engines: Engines, model: str, inputs: dict[str, np.ndarray], options: dict[str, Any]
) -> None:
    answer = engines.same(lambda engine: list(engine.infer(model, inputs, **options)))
    assert "error" in answer


def test_requests_are_batched(engine: Engine) -> None:
    def counts() -> Counter[str]:
        (row,) = engine.statistics("slow")["model_stats"]
        return Counter({key: row[key] for key in ("inference_count", "execution_count")})

    before = counts()
    with ThreadPoolExecutor(16) as clients:
        one = np.zeros((1, 3), np.int64)
        answers = list(clients.map(lambda _: engine.infer("slow", IN=one)["CALL"], range(48)))
    executions = len({int(answer[0, 0]) for answer in answers})
    assert executions < 48
    # The requests of an execution are counted before the execution itself.
    wait_until(lambda: (counts() - before)["execution_count"] >= executions)
    assert counts() - before == {"inference_count": 48, "execution_count": executions}
    assert max(int(answer[0, 1]) for answer in answers) <= 8


def test_different_shapes_are_not_batched(engine: Engine) -> None:
    def call(index: int) -> tuple[int, int]:
        length = 1 + index % 2
        answer = engine.infer("slow", IN=np.zeros((1, length), np.int64))["CALL"]
        return int(answer[0, 0]), length

    with ThreadPoolExecutor(16) as clients:
        answers = list(clients.map(call, range(48)))
    lengths: dict[int, set[int]] = {}
    for number, length in answers:
        lengths.setdefault(number, set()).add(length)
    assert all(len(each) == 1 for each in lengths.values())
