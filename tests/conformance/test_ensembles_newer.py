"""What ensembles do since releases that are newer than the real server of this suite."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from broken_models import write_models
from ensemble_models import PYTHON, TELLS, ensemble, step, tensors, write_ensemble

from triton_stub.core.result import Result
from triton_stub.engines.stub import StubEngine
from triton_stub.errors import InferenceError

SCHEDULER = "core src/ensemble_scheduler/ensemble_scheduler.cc"
IO = PYTHON + tensors("input", "IN FP32 -1") + tensors("output", "OUT FP32 -1")
TOLD = IO + tensors("output", "TOLD STRING -1")
HEADER = """
import json, os, time
from pathlib import Path
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        own = json.loads(request.parameters())
        output = pb_utils.Tensor("OUT", request.inputs()[0].as_numpy())
"""
# Its response has the parameters that the request's are named after.
NAMES = (
    HEADER
    + """
        own = {key.removeprefix("PREFIX"): value for key, value in own.items()
               if key.startswith("PREFIX")}
        return pb_utils.InferenceResponse([output], parameters=own)
"""
)
# Fails or answers as soon as there is a file.
ENDS = (
    HEADER
    + """
        until = time.monotonic() + 60
        while not os.path.exists(own["PREFIX"]) and time.monotonic() < until:
            time.sleep(0.01)
        if own["PREFIX_error"]:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(own["PREFIX_error"]))
        return pb_utils.InferenceResponse([output])
"""
)
STREAM = """
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            sender = request.get_response_sender()
            for number in range(5):
                tensor = pb_utils.Tensor("OUT", np.array([number], np.float32))
                sender.send(pb_utils.InferenceResponse([tensor]))
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""
# Writes down when it begins and ends; waits between the two for so many others to begin.
OVERLAPS = (
    HEADER
    + """
        with open(own["log"], "a") as log:
            log.write("+")
        until = time.monotonic() + 60
        begun = lambda: Path(own["log"]).read_text().count("+")
        while begun() < own["together"] and time.monotonic() < until:
            time.sleep(0.001)
        with open(own["log"], "a") as log:
            log.write("-")
        return pb_utils.InferenceResponse([output])
"""
)
A, B, C = ("A FP32 -1", "B FP32 -1", "C FP32 -1")
STREAMED = (step("streams", {"IN": "A"}, {"OUT": "B"}), step("overlaps", {"IN": "B"}, {"OUT": "C"}))
TWO = (
    step("names", {"IN": "A"}, {"OUT": "B"}),
    step("names_too", {"IN": "A"}, {"OUT": "C"}),
    step("both", {"IN": "B", "MORE": "C"}, {"TOLD": "T"}),
)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StubEngine]:
    folder = tmp_path_factory.mktemp("newer")
    tells = TELLS.replace("SHAPE", "None")
    write_models(folder, {"tells": tells}, TOLD)
    write_models(folder, {"both": tells}, TOLD + tensors("input", "MORE FP32 -1"))
    for name, code in {
        "names": NAMES.replace("PREFIX", "first_"),
        "names_too": NAMES.replace("PREFIX", "second_"),
        "ends": ENDS.replace("PREFIX", "first"),
        "ends_too": ENDS.replace("PREFIX", "second"),
    }.items():
        write_models(folder, {name: code}, IO)
    write_models(folder, {"overlaps": OVERLAPS}, IO + "instance_group { count: 4 }\n")
    write_models(folder, {"streams": STREAM}, IO + "model_transaction_policy { decoupled: true }\n")
    limit = "ensemble_scheduling { max_inflight_requests: 1 }\n"
    for name, config in {
        "e_names": ensemble(A, B, step("names", {"IN": "A"}, {"OUT": "B"})),
        "e_names_on": ensemble(
            A,
            "T STRING -1",
            step("names", {"IN": "A"}, {"OUT": "B"}),
            step("tells", {"IN": "B"}, {"TOLD": "T"}),
        ),
        "e_two": ensemble(A, "T STRING -1", *TWO),
        "e_ends": ensemble(
            A,
            f"{B};{C}",
            step("ends", {"IN": "A"}, {"OUT": "B"}),
            step("ends_too", {"IN": "A"}, {"OUT": "C"}),
        ),
        "e_free": ensemble(A, C, *STREAMED),
        "e_limited": ensemble(A, C, *STREAMED).replace(
            "ensemble_scheduling {\n", limit.replace(" }\n", "\n")
        ),
    }.items():
        write_ensemble(folder, name, config)
    with StubEngine(folder) as engine:
        yield engine


def ask(engine: StubEngine, model: str, **parameters: object) -> Result:
    request = {"A": np.ones(1, np.float32), "parameters": parameters}
    return engine.infer(model, sequence_id=5, sequence_end=True, **request)  # type: ignore[arg-type]


@pytest.mark.newer("25.02", f"{SCHEDULER}: ConsumeResponse")
@pytest.mark.rule("4.7-named-sequence")
def test_a_step_may_name_the_sequence_for_those_after_it(engine: StubEngine) -> None:
    named = {"first_sequence_id": 9, "first_sequence_start": True}
    (told,) = ask(engine, "e_names_on", **named)["T"]
    assert {"sequence": 9, "flags": 1}.items() <= json.loads(told).items()
    parameters = ask(engine, "e_names", **named).parameters
    assert parameters == {"sequence_id": 9, "sequence_start": True, "sequence_end": False}


@pytest.mark.newer("25.02", f"{SCHEDULER}: ConsumeResponse")
@pytest.mark.rule("4.7-named-sequence")
def test_a_step_that_names_only_flags_keeps_the_sequence(engine: StubEngine) -> None:
    (told,) = ask(engine, "e_names_on", first_sequence_end=False, first_other="x")["T"]
    assert {"sequence": 5, "flags": 0}.items() <= json.loads(told).items()
    (told,) = ask(engine, "e_names_on", first_other="x")["T"]
    assert {"sequence": 5, "flags": 2}.items() <= json.loads(told).items()


@pytest.mark.newer("25.02", f"{SCHEDULER}: InitStep")
@pytest.mark.rule("4.7-named-sequence")
def test_steps_that_do_not_agree(engine: StubEngine) -> None:
    (told,) = ask(engine, "e_two", first_sequence_id=8, second_sequence_id=9)["T"]
    assert json.loads(told)["sequence"] == 8
    assert (
        "Different set of response parameters are set for 'both'. Parameter correlation ID 8, "
        "flags 0 is used."
    ) in engine.log()


@pytest.mark.newer("25.02", f"{SCHEDULER}: ConsumeResponse")
@pytest.mark.rule("4.7-named-sequence")
@pytest.mark.parametrize(
    ("parameter", "value", "expected"),
    [
        ("sequence_id", True, "expected parameter 'sequence_id' to be TRITONSERVER_PARAMETER_INT"),
        (
            "sequence_start",
            1,
            "expect parameter 'sequence_start' to be TRITONSERVER_PARAMETER_BOOL",
        ),
        ("sequence_end", "x", "expect parameter 'sequence_end' to be TRITONSERVER_PARAMETER_BOOL"),
    ],
)
def test_parameters_of_another_type(
    engine: StubEngine, parameter: str, value: object, expected: str
) -> None:
    with pytest.raises(InferenceError, match=f"in ensemble 'e_names', {expected}"):
        ask(engine, "e_names", **{f"first_{parameter}": value})


@pytest.mark.newer("26.02", f"{SCHEDULER}: PrepareSteps")
@pytest.mark.rule("4.7-last-error")
@pytest.mark.parametrize("last", ["", "second error"])
def test_an_error_waits_for_the_steps_under_way(
    engine: StubEngine, tmp_path: Path, last: str
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    parameters = {"first": str(first), "first_error": "first error", "second_error": last}
    parameters["second"] = str(second)
    with ThreadPoolExecutor(1) as other:
        answer = other.submit(ask, engine, "e_ends", **parameters)
        first.touch()
        # That model is done with the request, which is not answered all the same.
        with pytest.raises(InferenceError, match=r"^first error$"):
            engine.infer("ends", IN=np.ones(1, np.float32), parameters=parameters)
        assert not answer.done()
        second.touch()
        with pytest.raises(InferenceError) as caught:
            answer.result()
    assert caught.value.message == f"in ensemble 'e_ends', {last or 'first error'}"


@pytest.mark.newer("25.11", f"{SCHEDULER}: StepInflightRequestLimiter")
@pytest.mark.rule("4.7-limit")
@pytest.mark.parametrize(("model", "together"), [("e_free", 4), ("e_limited", 1)])
def test_so_many_requests_are_at_a_step(
    engine: StubEngine, tmp_path: Path, model: str, together: int
) -> None:
    log = tmp_path / "log"
    parameters = {"log": str(log), "together": together}
    answers = list(engine.stream(model, A=np.ones(1, np.float32), parameters=parameters))
    values = sorted(answer["C"][0] for answer in answers if "C" in answer)  # type: ignore[operator,index]
    assert values == [0, 1, 2, 3, 4]
    if together == 1:
        assert log.read_text() == "+-" * 5
        assert "Ensemble model 'e_limited' configured with max_inflight_requests: 1" in engine.log()
    else:
        assert log.read_text().startswith("+" * together)
