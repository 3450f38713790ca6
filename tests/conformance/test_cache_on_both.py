"""The response cache: what is found in it, what is kept in it, and for how long."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from broken_models import both_engines, reasons, write_models
from comparing import Engines
from hypothesis import given
from hypothesis import strategies as st
from mortal import control
from observed import settled
from probing import examples, wait_for_log
from test_http_errors import same

from triton_stub.engines.engine import Engine
from triton_stub.engines.native import NativeEngine
from triton_stub.engines.stub import StubEngine
from triton_stub.errors import LoadError

# N tells how often the model has been executed; ERROR, RAISE and EMPTY are what IN may begin with.
COUNTS = """
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        self.count = 0

    def execute(self, requests):
        self.count += 1
        return [self.answer(request) for request in requests]

    def answer(self, request):
        array = pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()
        first = array.ravel()[0]
        if first == 13:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError("thirteen"))
        if first == 14:
            raise ValueError("fourteen")
        if first == 15:
            array = array[:0]
        outputs = {"OUT": array, "N": np.array([[self.count]], np.int32)}
        outputs["S"] = np.array([[b"a", b""]], object)
        asked = request.requested_output_names()
        return pb_utils.InferenceResponse(
            [pb_utils.Tensor(name, outputs[name]) for name in outputs if name in asked]
        )
"""
CALLS = """
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        inputs = [pb_utils.get_input_tensor_by_name(request, "IN")]
        response = pb_utils.InferenceRequest(
            model_name="kept", requested_output_names=["N", "OUT"], inputs=inputs).exec()
        if response.has_error():
            told = response.error().message()
        else:
            outputs = response.output_tensors()
            told = str([(t.name(), t.shape(), t.as_numpy().tolist()) for t in outputs])
        out = pb_utils.Tensor("S", np.array([[told.encode()]], object))
        return pb_utils.InferenceResponse([out])
"""
# As many bytes as it is asked for, and how often it was executed.
SIZED = """
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        self.count = 0

    def execute(self, requests):
        self.count += 1
        size = pb_utils.get_input_tensor_by_name(requests[0], "IN").as_numpy()[0]
        count = pb_utils.Tensor("N", np.array([self.count], np.int32))
        filler = pb_utils.Tensor("FILLER", np.zeros(int(size), np.int8))
        return [pb_utils.InferenceResponse([count, filler])]
"""
CONFIG = """
backend: "python" max_batch_size: 4
input [ { name: "IN" data_type: TYPE_FP32 dims: [ -1 ] },
        { name: "MORE" data_type: TYPE_FP32 dims: [ -1 ] optional: true } ]
output [ { name: "OUT" data_type: TYPE_FP32 dims: [ -1 ] },
         { name: "N" data_type: TYPE_INT32 dims: [ 1 ] },
         { name: "S" data_type: TYPE_STRING dims: [ -1 ] } ]
"""
SIZED_CONFIG = """
backend: "python"
input { name: "IN" data_type: TYPE_FP32 dims: [ 2 ] }
output [ { name: "N" data_type: TYPE_INT32 dims: [ 1 ] },
         { name: "FILLER" data_type: TYPE_INT8 dims: [ -1 ] } ]
"""
ENSEMBLE = """
platform: "ensemble" max_batch_size: 4
input { name: "IN" data_type: TYPE_FP32 dims: [ -1 ] }
output [ { name: "OUT" data_type: TYPE_FP32 dims: [ -1 ] },
         { name: "N" data_type: TYPE_INT32 dims: [ 1 ] } ]
ensemble_scheduling { step {
    model_name: "STEP" model_version: -1 input_map { key: "IN" value: "IN" }
    output_map [ { key: "OUT" value: "OUT" }, { key: "N" value: "N" } ] } }
"""
ENABLED = "response_cache { enable: true }"
MODELS = {
    "kept": (COUNTS, CONFIG + ENABLED),
    "kept_twice": (COUNTS, CONFIG + ENABLED),
    "batched": (COUNTS, CONFIG + ENABLED + "dynamic_batching { }"),
    "in_order": (COUNTS, CONFIG + ENABLED + "dynamic_batching { preserve_ordering: true }"),
    "not_kept": (COUNTS, CONFIG + "response_cache { enable: false }"),
    "not_said": (COUNTS, CONFIG),
    "calls": (CALLS, CONFIG),
    "sized": (SIZED, SIZED_CONFIG + ENABLED),
    "counted": (COUNTS, CONFIG + ENABLED),
    "reloaded": (COUNTS, CONFIG + ENABLED),
    "step": (COUNTS, CONFIG),
    "kept_step": (COUNTS, CONFIG + ENABLED),
    "ensemble": ("", ENSEMBLE.replace("STEP", "step") + ENABLED),
    "ensemble_of_kept": ("", ENSEMBLE.replace("STEP", "kept_step")),
    "sequences": (COUNTS, CONFIG + ENABLED + "sequence_batching { }"),
    "streams": (COUNTS, CONFIG + ENABLED + "model_transaction_policy { decoupled: true }"),
}
SIZE = 4096
OPTION = f"--cache-config=local,size={SIZE}"


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    folder = tmp_path_factory.mktemp("cache")
    for name, (code, config) in MODELS.items():
        write_models(folder, {name: code}, config)
    names = [name for name in MODELS if name not in ("sequences", "streams")]
    options = ["--model-control-mode=explicit", OPTION]
    with both_engines(
        folder,
        options=[*options, *(f"--load-model={name}" for name in names)],
        cache_config={"local": {"size": SIZE}},
        model_control_mode="explicit",
        startup_models=names,
    ) as engines:
        yield engines


def row(*values: float) -> np.ndarray:
    return np.array([values], np.float32)


def ask(engine: Engine, *rows: Any, model: str = "kept", **request: Any) -> list[Any]:
    """Ask for each array; what comes of each, an error as its text."""
    told: list[Any] = []
    for array in rows:
        inputs = array if isinstance(array, dict) else {"IN": array}
        try:
            result = engine.infer(model, inputs, **request)
            told.append({name: result[name].tolist() for name in sorted(result)})
        except Exception as error:  # noqa: BLE001 - whatever it is, it is compared
            told.append(str(error))
    return told


@pytest.mark.rule("4.8-hit")
def test_the_same_again(kept: Engines) -> None:
    def body(engine: Engine) -> Any:
        results = [engine.infer("kept", IN=row(1, 2), request_id=name) for name in "ab"]
        return [(result["N"], result["S"], result.request_id) for result in results]

    assert kept.same(body)[1][0]["values"] == [[1]]


@pytest.mark.rule("4.8-both-switches")
@pytest.mark.parametrize("model", ["not_kept", "not_said"])
def test_a_model_that_does_not_ask_for_it(kept: Engines, model: str) -> None:
    assert kept.same(lambda engine: ask(engine, row(1), row(1), model=model))[1]["N"] == [[2]]


@pytest.mark.rule("4.8-key")
def test_what_a_response_is_found_by(kept: Engines) -> None:
    def body(engine: Engine) -> Any:
        both = {"IN": row(3), "MORE": row(4)}
        told = [
            *ask(engine, row(2, 2), np.array([[2], [2]], np.float32)),
            *ask(engine, both, dict(reversed(both.items())), row(3)),
            *ask(engine, row(2, 2), request_id="x", parameters={"key": 1}, priority=1, timeout=9),
            *ask(engine, row(2, 2), sequence_id=7, sequence_start=True),
            *ask(engine, row(2, 2), model="kept_twice"),
            *ask(engine, {"IN": row(4), "MORE": row(3)}),
        ]
        return [(each["N"], each["OUT"]) for each in told]

    told = kept.same(body)
    assert told[0] == told[1] == told[5] == told[6]
    assert told[2] == told[3]


@pytest.mark.rule("4.8-outputs")
def test_only_outputs_that_were_asked_for_are_kept(kept: Engines) -> None:
    def body(engine: Engine) -> Any:
        return [
            sorted(result)
            for outputs in (["N"], None, ["OUT"])
            for result in ask(engine, row(5), outputs=outputs)
        ]

    assert kept.same(body) == [["N"], ["N"], ["N"]]


@pytest.mark.rule("4.8-outputs")
def test_more_outputs_than_were_asked_for(kept: Engines) -> None:
    def body(engine: Engine) -> Any:
        results = [engine.infer("kept", IN=row(6), outputs=names) for names in (None, ["N"])]
        return [sorted(result) for result in results]

    assert kept.same(body) == [["N", "OUT", "S"]] * 2


@pytest.mark.rule("4.8-outputs")
def test_how_outputs_are_written_that_nobody_asked_for(kept: Engines) -> None:
    entry = {"name": "IN", "datatype": "FP32", "shape": [1, 1], "data": [16]}
    asked = {"name": "N", "parameters": {"binary_data": True}}
    urls = kept.stub.http_url, kept.native.http_url
    for outputs in ({}, {"outputs": [asked]}):
        document = json.dumps({"inputs": [entry], **outputs}).encode()
        answer = same(urls, "POST", "/v2/models/kept/infer", document)
    assert answer.blobs


@pytest.mark.rule("4.8-errors")
@pytest.mark.parametrize("first", [13, 14])
def test_an_error_is_kept_as_a_response_without_outputs(kept: Engines, first: int) -> None:
    def body(engine: Engine) -> Any:
        told = ask(engine, row(first, 1), row(first, 1))
        return [re.sub(r"At:.*", "", str(each), flags=re.DOTALL) for each in told]

    assert kept.same(body)[1] == "{}"


@pytest.mark.rule("4.8-empty-output")
def test_an_output_without_elements_is_not_kept(kept: Engines) -> None:
    asked = np.array([[15], [15]], np.float32)
    counts = kept.same(lambda engine: [each["N"] for each in ask(engine, asked, asked)])
    assert counts[0] != counts[1]
    text = "into response cache: Response buffer from output was nullptr"
    assert kept.same(lambda engine: text in wait_for_log(engine, text))


@pytest.mark.rule("4.8-too-large")
def test_a_response_that_is_larger_than_the_cache(kept: Engines) -> None:
    large = np.ones((1, SIZE), np.float32)
    counts = kept.same(lambda engine: [each["N"] for each in ask(engine, large, large)])
    assert counts[0] != counts[1]

    def complaint(engine: Engine) -> str:
        log = wait_for_log(engine, "is greater than total cache size")
        found = re.search(r"response cache: (Requested byte_size.*)\"", log)
        assert found is not None
        return found[1]

    assert kept.same(complaint).endswith(f"is greater than total cache size: {SIZE}")


@pytest.mark.rule("4.8-bls")
def test_requests_of_models_are_looked_up_too(kept: Engines) -> None:
    def body(engine: Engine) -> Any:
        asked = [row(7), row(8), row(8)]
        return ask(engine, asked[0]) + ask(engine, *asked, model="calls")

    told = [each["S"] for each in kept.same(body)]
    assert told[2] == told[3]


@pytest.mark.rule("4.8-batcher")
@pytest.mark.parametrize("model", ["batched", "in_order"])
def test_with_a_dynamic_batcher(kept: Engines, model: str) -> None:
    told = kept.same(lambda engine: ask(engine, row(1), row(2), row(1), row(2), model=model))
    assert [each["N"] for each in told] == [[[1]], [[2]], [[1]], [[2]]]


def counted(engine: Engine, model: str) -> tuple[int, int, dict[str, int]]:
    """How many inferences and executions, and how often each thing was counted."""
    (found,) = engine.statistics(model)["model_stats"]
    counts = {name: value["count"] for name, value in found["inference_stats"].items()}
    return found["inference_count"], found["execution_count"], counts


@pytest.mark.rule("4.8-ensemble")
@pytest.mark.parametrize("model", ["ensemble", "ensemble_of_kept"])
def test_ensembles(kept: Engines, model: str) -> None:
    def body(engine: Engine) -> Any:
        told = ask(engine, row(1), row(2), row(1), model=model)
        told += ask(engine, row(3), row(3), model=model, outputs=["N"])
        return told, ask(engine, row(13), row(13), model=model)

    told, errors = kept.same(body)
    _, _, counts = settled(kept, lambda engine: counted(engine, model))
    assert [each["N"] for each in told] == [[[1]], [[2]], [[1]], [[3]], [[3]]]
    assert counts["cache_hit"] == (2 if model == "ensemble" else 0)
    assert errors[0].endswith("thirteen")


@pytest.mark.rule("4.8-statistics")
def test_how_it_is_counted(kept: Engines) -> None:
    asked = [row(first) for first in (1, 2, 1, 13, 13, 14, 14, 15, 15)]
    kept.same(lambda engine: ask(engine, *asked, model="counted"))
    assert settled(kept, lambda engine: counted(engine, "counted"))[2]["cache_hit"] == 3


@pytest.mark.rule("4.8-reload")
def test_it_outlives_its_model(kept: Engines) -> None:
    def body(engine: Engine) -> Any:
        told = ask(engine, row(1), row(2), model="reloaded")
        control(engine, "unload", "reloaded")
        control(engine, "load", "reloaded")
        return told + ask(engine, row(3), row(2), row(1), model="reloaded")

    told = [each["N"] for each in kept.same(body)]
    assert told == [[[1]], [[2]], [[1]], [[2]], [[1]]]


@pytest.mark.rule("4.8-refused")
@pytest.mark.parametrize("model", ["sequences", "streams"])
def test_what_is_not_cached(kept: Engines, model: str) -> None:
    def body(engine: Engine) -> str:
        assert control(engine, "load", model)
        text = f"Response Cache does not currently support model {model} with [^.]*\\. Please[^.]*"
        found = re.search(text, engine.log())
        assert found is not None, engine.log()
        return found[0]

    assert "Please disable the response cache" in kept.same(body)


@pytest.mark.rule("4.8-eviction")
@examples(30)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 1800)), min_size=5, max_size=25))
def test_what_makes_room_for_what(kept: Engines, requests: list[tuple[int, int]]) -> None:
    def body(engine: Engine) -> list[int]:
        arrays = (np.array([size, key], np.float32) for key, size in requests)
        return [engine.infer("sized", IN=array)["N"].item() for array in arrays]

    kept.same(body)


STARTS = {
    "no_size": ({"local": {"foo": "1"}}, "config didn't contain a valid 'size' field."),
    "no_number": ({"local": {"size": "abc"}}, "stoull"),
    "no_room": ({"local": {"size": "191"}}, "Could not initialize buffer"),
    "too_large": ({"local": {"size": "-1"}}, "failed to allocate buffer"),
    "two": ({"local": {"size": "1000"}, "redis": {"port": "1"}}, "found multiple cache conf"),
    "unknown": ({"redis": {"port": "1"}}, "unable to find 'libtritoncache_redis.so' for cache."),
}


@pytest.mark.rule("4.8-start")
@pytest.mark.parametrize("name", STARTS)
def test_a_server_that_does_not_start(tmp_path: Path, name: str) -> None:
    config, told = STARTS[name]
    options = [
        f"--cache-config={cache},{key}={value}"
        for cache, settings in config.items()
        for key, value in settings.items()
    ]
    with pytest.raises(LoadError) as native:
        NativeEngine(tmp_path, options=options)
    with pytest.raises(LoadError) as stub:
        StubEngine(tmp_path, cache_config=config)
    log = "\n".join([str(native.value), *native.value.__notes__])
    assert told in stub.value.message
    if name == "unknown":  # the server tells where it has looked
        assert told in log
    else:
        assert stub.value.message in log


@pytest.mark.rule("4.8-start")
def test_the_least_size(tmp_path: Path) -> None:
    options = ["--cache-config=local,size=192"]
    with both_engines(tmp_path, options=options, cache_config={"local": {"size": "192"}}) as both:
        assert both.same(lambda engine: engine.ready()) is True


@pytest.mark.rule("4.8-both-switches")
def test_a_server_without_a_cache(tmp_path: Path) -> None:
    write_models(tmp_path, {"m": COUNTS}, CONFIG + ENABLED)
    with both_engines(tmp_path) as engines:
        told = engines.same(lambda engine: ask(engine, row(1), row(1), model="m"))
        assert engines.same(lambda engine: reasons(engine)["m"]) == ""
    assert [each["N"] for each in told] == [[[1]], [[2]]]
