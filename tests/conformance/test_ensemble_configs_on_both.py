"""What the server refuses in the configuration of an ensemble, and in what words."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from broken_models import write_models
from comparing import Engines
from ensemble_models import PYTHON, ensemble, step, tensors, write_ensemble
from tritonclient.utils import InferenceServerException

from triton_stub.engines.engine import Engine
from triton_stub.engines.native import NativeEngine
from triton_stub.engines.stub import StubEngine
from triton_stub.errors import LoadError

MODEL = """
class TritonPythonModel:
    def execute(self, requests):
        return None
"""
BROKEN = "raise ValueError('broken')"
DECOUPLED = "model_transaction_policy { decoupled: true }\n"


def io(inputs: str = "IN FP32 -1", outputs: str = "OUT FP32 -1", more: str = "") -> str:
    described = (tensors("input", *inputs.split(";")), tensors("output", *outputs.split(";")))
    return PYTHON + more + "".join(described)


MODELS = {
    "any": io(),
    "three": io("IN FP32 3", "OUT FP32 3"),
    "four": io("IN FP32 4", "OUT FP32 4"),
    "rows": io("IN FP32 -1,3", "OUT FP32 -1,3"),
    "cube": io("IN FP32 -1,3,2", "OUT FP32 -1,3,2"),
    "whole": io("IN INT32 -1", "OUT INT32 -1"),
    "batch_four": io("IN FP32 3", "OUT FP32 3", "max_batch_size: 4\n"),
    "batch_eight": io("IN FP32 4", "OUT FP32 4", "max_batch_size: 8\n"),
    "pair": io("IN FP32 -1;MORE FP32 -1", "OUT FP32 -1;MORE FP32 -1"),
    "maybe": io("IN FP32 -1;MORE FP32 -1 optional: true"),
    "stream": io(more=DECOUPLED),
    "streams": io(outputs="OUT FP32 -1;MORE FP32 -1", more=DECOUPLED),
    "broken": io(),
}
A, B, C, D = (f"{name} FP32 -1" for name in "ABCD")
IN_A, IN_B, TO_B, TO_C = {"IN": "A"}, {"IN": "B"}, {"OUT": "B"}, {"OUT": "C"}
ONE = step("any", IN_A, TO_B)
NO_MODEL = step("", IN_A, TO_B)

# Found when the repository is read; the client is told little, the log all.
POLLED = {
    "other_platform": io(more=f"ensemble_scheduling {{ {ONE} }}\n"),
    "backend_too": ensemble(A, B, ONE, more=PYTHON),
    "no_scheduling": 'platform: "ensemble"\n' + tensors("input", A) + tensors("output", B),
    "negative_batch": ensemble(A, B, ONE, more="max_batch_size: -1\n"),
    "instances": ensemble(A, B, ONE, more="instance_group { count: 1 }\n"),
    "optimized": ensemble(A, B, ONE, more="optimization { }\n"),
    "warmed_up": ensemble(A, B, ONE, more='model_warmup { name: "w" batch_size: 1 }\n'),
    "no_steps": ensemble(A, B),
    "no_model": ensemble(A, B, NO_MODEL),
    "no_inputs_of_step": ensemble(A, B, step("any", {}, TO_B)),
    "no_outputs_of_step": ensemble(A, B, step("any", IN_A, {})),
    "second_step": ensemble(A, C, ONE, step("any", IN_B, {})),
    "made_twice": ensemble(A, B, ONE, ONE),
    "made_twice_at_once": ensemble(A, B, step("pair", IN_A, {"OUT": "B", "MORE": "B"})),
    "unused_input": ensemble(f"{A};{C}", B, ONE),
    "unused_output": ensemble(A, f"{B};{C}", ONE),
    "not_written": ensemble(A, f"{B};{C}", ONE, step("any", {"IN": "C"}, {"OUT": "D"})),
    "not_connected": ensemble(A, C, ONE, step("pair", {"IN": "B", "MORE": "D"}, TO_C)),
    "circle": ensemble(A, C, step("pair", {"IN": "A", "MORE": "C"}, TO_B), step("any", IN_B, TO_C)),
    "no_inputs": ensemble("", B, ONE),
    "unused": ensemble(A, B, step("pair", IN_A, {"OUT": "B", "MORE": "C"})),
    "cached_decoupled": ensemble(A, B, ONE, more=DECOUPLED + "response_cache { enable: true }\n"),
    "first_of_two": ensemble(A, C, NO_MODEL, more="instance_group { count: 1 }\n"),
}
# Found beside the models of its steps, when these are loaded.
LOADED = {
    "unknown_model": ensemble(A, B, step("nowhere", IN_A, TO_B)),
    "unknown_models": ensemble(A, C, step("nowhere", IN_A, TO_B), step("not_here", IN_B, TO_C)),
    "unknown_version": ensemble(A, B, step("any", IN_A, TO_B, 3)),
    "no_version": ensemble(A, B, step("any", IN_A, TO_B, None)),
    "broken_step": ensemble(A, B, step("broken", IN_A, TO_B)),
    "invalid_step": ensemble(A, B, step("wrong", {"A": "A"}, {"B": "B"})),
    "wrong_input": ensemble(A, B, step("any", {"X": "A"}, TO_B)),
    "wrong_output": ensemble(A, B, step("any", IN_A, {"Y": "B"})),
    "unmapped": ensemble(A, B, step("pair", IN_A, TO_B)),
    "batch_size": ensemble(
        "A FP32 3", "B FP32 3", step("batch_four", IN_A, TO_B), more="max_batch_size: 8\n"
    ),
    "input_datatype": ensemble(A, B, step("whole", IN_A, TO_B)),
    "output_datatype": ensemble("A INT32 -1", B, step("whole", IN_A, TO_B)),
    "inner_datatype": ensemble(A, "C INT32 -1", ONE, step("whole", IN_B, TO_C)),
    "input_shape": ensemble("A FP32 4", B, step("three", IN_A, TO_B)),
    "output_shape": ensemble(A, "B FP32 -1,-1", ONE),
    "inner_shape": ensemble(A, C, step("three", IN_A, TO_B), step("four", IN_B, TO_C)),
    "inner_rank": ensemble(A, "C FP32 -1,3", ONE, step("rows", IN_B, TO_C)),
    "batch_shape": ensemble(
        "A FP32 3", "C FP32 4", step("batch_four", IN_A, TO_B), step("batch_eight", IN_B, TO_C)
    ),
    "batch_rank": ensemble(
        "A FP32 -1,3,2", "C FP32 3", step("cube", IN_A, TO_B), step("batch_four", IN_B, TO_C)
    ),
    "reshaped": ensemble("A FP32 4 reshape { shape: [ 2, 2 ] }", B, ONE),
    "two_streams": ensemble(
        A,
        D,
        step("stream", IN_A, TO_B),
        step("stream", IN_A, TO_C),
        step("pair", {"IN": "B", "MORE": "C"}, {"OUT": "D"}),
    ),
    "stream_and_input": ensemble(
        A, C, step("stream", IN_A, TO_B), step("pair", {"IN": "B", "MORE": "A"}, TO_C)
    ),
    "stream_and_output": ensemble(
        A, f"{B};{C}", step("stream", IN_A, TO_B), step("any", IN_A, TO_C)
    ),
    "cached_stream": ensemble(
        A, B, step("stream", IN_A, TO_B), more="response_cache { enable: true }\n"
    ),
    "no_labels": ensemble(A, 'B FP32 -1 label_filename: "nowhere"', ONE),
    "dims_zero": ensemble("A FP32 0", B, ONE),
}
FINE = {
    "between_batches": ensemble(
        "A FP32 -1,3", "C FP32 3", step("rows", IN_A, TO_B), step("batch_four", IN_B, TO_C)
    ),
    "same_stream": ensemble(
        A,
        C,
        step("streams", IN_A, {"OUT": "B", "MORE": "D"}),
        step("pair", {"IN": "B", "MORE": "D"}, TO_C),
    ),
    "stream_after_stream": ensemble(A, C, step("stream", IN_A, TO_B), step("stream", IN_B, TO_C)),
    "unmapped_optional": ensemble(A, B, step("maybe", IN_A, TO_B)),
}


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    repository = tmp_path_factory.mktemp("ensembles")
    for name, config in MODELS.items():
        write_models(repository, {name: BROKEN if name == "broken" else MODEL}, config)
    wrong = ensemble(A, B, step("any", {"X": "A"}, TO_B))
    for name, config in {"wrong": wrong, **POLLED, **LOADED, **FINE}.items():
        write_ensemble(repository, name, config)
    with (
        NativeEngine(repository, models=["any"]) as native,
        StubEngine(repository, models=["any"]) as stub,
    ):
        yield Engines(stub, native)


def load(engine: Engine, name: str) -> tuple[str, str]:
    """Load an ensemble: what a client is told of why that fails, and what people are told."""
    client_told = more = ""
    if isinstance(engine, StubEngine):
        try:
            engine.server.load(name)
        except LoadError as error:
            client_told, more = error.told, error.message
    else:
        with engine.client() as client:
            try:
                client.load_model(name)
            except InferenceServerException as error:
                client_told = error.message()
        polled = rf"Poll failed for model directory '{name}': (.*)\"$"
        for text in re.findall(polled, engine.log(), re.MULTILINE):
            more = json.loads(f'"{text}"')
    return re.sub(r"\S*/(\w+/(?:1/model\.py|nowhere))", r"…/\1", client_told.rstrip()), more


@pytest.mark.rule("4.7-poll")
@pytest.mark.parametrize("name", POLLED)
def test_what_is_wrong_by_itself(engines: Engines, name: str) -> None:
    def body(engine: Engine) -> Any:
        told, more = load(engine, name)
        return told, re.sub(r"^\S*/config\.pbtxt: ", "", more)

    told, more = engines.same(body)
    assert told == f"failed to load '{name}', failed to poll from model repository"
    assert more


@pytest.mark.rule("4.7-load")
@pytest.mark.parametrize("name", LOADED)
def test_what_is_wrong_beside_the_steps(engines: Engines, name: str) -> None:
    said = engines.same(lambda engine: load(engine, name)[0])
    assert said.startswith(f"load failed for model '{name}': ")


@pytest.mark.rule("4.7-load", "4.7-ensemble")
@pytest.mark.parametrize("name", FINE)
def test_what_is_right(engines: Engines, name: str) -> None:
    def body(engine: Engine) -> Any:
        said, _ = load(engine, name)
        return said, engine.config(name)["model_transaction_policy"]["decoupled"]

    assert engines.same(body) == ["", "stream" in name]
