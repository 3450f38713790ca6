"""An ensemble as a model of the server: its life, and what it cannot do."""

import gc
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from ensemble_files import write_chain
from gates import GATES
from model_files import GATED, write_model

from triton_stub import InferenceError, Server, deviations
from triton_stub.core.ensembles.request import EnsembleRequest
from triton_stub.errors import StatusCode

ONE = np.ones(1, np.float32)


@pytest.fixture
def repository(tmp_path):
    GATES.clear()
    write_model(tmp_path, "double")
    write_model(tmp_path, "gated", GATED)
    write_chain(tmp_path, "fourfold", "double", "double")
    write_chain(tmp_path, "waits", "gated", "double")
    write_chain(tmp_path, "nested", "fourfold_too", "fourfold")
    # One whose steps come after it in the alphabet, and are ensembles.
    write_chain(tmp_path, "fourfold_too", "double", "double")
    return tmp_path


def open_gate():
    GATES["gated"].opened.set()


def test_it_is_a_model_as_any(repository):
    open_gate()
    with Server(str(repository)) as server:
        model = server.model("fourfold")
        assert model(IN=ONE)["OUT"] == [4]
        assert model.metadata()["platform"] == "ensemble"
        assert model.ready()
        assert server.model("nested")(IN=ONE)["OUT"] == [16]
        assert server.model("waits")(IN=ONE)["OUT"] == [4]


def test_requests_of_many_threads(repository):
    open_gate()
    with Server(str(repository)) as server:

        def ask(number):
            array = np.full(3, number, np.float32)
            return (server.model("nested")(IN=array)["OUT"] == 16 * array).all()

        with ThreadPoolExecutor(16) as clients:
            assert all(clients.map(ask, range(320)))
        for name, count in {
            "nested": 320,
            "fourfold": 320,
            "fourfold_too": 320,
            "double": 1280,
        }.items():
            [stats] = server.model(name).statistics()["model_stats"]
            assert stats["inference_count"] == stats["execution_count"] == count
            assert stats["inference_stats"]["success"]["count"] == count


def test_its_tensors_wait_for_no_garbage_collection(repository):
    gc.collect()
    gc.disable()
    try:
        with Server(str(repository)) as server:
            assert server.model("nested")(IN=ONE)["OUT"] == [16]
        kept = [each for each in gc.get_objects() if isinstance(each, EnsembleRequest)]
    finally:
        gc.enable()
    assert kept == []


def test_it_takes_as_long_as_its_steps_together(repository):
    open_gate()
    with Server(str(repository)) as server:
        server.model("fourfold")(IN=ONE)
        whole, parts = (
            server.model(name).statistics()["model_stats"][0]["inference_stats"]
            for name in ("fourfold", "double")
        )
    for key in ("compute_input", "compute_infer", "compute_output"):
        assert whole[key] == {"count": 1, "ns": parts[key]["ns"]}
    assert whole["success"]["ns"] >= parts["success"]["ns"]


def test_a_step_that_blocks_keeps_nobody_waiting(repository):
    with Server(str(repository), response_timeout=0.2) as server:
        with pytest.raises(InferenceError) as caught:
            server.model("waits")(IN=ONE)
        open_gate()
    assert deviations.OVERDUE.server in caught.value.message
    assert "Instance 'gated_0' is in execute" in caught.value.message


def test_who_waits_at_the_end_is_told(repository):
    server = Server(str(repository), exit_timeout=0.2).start()
    with ThreadPoolExecutor(1) as client:
        answer = client.submit(server.model("waits"), IN=ONE)
        GATES["gated"].wait_for_somebody()
        server.stop()
        with pytest.raises(InferenceError) as caught:
            answer.result()
        open_gate()
    assert "given up" in caught.value.message
    assert caught.value.code is StatusCode.UNAVAILABLE
    # The other steps have nothing to do with it.
    assert "model 'double' did not stop" not in str(server.log())


def test_an_ensemble_that_is_given_up_lets_its_steps_go(repository):
    options = {"model_control_mode": "explicit", "exit_timeout": 0.2}
    with Server(str(repository), startup_models=["waits"], **options) as server:
        with ThreadPoolExecutor(1) as client:
            answer = client.submit(server.model("waits"), IN=ONE)
            GATES["gated"].wait_for_somebody()
            server.unload("waits", wait_until_unloaded=True)
            with pytest.raises(InferenceError, match="this request is given up"):
                answer.result()
        server.unload("double", wait_until_unloaded=True)
        assert "successfully unloaded 'double' version 1" in str(server.log())
        open_gate()


def test_an_ensemble_is_unloaded_when_its_requests_are_answered(repository):
    with Server(str(repository), model_control_mode="explicit", startup_models=["waits"]) as server:
        with ThreadPoolExecutor(1) as client:
            answer = client.submit(server.model("waits"), IN=ONE)
            GATES["gated"].wait_for_somebody()
            gone = threading.Thread(
                target=server.unload, args=("waits",), kwargs={"wait_until_unloaded": True}
            )
            gone.start()
            open_gate()
            assert answer.result()["OUT"] == [4]
            gone.join()
        assert "successfully unloaded 'waits' version 1" in str(server.log())
        with pytest.raises(InferenceError, match="'waits' has no available versions"):
            server.model("waits")(IN=ONE)


def test_nothing_executes_two_requests_together(repository):
    open_gate()
    with Server(str(repository)) as server:
        model = server.model("fourfold")
        (alone,) = model.execute([{"IN": ONE}])
        assert alone["OUT"] == [4]
        with pytest.raises(InferenceError, match="no call executes them together"):
            model.execute([{"IN": ONE}, {"IN": ONE}])


def test_its_steps_are_held_and_not_it(repository):
    open_gate()
    with Server(str(repository)) as server:
        model = server.model("fourfold")
        with pytest.raises(InferenceError, match="hold the models of its steps"):
            model.hold()
        with server.model("double").hold():
            with pytest.raises(InferenceError, match="this thread holds model 'double'"):
                model(IN=ONE)
            responses = model.infer(inputs={"IN": ONE})
        (response,) = responses
        assert np.from_dlpack(response.outputs["OUT"]) == [4]


def test_steps_in_processes_of_their_own(tmp_path):
    write_model(tmp_path, "double")
    write_chain(tmp_path, "fourfold", "double", "double")
    with Server(str(tmp_path), isolation="process") as server:
        assert server.model("fourfold")(IN=ONE)["OUT"] == [4]


ASKS = """
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        ask = pb_utils.InferenceRequest(
            model_name="ENSEMBLE", requested_output_names=["OUT"], inputs=request.inputs()
        )
        answer = ask.exec()
        if answer.has_error():
            raise pb_utils.TritonModelException(answer.error().message())
        return answer
"""


@pytest.mark.parametrize("steps", [["asks"], ["asks", "double"], ["double", "asks"]])
def test_a_step_that_waits_for_its_own_ensemble(repository, steps):
    write_model(repository, "asks", ASKS.replace("ENSEMBLE", "whole"))
    write_chain(repository, "whole", *steps)
    open_gate()
    with Server(str(repository)) as server:
        for name in ("asks", "whole"):
            with pytest.raises(InferenceError) as caught:
                server.model(name)(IN=ONE)
            assert "because 'asks_0' waits for model 'whole'" in caught.value.message
            assert deviations.BLS_CIRCLE.server in caught.value.message


def test_a_model_may_ask_an_ensemble(repository):
    write_model(repository, "asks", ASKS.replace("ENSEMBLE", "nested"))
    write_chain(repository, "whole", "asks", "double")
    open_gate()
    with Server(str(repository)) as server:
        assert server.model("whole")(IN=ONE)["OUT"] == [32]
