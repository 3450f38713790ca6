"""One request on its way through an ensemble: what comes often, at once, or not at all."""

import sys

import numpy as np
import pytest
from ensemble_files import write_chain
from model_files import CONFIG, write_model

from triton_stub import InferenceError, Server
from triton_stub.core.ensembles import request as ensemble_request

# Each element is answered by so many responses.
STREAM = """
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            sender = request.get_response_sender()
            for number in range(int(request.inputs()[0].as_numpy()[0])):
                tensor = pb_utils.Tensor("OUT", np.array([number], np.float32))
                sender.send(pb_utils.InferenceResponse([tensor]))
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""
# Never answers, and forgets that it has been asked.
SILENT = """
class TritonPythonModel:
    def execute(self, requests):
        return None
"""
FAILS = """
class TritonPythonModel:
    def execute(self, requests):
        1 / 0
"""
DECOUPLED = CONFIG + "model_transaction_policy { decoupled: true }"


@pytest.fixture
def repository(tmp_path):
    write_model(tmp_path, "double")
    write_model(tmp_path, "stream", STREAM, DECOUPLED)
    write_model(tmp_path, "silent", SILENT)
    write_chain(tmp_path, "streams", "stream", "double")
    write_chain(tmp_path, "ends", "double", "stream")
    write_chain(tmp_path, "waits", "double", "silent")
    write_chain(tmp_path, "plain", "double", "double")
    write_chain(tmp_path, "cached", "kept", "kept", "kept")
    return tmp_path


@pytest.fixture
def server(repository):
    write_model(repository, "kept", config=CONFIG + "response_cache { enable: true }")
    with Server(str(repository), cache_config={"local": {"size": 1_000_000}}) as server:
        yield server


def values(server, model, count):
    array = np.array([count], np.float32)
    responses = list(server.model(model).infer(inputs={"IN": array}))
    assert [response.final for response in responses] == [False] * (len(responses) - 1) + [True]
    return [float(np.from_dlpack(r.outputs["OUT"])[0]) for r in responses if r.outputs]


def test_any_number_of_responses_goes_through(server):
    count = 3 * sys.getrecursionlimit()
    assert values(server, "streams", count) == [2 * number for number in range(count)]


def test_no_response_at_all(server):
    assert values(server, "streams", 0) == values(server, "ends", 0) == []
    assert values(server, "ends", 3) == [0, 1, 2, 3, 4, 5]


def test_steps_that_are_answered_at_once(server):
    for _ in range(3):
        assert values(server, "cached", 1) == [8]
    [stats] = server.model("kept").statistics()["model_stats"]
    assert stats["execution_count"] == 3
    assert stats["inference_stats"]["cache_hit"]["count"] == 6


def test_a_step_that_never_answers(server):
    with pytest.raises(InferenceError) as caught:
        server.model("waits")(IN=np.ones(1, np.float32))
    assert caught.value.message.startswith("in ensemble 'waits', execute returned None")


def test_a_defect_of_ours_is_told_and_blocks_nothing(server, monkeypatch):
    def fail(*_):
        raise RuntimeError("by the test")

    model = server.model("plain")
    with monkeypatch.context() as patched:
        patched.setattr(ensemble_request, "as_input", fail)
        with pytest.raises(InferenceError, match=r"RuntimeError\('by the test'\).*a defect of"):
            model(IN=np.ones(1, np.float32))
    assert values(server, "plain", 1) == [4]


def test_an_error_of_a_step_has_the_exception_of_its_model(tmp_path):
    write_model(tmp_path, "fails", FAILS)
    write_chain(tmp_path, "inner", "fails")
    write_chain(tmp_path, "outer", "inner")
    with Server(str(tmp_path)) as server, pytest.raises(InferenceError) as caught:
        server.model("outer")(IN=np.ones(1, np.float32))
    assert str(caught.value).startswith("in ensemble 'outer', in ensemble 'inner', Failed to ")
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
