"""Instance groups, which of its instances executes a request, and which model a request goes to."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from broken_models import both_engines, reasons, write_models
from comparing import Engines
from probing import marked, wait_for_log

from triton_stub.engines.engine import Engine
from triton_stub.engines.native import NativeEngine
from triton_stub.engines.stub import StubEngine
from triton_stub.errors import InferenceError

TELLS = """
import json
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        self.name = args["model_instance_name"]
        told = [args["model_name"], self.name, args["model_instance_kind"]]
        pb_utils.Logger.log_info("up " + " ".join([*told, args["model_instance_device_id"]]))

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        told = [self.name, len(request.inputs()), sorted(request.requested_output_names())]
        out = pb_utils.Tensor("OUT", np.array([json.dumps(told).encode()], object))
        return pb_utils.InferenceResponse([out])
"""
# Answers when every one of its instances is executing.
MEETS = """
import os
import time
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        self.args = args

    def execute(self, requests):
        folder = os.path.join(args_folder(self.args), pb_utils.__file__[:5].strip("/"))
        os.makedirs(folder, exist_ok=True)
        open(os.path.join(folder, self.args["model_instance_name"]), "w").close()
        until = time.monotonic() + 60
        while len(os.listdir(folder)) < 3 and time.monotonic() < until:
            time.sleep(0.01)
        names = " ".join(sorted(os.listdir(folder))).encode()
        out = pb_utils.Tensor("OUT", np.array([names], object))
        return [pb_utils.InferenceResponse([out]) for _ in requests]

def args_folder(args):
    return os.path.join(args["model_repository"], "meeting")
"""
BROKEN = "1 / 0\n"
CONFIG = """
backend: "python"
input { name: "IN" data_type: TYPE_FP32 dims: [ -1 ] optional: true }
output [ { name: "OUT" data_type: TYPE_STRING dims: [ 1 ] },
         { name: "MORE" data_type: TYPE_STRING dims: [ 1 ] } ]
"""
GROUPS = {
    "none": "",
    "kind_auto": "instance_group { kind: KIND_AUTO }",
    "kind_model": "instance_group { kind: KIND_MODEL }",
    "two": "instance_group { count: 2 }",
    "counts": "instance_group [ { count: 0 }, { count: -3 }, { count: 2 } ]",
    "names": 'instance_group [ { name: "a" }, { count: 2 }, { name: "b" kind: KIND_CPU } ]',
    "one_name": 'instance_group [ { name: "g" count: 2 }, { name: "g" } ]',
    "passive": 'instance_group [ { name: "p" passive: true count: 2 }, { name: "a" } ]',
    "devices": 'instance_group { secondary_devices { device_id: 3 } host_policy: "x" }',
    "limited": """instance_group { count: 2 rate_limiter { priority: 2
        resources [ { name: "R1" count: 4 }, { name: "R2" global: true count: 1 } ] } }""",
}
RULES = {
    "4.10-count": "none two counts",
    "4.10-names": "none names one_name",
    "4.10-auto": "none kind_auto",
    "4.10-passive": "passive",
    "4.10-devices": "devices",
    "4.10-rate-limiter": "limited",
}
VERSIONS = {"1/model.py": TELLS, "3/model.py": TELLS}
MODELS = {
    **{name: {"1/model.py": TELLS, "config.pbtxt": CONFIG + text} for name, text in GROUPS.items()},
    "meets": {"1/model.py": MEETS, "config.pbtxt": CONFIG + "instance_group { count: 3 }"},
    "versions": {**VERSIONS, "config.pbtxt": CONFIG + "version_policy { all { } }"},
    "partly": {**VERSIONS, "2/model.py": TELLS, "3/model.py": BROKEN,
               "config.pbtxt": CONFIG + "version_policy { all { } }"},
    "broken": {"1/model.py": BROKEN, "config.pbtxt": CONFIG},
    "batches": {"1/model.py": TELLS, "config.pbtxt": CONFIG + "max_batch_size: 2"},
    "streams": {"1/model.py": TELLS,
                "config.pbtxt": CONFIG + "model_transaction_policy { decoupled: true }"},
}  # fmt: skip
IN = np.ones(1, np.float32)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    folder = tmp_path_factory.mktemp("instances")
    write_models(folder, MODELS)
    with both_engines(folder) as engines:
        yield engines


def told(engine: Engine, model: str, **inputs: Any) -> Any:
    return json.loads(engine.infer(model, inputs)["OUT"].item())


@pytest.mark.parametrize("model", marked(GROUPS, RULES))
def test_the_instances_of_a_model(served: Engines, model: str) -> None:
    def instances(engine: Engine) -> list[str]:
        assert reasons(engine)[model] == ""
        wait_for_log(engine, f"up {model} ")
        return sorted(re.findall(rf"up {model} (\w+ \w+ \d+)", engine.log()))

    assert served.same(instances)


@pytest.mark.rule("4.10-passive")
@pytest.mark.parametrize("model", ["passive", "two", "names"])
def test_who_executes(served: Engines, model: str) -> None:
    """The order is the server's own business, and mostly that of the instances."""

    def body(engine: Engine) -> set[str]:
        return {told(engine, model, IN=IN)[0] for _ in range(60)}

    assert served.same(lambda engine: sorted(body(engine)))


@pytest.mark.rule("4.10-parallel")
def test_instances_execute_at_the_same_time(served: Engines) -> None:
    def body(engine: Engine) -> set[bytes]:
        answers: list[bytes] = []

        def ask() -> None:
            answers.append(engine.infer("meets", IN=IN)["OUT"].item())

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return set(answers)

    assert served.same(lambda engine: sorted(body(engine))) == [b"meets_0_0 meets_0_1 meets_0_2"]


@pytest.mark.deviation("passive")
@pytest.mark.parametrize(
    ("more", "text"),
    [
        ("instance_group { passive: true }", "all instance groups of model 'm' are passive"),
        (
            "sequence_batching { direct { } } instance_group [ { }, { passive: true } ]",
            "model 'm' has sequence_batching and passive instances",
        ),
    ],
)
def test_passive_instances_that_end_the_server(tmp_path: Path, more: str, text: str) -> None:
    write_models(tmp_path, {"m": {"1/model.py": TELLS, "config.pbtxt": CONFIG + more}})

    def ask(engine: Engine, number: int) -> None:
        sequence = {"sequence_id": number, "sequence_start": True} if "sequence" in more else {}
        engine.infer("m", IN=IN, **sequence)

    with StubEngine(tmp_path) as stub, pytest.raises(InferenceError, match=f"{text}: the real"):
        ask(stub, 1)
    # The first sequence may get the slot of the other instance.
    with NativeEngine(tmp_path) as native, pytest.raises(InferenceError, match="no answer from"):  # noqa: PT012
        ask(native, 1)
        ask(native, 2)


@pytest.mark.deviation("rate-limits")
@pytest.mark.rule("4.10-rate-limiter")
def test_rate_limits_are_ignored_with_a_warning(tmp_path: Path) -> None:
    write_models(tmp_path, {name: MODELS[name] for name in ("limited", "two")})
    options = ["--rate-limit=execution_count"]
    with both_engines(tmp_path, options=options, rate_limiter_mode="execution_count") as engines:
        told = engines.same(lambda engine: sorted({ask(engine) for _ in range(20)}))
        assert told == ["limited_0_0", "limited_0_1"]
        log = engines.stub.log()
    assert "model 'limited': rate limits are ignored" in log
    assert "model 'two': rate limits" not in log
    with StubEngine(tmp_path) as stub:
        assert "rate limits" not in stub.log()


def ask(engine: Engine) -> str:
    name: str = told(engine, "limited", IN=IN)[0]
    return name


ASKED = {
    "nobody": "4.1-unknown-model",
    "nobody 1": "4.1-unknown-model",
    "versions": "4.1-newest",
    "versions 1": "4.1-newest",
    "versions 2": "4.1-unknown-version",
    "partly": "4.1-newest",
    "partly 3": "4.1-not-ready",
    "partly 9": "4.1-unknown-version",
    "broken": "4.1-no-versions",
    "broken 1": "4.1-not-ready",
    "broken 2": "4.1-unknown-version",
}


@pytest.mark.parametrize(
    "asked", [pytest.param(asked, marks=pytest.mark.rule(rule)) for asked, rule in ASKED.items()]
)
def test_which_model_is_asked(served: Engines, asked: str) -> None:
    name, _, version = asked.partition(" ")

    def body(engine: Engine) -> Any:
        return engine.infer(name, IN=IN, model_version=version).model_version

    served.same(body)


@pytest.mark.rule("4.2-no-inputs")
@pytest.mark.parametrize("model", ["none", "batches"])
def test_a_request_without_inputs(served: Engines, model: str) -> None:
    outcome = served.same(lambda engine: told(engine, model))
    assert ("error" in outcome) is (model == "batches")


@pytest.mark.rule("4.3-all")
@pytest.mark.parametrize("outputs", [None, ["OUT"], ["MORE", "OUT"]], ids=str)
def test_outputs_that_are_asked_for(served: Engines, outputs: list[str] | None) -> None:
    def body(engine: Engine) -> Any:
        return json.loads(engine.infer("none", IN=IN, outputs=outputs)["OUT"].item())[2]

    assert served.same(body) == (outputs or ["MORE", "OUT"])


@pytest.mark.rule("4.14-decoupled")
def test_http_does_not_serve_decoupled_models(served: Engines) -> None:
    answer = served.same(lambda engine: engine.infer("streams", IN=IN)["OUT"])
    assert answer["status"] == 501
