"""``is_ready()``: newer than the real server of this suite, so shown on the stub alone."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from broken_models import CONFIG, write_models

from triton_stub.engines.stub import StubEngine

# The first input decides; a request asks another model whether it is ready, and sends it one.
MODEL = """
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    ready = True

    {start} is_ready(self):
        if self.ready == "raise":
            raise ValueError("no weights")
        return self.ready

    def execute(self, requests):
        (value,) = requests[0].inputs()[0].as_numpy()
        TritonPythonModel.ready = {{0: False, 1: True, 2: "raise", 3: 1}}[value]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("OUT", np.zeros(1, np.float32))])]
"""
ASKS = """
import json
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        request = pb_utils.InferenceRequest(
            model_name="{callee}", requested_output_names=[],
            inputs=[pb_utils.Tensor("IN", np.ones(1, np.float32))])
        response = request.exec()
        error = response.error().message() if response.has_error() else ""
        told = json.dumps([pb_utils.is_model_ready("{callee}"), error]).encode()
        out = pb_utils.Tensor("OUT", np.array([told], object))
        return [pb_utils.InferenceResponse([out])]
"""
NOT_READY = "Failed for execute the inference request. Model '{}' is not ready."


@pytest.fixture(scope="module")
def stub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StubEngine]:
    repository = tmp_path_factory.mktemp("is_ready")
    write_models(repository, {
        "plain": MODEL.format(start="def"),
        "async": MODEL.format(start="async def"),
        "asks_plain": ASKS.format(callee="plain"),
        "asks_async": ASKS.format(callee="async"),
    }, CONFIG)  # fmt: skip
    with StubEngine(repository) as stub:
        yield stub


@pytest.mark.newer("26.03", "python_backend src/python_be.cc, TRITONBACKEND_ModelInstanceReady")
@pytest.mark.rule("3.1-ready", "3.6-is-ready")
@pytest.mark.parametrize("name", ["plain", "async"])
@pytest.mark.parametrize("answer", [0, 2, 3])
def test_a_model_that_says_that_it_is_not_ready(stub: StubEngine, name: str, answer: int) -> None:
    def send(value: float) -> None:
        stub.infer(name, IN=np.full(1, value, np.float32))

    send(1)
    assert stub.ready(name)
    assert stub.ready()
    send(answer)
    with stub.client() as client:
        assert not client.is_model_ready(name)
        assert not client.is_server_ready()
    assert not stub.ready(name)
    told = stub.infer(f"asks_{name}", IN=np.ones(1, np.float32))["OUT"][0].decode()
    assert told.startswith("[false, ")
    assert NOT_READY.format(name) in told
    send(1)  # a client's own requests are served all the same
    assert stub.ready(name)
