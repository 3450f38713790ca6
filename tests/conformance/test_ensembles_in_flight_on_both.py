"""What becomes of a request that is at one of an ensemble's steps, on both engines."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from broken_models import write_models
from comparing import Engines, outcome
from ensemble_models import PYTHON, ensemble, step, tensors, write_ensemble
from mortal import control, wait_until
from probing import wait_for_log
from tritonclient.grpc import InferenceServerClient, InferInput

from triton_stub.engines.engine import Engine
from triton_stub.engines.native import NativeEngine
from triton_stub.engines.stub import StubEngine

HEADER = """
import json, os, time
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        self.seen = []

    def execute(self, requests):
        return [pb_utils.InferenceResponse([self.answer(request)]) for request in requests]
"""
# Begins, and goes on as soon as there is a file.
WAITS = (
    HEADER
    + """
    def answer(self, request):
        door = json.loads(request.parameters())["door"]
        pb_utils.Logger.log_info("begun " + os.path.basename(door))
        until = time.monotonic() + 60
        while not os.path.exists(door) and time.monotonic() < until:
            time.sleep(0.01)
        return pb_utils.Tensor("OUT", request.inputs()[0].as_numpy())
"""
)
# Tells how many requests came before, and how many of these were cancelled.
COUNTS = (
    HEADER
    + """
    def answer(self, request):
        self.seen.append(request.is_cancelled())
        return pb_utils.Tensor("OUT", np.array([len(self.seen), sum(self.seen)], np.float32))
"""
)
IO = PYTHON + tensors("input", "IN FP32 -1") + tensors("output", "OUT FP32 -1")
CODE = {"waits": WAITS, "counts": COUNTS}
ENSEMBLE = ensemble(
    "A FP32 -1", "C FP32 -1", step("waits", {"IN": "A"}, {"OUT": "B"}),
    step("counts", {"IN": "B"}, {"OUT": "C"}),
)  # fmt: skip
NESTED = ensemble("A FP32 -1", "C FP32 -1", step("goes", {"A": "A"}, {"C": "C"}))
MODELS = ["goes", "nests"]


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    """Both engines with all these models."""
    repository = tmp_path_factory.mktemp("in_flight")
    write_models(repository, CODE, IO)
    write_ensemble(repository, "goes", ENSEMBLE)
    write_ensemble(repository, "nests", NESTED)
    with (
        NativeEngine(repository, models=MODELS) as native,
        StubEngine(repository, models=MODELS) as stub,
    ):
        yield Engines(stub, native)


def send(engine: Engine, model: str, door: Path) -> Callable[[], None]:
    """Send a request, now; what is returned cancels it."""
    array = np.ones(1, np.float32)
    if isinstance(engine, StubEngine):
        answers = engine.model(model).infer(inputs={"A": array}, parameters={"door": str(door)})
        return answers.cancel
    value = InferInput("A", [1], "FP32").set_data_from_numpy(array)
    client = InferenceServerClient(engine.grpc_url)
    call = client.async_infer(
        model, [value], parameters={"door": str(door)}, callback=lambda *_, **__: None
    )
    return lambda: call.cancel() and None


@pytest.mark.rule("4.7-cancelled")
@pytest.mark.parametrize("model", MODELS)
def test_steps_that_have_not_begun_are_cancelled(
    engines: Engines, tmp_path: Path, model: str
) -> None:
    def body(engine: Engine) -> Any:
        before = engine.infer("counts", IN=np.ones(1, np.float32))["OUT"]
        executed = _executed(engine, "counts")
        door = tmp_path / f"door of {engine.name} {model}"
        cancel = send(engine, model, door)
        wait_for_log(engine, f'"begun {door.name}"')
        cancel()
        time.sleep(0.5)  # the real server's endpoint has to find out, and tells nobody when it has
        door.touch()
        wait_until(lambda: _executed(engine, "counts") > executed)
        return engine.infer("counts", IN=np.ones(1, np.float32))["OUT"] - before

    # Only the ensemble whose own client has gone knows of it.
    assert engines.same(body)["values"] == [2, 1 if model == "goes" else 0]


def _executed(engine: Engine, model: str) -> int:
    count: int = engine.statistics(model)["model_stats"][0]["execution_count"]
    return count


@pytest.mark.rule("4.7-in-flight")
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("unloaded", ["counts", "waits", "goes"])
def test_what_is_unloaded_meanwhile_still_answers(
    engines: Engines, tmp_path: Path, model: str, unloaded: str
) -> None:
    def body(engine: Engine) -> Any:
        for name in (*CODE, *MODELS):
            assert not control(engine, "load", name)
        door = tmp_path / f"door of {engine.name} {model} {unloaded}"
        request = {"A": np.ones(1, np.float32), "parameters": {"door": str(door)}}
        with ThreadPoolExecutor(2) as others:
            answer = others.submit(lambda: engine.infer(model, **request)["C"])
            wait_for_log(engine, f'"begun {door.name}"')
            gone = others.submit(control, engine, "unload", unloaded)
            wait_until(lambda: not engine.ready(unloaded))
            refused = outcome(lambda engine: engine.infer(unloaded, **request), engine)
            door.touch()
            return answer.result().size, gone.result(), refused["error"]

    assert engines.same(body)[:2] == [2, ""]
