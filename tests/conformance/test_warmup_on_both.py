"""``model_warmup``: what an instance executes before it is ready, and what keeps it from that."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from broken_models import both_engines, reasons, write_models
from comparing import Engines
from observed import settled
from probing import marked

from triton_stub.engines.engine import Engine
from triton_stub.engines.native import NativeEngine
from triton_stub.engines.stub import StubEngine
from triton_stub.errors import LoadError

# Answers ASK with all that it has seen so far.
SEES = """
import json
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        self.calls = []

    def execute(self, requests):
        if pb_utils.get_input_tensor_by_name(requests[0], "ASK") is None:
            self.calls.append([self.look_at(request) for request in requests])
        out = pb_utils.Tensor("OUT", np.array([[json.dumps(self.calls).encode()]], object))
        return [pb_utils.InferenceResponse([out]) for _ in requests]

    def look_at(self, request):
        inputs = sorted((self.tensor(tensor) for tensor in request.inputs()), key=str)
        names = sorted(request.requested_output_names())
        facts = request.request_id(), request.correlation_id(), request.flags(), request.timeout()
        return [facts, request.parameters(), names, inputs]

    def tensor(self, tensor):
        array = tensor.as_numpy()
        items = array.ravel().tolist()
        values = [item.decode() if isinstance(item, bytes) else item for item in items]
        return [tensor.name(), str(array.dtype), array.shape, values]
"""
STREAMS = """
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        self.count = 0

    def execute(self, requests):
        for request in requests:
            self.count += 1
            sender = request.get_response_sender()
            out = pb_utils.Tensor("OUT", np.array([[str(self.count).encode()]], object))
            for _ in range(2):
                sender.send(pb_utils.InferenceResponse([out]))
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""
# Asks another model, over and over, until that is loaded.
CALLS = """
import time
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        self.told = []

    def execute(self, requests):
        until = time.monotonic() + 60
        while "is not ready" in (told := self.ask()) and time.monotonic() < until:
            time.sleep(0.01)
        self.told.append(told)
        out = pb_utils.Tensor("OUT", np.array([["|".join(self.told).encode()]], object))
        return [pb_utils.InferenceResponse([out]) for _ in requests]

    def ask(self):
        response = pb_utils.InferenceRequest(
            model_name="zero_data",
            requested_output_names=["OUT"],
            inputs=[pb_utils.Tensor("ASK", np.ones((1, 1), np.float32))],
        ).exec()
        return response.error().message() if response.has_error() else "answered"
"""
TEXT = "optional: true }"


def config(*samples: str, more: str = "", batch: int = 4) -> str:
    return f"""backend: "python" max_batch_size: {batch}
input [ {{ name: "IN" data_type: TYPE_FP32 dims: [ 2 ] {TEXT},
        {{ name: "S" data_type: TYPE_STRING dims: [ 2 ] {TEXT},
        {{ name: "ASK" data_type: TYPE_FP32 dims: [ 1 ] {TEXT} ]
output [ {{ name: "OUT" data_type: TYPE_STRING dims: [ 1 ] }},
         {{ name: "MORE" data_type: TYPE_STRING dims: [ 1 ] }} ]
{" ".join(samples)} {more}"""


def sample(*inputs: str, name: str = "w", batch: int = 1, more: str = "") -> str:
    return f'model_warmup {{ name: "{name}" batch_size: {batch} {" ".join(inputs)} {more} }}'


def tensor(
    name: str = "IN", datatype: str = "FP32", dims: str = "2", data: str = "zero_data: true"
) -> str:
    value = f"data_type: TYPE_{datatype} dims: [ {dims} ] {data}"
    return f'inputs {{ key: "{name}" value {{ {value} }} }}'


def text(data: str = "zero_data: true", dims: str = "2") -> str:
    return tensor("S", "STRING", dims, data)


def file(name: str) -> str:
    return f'input_data_file: "{name}"'


IN = tensor()
GOOD = {
    "zero_data": config(sample(IN, text(), batch=3, more="count: 2")),
    "zero_data_denied": config(sample(tensor(data="zero_data: false"))),
    "random_texts": config(sample(text("random_data: true"))),
    "files": config(sample(tensor(data=file("numbers")), text(file("texts")))),
    "file_elsewhere": config(sample(tensor(data=file("../warmup/numbers")))),
    "no_batch": config(sample(IN, batch=0), sample(text())),
    "no_count": config(sample(IN, more="count: 0")),
    "no_name": config(f"model_warmup {{ batch_size: 1 {IN} }}"),
    "two_samples": config(sample(IN, name="a"), sample(text(), name="b", batch=2)),
    "twice_one_name": config(sample(IN), sample(text())),
    "no_batching": config(sample(IN), batch=0),
    "nothing_without_batching": config(sample(), batch=0),
    "unknown_input": config(sample(tensor("X", "INT32", "3"), IN)),
    "only_unknown_input": config(sample(tensor("X", "INT32", "3"))),
    "unknown_input_without_batching": config(sample(tensor("X", "INT32", "3")), batch=0),
    "in_place_of_the_required": config(sample(text())).replace(TEXT, "}", 1),
    "reshaped": config(sample(IN)).replace(TEXT, "reshape { shape: [ 2, 1 ] } optional: true }", 1),
    "instances": config(sample(IN), more="instance_group { count: 3 }"),
    "cached": config(sample(IN, more="count: 2"), more="response_cache { enable: true }"),
    "batcher": config(sample(IN, batch=4), more="dynamic_batching { preferred_batch_size: 2 }"),
}
REFUSED = {
    "open_size": config(sample(tensor(dims="-1"))),
    "open_size_of_unknown": config(sample(tensor("X", dims="-1"))),
    "second_sample": config(sample(IN), sample(tensor(dims="-1"))),
    "no_data": config(sample(tensor(data=""))),
    "no_file": config(sample(tensor(data=file("nowhere")))),
    "short_file": config(sample(tensor(dims="9", data=file("numbers")))),
    "no_datatype": config(sample(tensor(datatype="INVALID"))),
    "other_datatype": config(sample(tensor(datatype="INT64"))),
    "other_shape": config(sample(tensor(dims="3"))),
    "no_dims": config(sample(tensor(dims=""))),
    "size_of_zero": config(sample(tensor(dims="0"))),
    "too_few_texts": config(sample(text(file("one_text")))),
    "half_a_length": config(sample(text(file("half")))),
    "too_many_inputs": config(sample(IN)).replace(TEXT, "}"),
    "second_instance": config(sample(tensor(dims="3")), more="instance_group { count: 2 }"),
}
# Executed, and failed: the real server lives on or does not, as it happens.
FAILING = {
    "text_cut_short": (SEES, config(sample(text(file("cut"))))),
    "batch_too_large": (SEES, config(sample(IN, batch=9))),
    "no_inputs": (SEES, config(sample())),
    "error_response": (
        SEES.replace(
            "InferenceResponse([out])", "InferenceResponse(error=pb_utils.TritonError('cold'))"
        ),
        config(sample(IN, batch=2)),
    ),
    "exception": (SEES.replace("self.calls = []", "pass"), config(sample(IN))),
}
FILES = {
    "warmup/numbers": "\x01\x02\x03\x04\x05\x06\x07\x08more",
    "warmup/texts": "\x01\0\0\0a\0\0\0\0",
    "warmup/one_text": "\x01\0\0\0a",
    "warmup/half": "\x01\0\0\0a\x01\0",
    "warmup/cut": "\x01\0\0\0a\x05\0\0\0b",
}
RULES = {
    "4.9-samples": "zero_data two_samples twice_one_name batcher",
    "4.9-statistics": "zero_data instances",
    "4.9-count": "zero_data no_count no_batch",
    "4.9-data": "zero_data zero_data_denied random_texts files file_elsewhere",
    "4.9-request": "zero_data no_batching reshaped no_name",
    "4.9-unknown-input": "unknown_input only_unknown_input unknown_input_without_batching",
    "4.9-validated": "in_place_of_the_required nothing_without_batching",
    "4.9-each-instance": "instances",
    "4.9-not-cached": "cached",
}
REFUSED_RULES = {
    "4.9-open-size": "open_size open_size_of_unknown second_sample",
    "4.9-no-data": "no_data",
    "4.9-file": "no_file short_file",
    "4.9-validated": "no_datatype other_datatype other_shape no_dims size_of_zero too_few_texts "
    "half_a_length too_many_inputs second_instance",
}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("warmup")
    for name, text in {**GOOD, **REFUSED}.items():
        write_models(folder, {name: {"1/model.py": SEES, "config.pbtxt": text, **FILES}})
    streams = config(sample(IN, batch=2), more="model_transaction_policy { decoupled: true }")
    write_models(folder, {"streams": {"1/model.py": STREAMS, "config.pbtxt": streams}})
    write_models(folder, {"zz_calls": {"1/model.py": CALLS, "config.pbtxt": config(sample(IN))}})
    return folder


@pytest.fixture(scope="module")
def warm(repository: Path) -> Iterator[Engines]:
    with both_engines(
        repository,
        options=["--cache-config=local,size=65536"],
        cache_config={"local": {"size": "65536"}},
    ) as engines:
        yield engines


def seen(engine: Engine, model: str) -> Any:
    """What the model has executed so far, one list of requests a call."""
    shape = (1,) if "without" in model or model == "no_batching" else (1, 1)
    return json.loads(engine.infer(model, ASK=np.ones(shape, np.float32))["OUT"].item())


def counts(engine: Engine, model: str) -> Any:
    (found,) = engine.statistics(model)["model_stats"]
    inferences = {name: value["count"] for name, value in found["inference_stats"].items()}
    batches = [(row["batch_size"], row["compute_infer"]["count"]) for row in found["batch_stats"]]
    return found["inference_count"], found["execution_count"], inferences, batches


@pytest.mark.parametrize("model", marked(GOOD, RULES))
def test_what_is_executed(warm: Engines, model: str) -> None:
    executions = settled(warm, lambda engine: counts(engine, model))[1]
    assert executions == {"zero_data": 2, "instances": 3}.get(model, executions)
    assert warm.same(lambda engine: seen(engine, model))


@pytest.mark.rule("4.9-responses")
def test_all_responses_are_waited_for(warm: Engines) -> None:
    def ask(engine: Engine) -> list[Any]:
        return [dict(result) for result in engine.stream("streams", IN=np.ones((1, 2), np.float32))]

    assert warm.same(ask)[0]["OUT"]["values"] == [[b"3"]]


@pytest.mark.rule("4.9-bls")
def test_other_models_do_not_answer_before_the_server_is_ready(warm: Engines) -> None:
    def ask(engine: Engine) -> str:
        told: bytes = engine.infer("zz_calls", IN=np.ones((1, 2), np.float32))["OUT"].item()
        return told.decode()

    first, second = warm.same(ask).split("|")
    assert first == "Model zero_data - Error when running inference: Server not ready"
    assert second == "answered"


@pytest.mark.parametrize("model", marked(REFUSED, REFUSED_RULES))
def test_what_is_refused(warm: Engines, model: str) -> None:
    assert warm.same(lambda engine: reasons(engine)[model])


@pytest.mark.rule("4.9-failure")
@pytest.mark.deviation("failed-warmup")
@pytest.mark.parametrize("name", FAILING)
def test_a_sample_that_fails(tmp_path: Path, name: str) -> None:
    code, text = FAILING[name]
    write_models(tmp_path, {"m": {"1/model.py": code, "config.pbtxt": text, **FILES}})
    with StubEngine(tmp_path, exit_on_error=False) as stub:
        told = reasons(stub)["m"]
    assert told.startswith("Invalid argument: failed to run warmup sample 'w': ")
    try:
        with NativeEngine(tmp_path, options=["--exit-on-error=false"]) as native:
            assert reasons(native)["m"] == told
    except LoadError as error:  # it has ended
        assert "successfully loaded" not in "".join(error.__notes__)  # noqa: PT017


def test_a_model_is_finalized_that_fails(tmp_path: Path) -> None:
    code = FAILING["error_response"][0] + (
        "\n    def finalize(self):\n        pb_utils.Logger.log_info('finalized')\n"
    )
    write_models(tmp_path, {"m": {"1/model.py": code, "config.pbtxt": config(sample(IN))}})
    with StubEngine(tmp_path, exit_on_error=False) as stub:
        assert '"finalized"' in stub.log()
