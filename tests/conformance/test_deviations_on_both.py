"""What is different on purpose: both answers, where the real server gives one."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from broken_models import CONFIG, both_engines, reasons, write_models
from comparing import Engines
from probing import probe, probe_stream

from triton_stub import Server, deviations
from triton_stub.engines.engine import Engine
from triton_stub.engines.stub import StubEngine
from triton_stub.errors import InferenceError

HEAD = """import numpy as np
import triton_python_backend_utils as pb_utils

def ok():
    return pb_utils.InferenceResponse([pb_utils.Tensor("OUT", np.ones(1, np.float32))])

class TritonPythonModel:
"""
KIND = HEAD + (
    "    def initialize(self, args):\n"
    "        self.kind = args['model_instance_kind'].encode()\n"
    "    def execute(self, requests):\n"
    "        out = pb_utils.Tensor('OUT', np.array([self.kind], object))\n"
    "        return [pb_utils.InferenceResponse([out])]\n"
)
ENVIRONMENT = """
parameters {
    key: "EXECUTION_ENV_PATH" value { string_value: "$$TRITON_MODEL_DIRECTORY/environment" }
}
"""
ACTIVATED = HEAD + (
    "    def execute(self, requests):\n"
    "        import os\n"
    "        out = pb_utils.Tensor('OUT', np.array(['ACTIVATED' in os.environ], np.float32))\n"
    "        return [pb_utils.InferenceResponse([out])]\n"
)
MODELS = {
    "gpu": {"1/model.py": KIND, "config.pbtxt": CONFIG + "instance_group { kind: KIND_GPU }"},
    "environment": {
        "1/model.py": ACTIVATED,
        "config.pbtxt": CONFIG + ENVIRONMENT,
        "environment/bin/activate": "export ACTIVATED=yes\n",
    },
}
IN = np.zeros(1, np.float32)


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    folder = tmp_path_factory.mktemp("deviations")
    write_models(folder, MODELS)
    with both_engines(folder) as engines:
        yield engines


def told_by_stub(folder: Path, model: str, config: str = CONFIG) -> str:
    """The error of a model that the real server would not survive."""
    write_models(folder, {"m": model}, config)
    with StubEngine(folder) as stub, pytest.raises(InferenceError) as caught:
        stub.infer("m", IN=IN)
    return str(caught.value)


@pytest.mark.threads
@pytest.mark.deviation("threads")
@pytest.mark.rule("3.10-main-thread")
def test_instances_are_threads_of_this_process(engines: Engines) -> None:
    where = "os.getpid(), threading.current_thread() is threading.main_thread()"
    assert probe(engines.stub, where) == f"({os.getpid()}, False)"
    assert probe(engines.native, where) != f"({os.getpid()}, True)"
    assert probe(engines.native, where).endswith(", True)")


@pytest.mark.threads
@pytest.mark.deviation("signals")
@pytest.mark.rule("3.1.1-signals")
def test_signal_handlers_are_of_the_main_thread(engines: Engines) -> None:
    code = "import signal; str(signal.signal(signal.SIGTERM, signal.SIG_IGN))"
    assert probe(engines.stub, code).startswith("builtins.ValueError: signal only works in main")
    assert "signal only works" not in probe(engines.native, code)


@pytest.mark.threads
@pytest.mark.deviation("environment")
def test_the_environment_is_that_of_the_tests(
    engines: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRITON_STUB_CASE", "before")
    code = "os.environ['TRITON_STUB_CASE'] = {!r}"
    for engine, left in ((engines.native, "before"), (engines.stub, "stub")):
        probe(engine, code.format(engine.name))
        assert os.environ["TRITON_STUB_CASE"] == left


@pytest.mark.threads
@pytest.mark.deviation("computed-imports")
@pytest.mark.rule("3.10-modules")
@pytest.mark.parametrize(
    "code",
    [
        "sys.modules[type(self).__module__].TritonPythonModel is type(self)",
        "sys.modules['triton_python_backend_utils'] is pb_utils",
        "sys.modules['c_python_backend_utils'] is c",
        "pickle.loads(pickle.dumps(type(self))) is type(self)",
        "sys.argv == ['']",
        "[os.path.basename(path) for path in sys.path[-3:]] == ['1', 'probe', 'python']",
    ],
)
def test_computed_imports(engines: Engines, code: str) -> None:
    assert probe(engines.native, code) == "True"
    told = probe(engines.stub, code)
    assert told == "False" or "Error: " in told


@pytest.mark.rule("3.10-modules")
def test_import_statements_always_find_the_two_modules(engines: Engines) -> None:
    code = "import triton_python_backend_utils as p, c_python_backend_utils as d; p is pb_utils"
    code += ", d is c"
    assert engines.same(lambda engine: probe(engine, code)) == "(True, True)"
    code = "import importlib; importlib.import_module('c_python_backend_utils') is c"
    assert engines.same(lambda engine: probe(engine, code)) == "True"


@pytest.mark.threads
@pytest.mark.deviation("working-directory")
@pytest.mark.rule("3.1.1-argv")
def test_the_working_directory_is_not_on_the_path(tmp_path: Path) -> None:
    body = "import sys; raise ValueError(sys.path[0])"
    write_models(tmp_path, {"m": f"{HEAD}    def initialize(self, args):\n        {body}\n"})
    with both_engines(tmp_path) as (stub, native):
        assert "ValueError: <EMPTY MESSAGE>" in reasons(native)["m"]
        assert f"ValueError: {sys.path[0]}\n" in reasons(stub)["m"]


@pytest.mark.deviation("gpu-without-gpu")
@pytest.mark.rule("3.2-kind")
def test_a_gpu_that_is_not_there(odd: Engines) -> None:
    assert odd.stub.infer("gpu", IN=IN)["OUT"].item() == b"GPU"
    assert "but no GPUs are available" in reasons(odd.native)["gpu"]


@pytest.mark.deviation("execution-environment")
@pytest.mark.rule("3.1.1-execution-env")
def test_an_execution_environment(odd: Engines) -> None:
    assert odd.native.infer("environment", IN=IN)["OUT"] == [1]
    assert odd.stub.infer("environment", IN=IN)["OUT"] == [0]
    assert "EXECUTION_ENV_PATH is ignored" in odd.stub.log()


@pytest.mark.deviation("exact-batch")
def test_a_batch_that_the_server_would_not_form(engines: Engines) -> None:
    assert isinstance(engines.stub, StubEngine)
    with pytest.raises(InferenceError, match="never execute these 2 requests in one call"):
        engines.stub.model("types").execute([{"FP32": IN}] * 2)


@pytest.mark.deviation("no-answer")
@pytest.mark.rule("2.8-dropped", "2.8-decoupled-any", "trap-22")
@pytest.mark.parametrize("code", ["sender.send(R()); silent = True", "silent = True"])
def test_a_decoupled_request_that_is_dropped(stub: Engine, code: str) -> None:
    *_, last = probe_stream(stub, code)
    assert deviations.NO_ANSWER.server in last["error"]


@pytest.mark.deviation("no-answer")
@pytest.mark.rule("3.4-none", "3.4-none-element", "trap-19")
@pytest.mark.parametrize("returned", ["None", "[None]"])
def test_none(tmp_path: Path, returned: str) -> None:
    model = f"{HEAD}    def execute(self, requests):\n        return {returned}\n"
    assert deviations.NO_ANSWER.server in told_by_stub(tmp_path, model)


@pytest.mark.deviation("async-exit")
def test_an_async_execute_that_exits(tmp_path: Path) -> None:
    model = f"{HEAD}    async def execute(self, requests):\n        raise SystemExit(1)\n"
    assert deviations.ASYNC_EXIT.server in told_by_stub(tmp_path, model)


@pytest.mark.deviation("async-failure")
@pytest.mark.rule("3.4-async-decoupled-exception", "trap-23")
def test_a_decoupled_async_execute_that_raises(tmp_path: Path) -> None:
    model = f"{HEAD}    async def execute(self, requests):\n        raise ValueError('boom')\n"
    write_models(tmp_path, {"m": model}, CONFIG + "model_transaction_policy { decoupled: true }")
    with StubEngine(tmp_path) as stub:
        (failed,) = stub.stream("m", IN=IN)
        assert isinstance(failed, InferenceError)
        assert deviations.ASYNC_FAILURE.server in failed.message
        assert "ValueError: boom" in stub.log()


@pytest.mark.deviation("no-reschedule")
@pytest.mark.rule("3.7-iterative-only", "trap-27")
def test_reschedule_without_iterative_sequences(tmp_path: Path) -> None:
    model = HEAD + (
        "    def execute(self, requests):\n"
        "        requests[0].set_release_flags(pb_utils.TRITONSERVER_REQUEST_RELEASE_RESCHEDULE)\n"
        "        return [None]\n"
    )
    assert deviations.NO_RESCHEDULE.server in told_by_stub(tmp_path, model)


@pytest.mark.deviation("overdue")
def test_a_request_that_is_kept(tmp_path: Path) -> None:
    model = HEAD + (
        "    def execute(self, requests):\n        self.kept = requests[0].get_response_sender()\n"
    )
    write_models(tmp_path, {"m": model})
    with Server(tmp_path, response_timeout=0.1) as server:
        with pytest.raises(InferenceError) as caught:
            server.model("m")(IN=IN)
        assert deviations.OVERDUE.server in str(caught.value)


@pytest.mark.deviation("shared-response")
@pytest.mark.rule("2.6-shared-response")
def test_one_response_for_two_requests(tmp_path: Path) -> None:
    model = f"{HEAD}    def execute(self, requests):\n        return [ok()] * len(requests)\n"
    config = CONFIG + "max_batch_size: 2 dynamic_batching {}"
    write_models(tmp_path, {"m": model}, config)
    with StubEngine(tmp_path) as stub:
        answers = stub.model("m").execute([{"IN": IN.reshape(1, 1)}] * 2)
    assert all(deviations.SHARED_RESPONSE.server in str(answer) for answer in answers)


@pytest.mark.deviation("empty-batch")
def test_an_empty_batch(stub: Engine) -> None:
    with pytest.raises(InferenceError) as caught:
        stub.infer("shapes", FIRST=np.zeros((0, 2, 0), np.float32))
    assert deviations.EMPTY_BATCH.server in str(caught.value)
