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
from mortal import control
from patience import wait_until
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
# Tells the ids of all that came so far; with the first it waits until there is a file.
RANKS = (
    HEADER
    + """
    def answer(self, request):
        self.seen.append(int(request.request_id()))
        parameters = json.loads(request.parameters())
        if len(self.seen) == 1:
            pb_utils.Logger.log_info("begun " + os.path.basename(parameters["door"]))
            until = time.monotonic() + 60
            while not os.path.exists(parameters["door"]) and time.monotonic() < until:
                time.sleep(0.01)
        return pb_utils.Tensor("OUT", np.array([self.seen], np.float32))
"""
)
IO = PYTHON + tensors("input", "IN FP32 -1") + tensors("output", "OUT FP32 -1")
CODE = {"waits": WAITS, "counts": COUNTS}
ENSEMBLE = ensemble(
    "A FP32 -1", "C FP32 -1", step("waits", {"IN": "A"}, {"OUT": "B"}),
    step("counts", {"IN": "B"}, {"OUT": "C"}),
)  # fmt: skip
NESTED = ensemble("A FP32 -1", "C FP32 -1", step("goes", {"A": "A"}, {"C": "C"}))
LEVELS = """
max_batch_size: 1
dynamic_batching { priority_levels: 2 default_priority_level: 2 }
"""
RANKED = ensemble(
    "A FP32 -1", "B FP32 -1", step("ranks", {"IN": "A"}, {"OUT": "B"}), more="max_batch_size: 1\n"
)
MODELS = ["goes", "nests"]


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    """Both engines with all these models."""
    repository = tmp_path_factory.mktemp("in_flight")
    write_models(repository, CODE, IO)
    write_models(repository, {"ranks": RANKS}, IO + LEVELS)
    write_ensemble(repository, "goes", ENSEMBLE)
    write_ensemble(repository, "ranked", RANKED)
    write_ensemble(repository, "nests", NESTED)
    with (
        NativeEngine(repository, models=[*MODELS, "ranked"]) as native,
        StubEngine(repository, models=[*MODELS, "ranked"]) as stub,
    ):
        yield Engines(stub, native)


def send(
    engine: Engine, model: str, door: Path, shape: tuple[int, ...] = (1,), **more: Any
) -> Callable[[], None]:
    """Send a request, now; what is returned cancels it."""
    array = np.ones(shape, np.float32)
    more["parameters"] = {"door": str(door)}
    if isinstance(engine, StubEngine):
        return engine.model(model).infer(inputs={"A": array}, **more).cancel
    value = InferInput("A", list(shape), "FP32").set_data_from_numpy(array)
    client = InferenceServerClient(engine.grpc_url)
    call = client.async_infer(model, [value], callback=lambda *_, **__: None, **more)
    return lambda: call.cancel() and None


@pytest.mark.rule("4.7-cancelled")
@pytest.mark.parametrize("model", MODELS)
def test_steps_that_have_not_begun_are_cancelled(
    engines: Engines, tmp_path: Path, model: str
) -> None:
    def body(engine: Engine) -> Any:
        before = engine.infer("counts", IN=np.ones(1, np.float32))["OUT"]
        door = tmp_path / f"door of {engine.name} {model}"
        cancel = send(engine, model, door)
        wait_for_log(engine, f'"begun {door.name}"')
        cancel()
        time.sleep(0.5)  # the real server's endpoint has to find out, and tells nobody when it has
        door.touch()
        # What came before may be counted only now.
        wait_until(lambda: _executed(engine, "counts") == before[0] + 1)
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


@pytest.mark.rule("4.7-request")
def test_the_priority_of_a_request_is_that_of_its_steps(engines: Engines, tmp_path: Path) -> None:
    def body(engine: Engine) -> Any:
        door = tmp_path / f"door of {engine.name}"
        # The first is executed, and the next ones have left the queue by the time that 5 comes.
        send(engine, "ranked", door, (1, 1), request_id="1")
        wait_for_log(engine, f'"begun {door.name}"')
        for number in (2, 3, 4):
            send(engine, "ranked", door, (1, 1), request_id=str(number))
            time.sleep(0.1)
        send(engine, "ranked", door, (1, 1), request_id="5", priority=1)
        time.sleep(0.1)
        door.touch()
        array = np.ones((1, 1), np.float32)
        wait_until(lambda: _executed(engine, "ranks") >= 5)
        seen = engine.infer("ranks", IN=array, request_id="6")["OUT"][0].tolist()
        return sorted(seen), seen.index(5) < seen.index(4)

    assert engines.same(body) == [[1, 2, 3, 4, 5, 6], True]
