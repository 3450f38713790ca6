"""Ensembles: requests that go through several models, on both engines."""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import urllib3
from broken_models import both_engines, write_models
from comparing import Engines, outcome
from ensemble_models import PYTHON, TELLS, ensemble, step, tensors, write_ensemble
from mortal import is_live
from observed import series, settled

from triton_stub import deviations
from triton_stub.engines.engine import Engine
from triton_stub.engines.native import NativeEngine
from triton_stub.errors import InferenceError

IO = PYTHON + tensors("input", "IN FP32 -1") + tensors("output", "OUT FP32 -1")
TOLD = IO + tensors("output", "TOLD STRING -1")
HEADER = "import numpy as np\nimport triton_python_backend_utils as pb_utils\n"
# The body of a model that answers each request with what ``answer`` returns.
EACH = (
    HEADER
    + """
class TritonPythonModel:
    def execute(self, requests):
        return [pb_utils.InferenceResponse(self.answer(r)) for r in requests]

    def answer(self, request):
        value = request.inputs()[0].as_numpy()
"""
)
BATCHES = "max_batch_size: 4\n"
MAYBE = IO.replace("input {", "input { optional: true ")
ONE_ROW = (
    HEADER
    + """
class TritonPythonModel:
    def execute(self, requests):
        output = pb_utils.Tensor("OUT", np.ones((1, 1), np.float32))
        return [pb_utils.InferenceResponse([output]) for _ in requests]
"""
)
# Each element is what comes of it: so many responses, and what else the sign says.
STREAM = (
    HEADER
    + """
FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL

class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            sender = request.get_response_sender()
            count, ending = (int(value) for value in request.inputs()[0].as_numpy())
            for number in range(count):
                tensor = pb_utils.Tensor("OUT", np.array([number], np.float32))
                last = number + 1 == count and ending == 1
                sender.send(pb_utils.InferenceResponse([tensor]), FINAL if last else 0)
            if ending == 2:
                error = pb_utils.TritonError("enough", pb_utils.TritonError.UNAVAILABLE)
                sender.send(pb_utils.InferenceResponse(error=error), FINAL)
            elif ending == 0:
                sender.send(flags=FINAL)
        return None
"""
)
A, B, C, D = (f"{name} FP32 -1" for name in "ABCD")
TO_B = {"OUT": "B"}

MODELS: dict[str, tuple[str, str]] = {
    "add": (EACH + '        return [pb_utils.Tensor("OUT", value + 1)]\n', IO),
    "tells": (TELLS.replace("SHAPE", "None"), TOLD),
    "tells_batch": (TELLS.replace("SHAPE", "(-1, 1)"), "max_batch_size: 4\n" + TOLD),
    "fails": (
        EACH + '        raise pb_utils.TritonModelException("all of it")\n',
        IO,
    ),
    "refuses": (
        HEADER
        + """
class TritonPythonModel:
    def execute(self, requests):
        error = pb_utils.TritonError("step err", pb_utils.TritonError.NOT_FOUND)
        return [pb_utils.InferenceResponse(error=error) for _ in requests]
""",
        IO,
    ),
    "lies": (
        EACH
        + """
        made = {1: np.ones(1, np.int32), 2: np.ones((1, 2), np.float32)}[int(value[0])]
        return [pb_utils.Tensor("OUT", made)]
""",
        IO,
    ),
    # As many outputs as IN says.
    "omits": (
        EACH
        + """
        both = [pb_utils.Tensor("OUT", value), pb_utils.Tensor("MORE", value)]
        return both[: int(value[0])]
""",
        IO + tensors("output", "MORE FP32 -1"),
    ),
    "optional": (
        EACH
        + """
        names = sorted(t.name() for t in request.inputs())
        return [pb_utils.Tensor("TOLD", np.array([",".join(names).encode()], object))]
""",
        PYTHON
        + tensors("input", "IN FP32 -1", "MORE FP32 -1 optional: true")
        + tensors("output", "TOLD STRING -1"),
    ),
    "texts": (
        EACH + '        return [pb_utils.Tensor("OUT", value)]\n',
        IO.replace("FP32", "STRING") + BATCHES,
    ),
    "maybe": (ONE_ROW, MAYBE + BATCHES),
    "maybe_flat": (ONE_ROW.replace("(1, 1)", "1"), MAYBE),
    "stream": (STREAM, IO + "model_transaction_policy { decoupled: true }\n"),
    "asks": (
        EACH
        + """
        ask = pb_utils.InferenceRequest(
            model_name="e_chain", requested_output_names=["C"],
            inputs=[pb_utils.Tensor("A", value)])
        answer = ask.exec()
        if answer.has_error():
            raise pb_utils.TritonModelException(answer.error().message())
        return [pb_utils.Tensor("OUT", answer.output_tensors()[0].as_numpy())]
""",
        IO,
    ),
    "shapes": (
        EACH + '        return [pb_utils.Tensor("OUT", value)]\n',
        PYTHON
        + tensors("input", "IN FP32 2,2 reshape { shape: [ 4 ] }")
        + tensors("output", "OUT FP32 2,2 reshape { shape: [ 4 ] }"),
    ),
    "changes": (
        EACH
        + """
        value += 100
        return [pb_utils.Tensor("OUT", value)]
""",
        IO,
    ),
}
IN_A = {"IN": "A"}
CHAIN = (step("add", IN_A, TO_B), step("add", {"IN": "B"}, {"OUT": "C"}))
ENSEMBLES = {
    "e_chain": ensemble(A, C, *CHAIN),
    # The order of the steps says nothing.
    "e_turned": ensemble(A, C, *CHAIN[::-1]),
    "e_tells": ensemble(A, "B FP32 -1;T STRING -1", step("tells", IN_A, {**TO_B, "TOLD": "T"})),
    "e_tells_one": ensemble(A, "T STRING -1", step("tells", IN_A, {"TOLD": "T"})),
    "e_fails": ensemble(A, C, step("fails", IN_A, TO_B), step("add", {"IN": "B"}, {"OUT": "C"})),
    "e_refuses": ensemble(A, B, step("refuses", IN_A, TO_B)),
    "e_lies": ensemble(A, B, step("lies", IN_A, TO_B)),
    "e_lies_on": ensemble(A, C, step("lies", IN_A, TO_B), step("add", {"IN": "B"}, {"OUT": "C"})),
    "e_omits": ensemble(A, f"{B};{C}", step("omits", IN_A, {"OUT": "B", "MORE": "C"})),
    "e_omits_optional": ensemble(
        A,
        "T STRING -1",
        step("omits", IN_A, {"OUT": "B", "MORE": "C"}),
        step("optional", {"IN": "B", "MORE": "C"}, {"TOLD": "T"}),
    ),
    "e_omits_needed": ensemble(
        A,
        D,
        step("omits", IN_A, {"OUT": "B", "MORE": "C"}),
        step("add", {"IN": "C"}, {"OUT": "D"}),
    ),
    "e_optional": ensemble(
        f"{A};M FP32 -1 optional: true",
        "T STRING -1",
        step("optional", {"IN": "A", "MORE": "M"}, {"TOLD": "T"}),
    ),
    "e_unmapped": ensemble(A, "T STRING -1", step("optional", IN_A, {"TOLD": "T"})),
    "e_two": ensemble(
        f"{A};{B}",
        f"{C};{D}",
        step("add", IN_A, {"OUT": "C"}),
        step("add", {"IN": "B"}, {"OUT": "D"}),
    ),
    "e_side": ensemble(
        A, f"{B};{C}", step("add", IN_A, TO_B), step("add", {"IN": "B"}, {"OUT": "C"})
    ),
    "e_through": ensemble(A, f"{A};{B}", step("add", IN_A, TO_B)),
    "e_both": ensemble(
        A, f"{B};{C}", step("changes", IN_A, TO_B), step("changes", IN_A, {"OUT": "C"})
    ),
    "e_half_fails": ensemble(
        A,
        f"{B};{C}",
        step("add", IN_A, TO_B),
        step("add_three", IN_A, {"OUT": "C"}),
    ),
    "e_to_batch": ensemble(
        A,
        "B FP32 -1;T STRING -1",
        step("tells_batch", IN_A, {**TO_B, "TOLD": "T"}),
    ),
    "e_from_batch": ensemble(
        A,
        "C FP32 -1;T STRING -1",
        step("tells", IN_A, {"OUT": "C", "TOLD": "T"}),
        more="max_batch_size: 4\n",
    ),
    "e_batch": ensemble(
        A,
        "B FP32 -1;T STRING -1",
        step("tells_batch", IN_A, {**TO_B, "TOLD": "T"}),
        more="max_batch_size: 4\n",
    ),
    "e_reshape": ensemble(
        "A FP32 4 reshape { shape: [ 2, 2 ] }",
        "B FP32 4 reshape { shape: [ 2, 2 ] }",
        step("shapes", IN_A, TO_B),
    ),
    "e_stream": ensemble(A, B, step("stream", IN_A, TO_B)),
    "e_stream_on": ensemble(
        A, C, step("stream", IN_A, TO_B), step("add", {"IN": "B"}, {"OUT": "C"})
    ),
    "e_stream_tells": ensemble(
        A, "T STRING -1", step("stream", IN_A, TO_B), step("tells", {"IN": "B"}, {"TOLD": "T"})
    ),
    "e_nested": ensemble(
        A, C, step("e_chain", {"A": "A"}, {"C": "B"}), step("add", {"IN": "B"}, {"OUT": "C"})
    ),
    "e_nested_fails": ensemble(A, B, step("e_refuses", {"A": "A"}, {"B": "B"})),
    "e_nested_stream": ensemble(A, C, step("e_stream_on", {"A": "A"}, {"C": "C"})),
    "e_asks": ensemble(A, B, step("asks", IN_A, TO_B)),
    "e_texts": ensemble("A STRING -1", "B STRING -1", step("texts", IN_A, TO_B), more=BATCHES),
    "e_nested_texts": ensemble(
        "A STRING -1", "B STRING -1", step("e_texts", {"A": "A"}, {"B": "B"}), more=BATCHES
    ),
    "e_maybe": ensemble(f"{A} optional: true", B, step("maybe", IN_A, TO_B), more=BATCHES),
    "e_maybe_flat": ensemble(
        f"{A} optional: true", B, step("maybe_flat", IN_A, TO_B), more=BATCHES
    ),
    "e_rows_flat": ensemble(A, B, step("add", IN_A, TO_B), more=BATCHES),
    "e_versions": ensemble(
        A,
        f"{B};{C}",
        step("versions", IN_A, TO_B, 1),
        step("versions", IN_A, {"OUT": "C"}, -1),
    ),
}


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    folder = tmp_path_factory.mktemp("ensembles")
    write(folder, MODELS, ENSEMBLES)
    add = MODELS["add"][0]
    write_models(folder, {"add_three": add}, IO.replace("-1", "3"))
    files = {"1/model.py": add, "2/model.py": add.replace("+ 1", "+ 2")}
    write_models(folder, {"versions": files}, IO + "version_policy { all { } }\n")
    with both_engines(folder) as engines:
        yield engines


def write(repository: Path, models: Iterable[str], ensembles: Iterable[str]) -> None:
    """Write some of the models and of the ensembles."""
    for name in models:
        code, config = MODELS[name]
        write_models(repository, {name: code}, config)
    for name in ensembles:
        write_ensemble(repository, name, ENSEMBLES[name])


def answer(model: str, /, **request: Any) -> Any:
    """A body: everything that a client sees of the answer to one request."""
    request.setdefault("A", np.ones(1, np.float32))

    def body(engine: Engine) -> Any:
        result = engine.infer(model, **request)
        return {
            "outputs": {name: result[name] for name in result},
            "order": list(result),
            "parameters": result.parameters,
            "who": (result.model_name, result.model_version, result.request_id),
        }

    return body


def responses(model: str, count: int, ending: int, **request: Any) -> Any:
    """A body: every response of an ensemble with a stream that ends in a certain way."""

    def body(engine: Engine) -> Any:
        found: list[Any] = []
        array = np.array([count, ending], np.float32)
        final = False
        for each in engine.stream(model, A=array, **request):
            if isinstance(each, InferenceError):
                found.append(each.message)
                continue
            final = each.final
            # The last one is final, or an empty one follows: if there are other steps, that depends
            # on whether these or the stream are done first.
            if model == "e_stream":
                found.append(final)
            if each.outputs or model == "e_stream":
                found.append(({name: each[name] for name in each}, each.parameters))
        return found, final

    return body


@pytest.mark.rule("4.7-ensemble")
@pytest.mark.parametrize("name", ["e_chain", "e_stream", "e_optional", "e_batch", "e_reshape"])
def test_what_an_ensemble_is(engines: Engines, name: str) -> None:
    assert engines.same(lambda engine: engine.metadata(name))["platform"] == "ensemble"
    assert engines.same(lambda engine: engine.ready(name)) is True

    def config(engine: Engine) -> Any:
        found = engine.config(name)
        found["ensemble_scheduling"].pop("max_inflight_requests", None)  # since 25.11
        return found

    decoupled = engines.same(config)["model_transaction_policy"]["decoupled"]
    assert decoupled is (name == "e_stream")


@pytest.mark.rule("4.7-steps")
@pytest.mark.parametrize(
    "name", ["e_chain", "e_turned", "e_two", "e_side", "e_through", "e_both", "e_nested", "e_asks"]
)
def test_a_request_goes_through_the_steps(engines: Engines, name: str) -> None:
    more = {"B": np.full(2, 10, np.float32)} if name == "e_two" else {}
    assert "outputs" in engines.same(answer(name, A=np.arange(3, dtype=np.float32), **more))


@pytest.mark.rule("4.7-versions")
def test_a_step_may_name_a_version(engines: Engines) -> None:
    outputs = engines.same(answer("e_versions"))["outputs"]
    assert outputs["B"]["values"] == [2]
    assert outputs["C"]["values"] == [3]


@pytest.mark.rule("4.7-validated")
@pytest.mark.parametrize(
    "request_",
    [
        {"A": np.ones(1, np.int32)},
        {"A": np.ones((1, 1), np.float32)},
        {"A": np.ones(1, np.float32), "X": np.ones(1, np.float32)},
        {"X": np.ones(1, np.float32)},
        {"outputs": ["X"]},
        {"outputs": ["B"]},
        {"request_id": "mine", "A": np.ones(1, np.int64)},
        {"model_version": "2"},
    ],
    ids=["datatype", "shape", "more", "other", "no-output", "inner-output", "id", "version"],
)
def test_a_request_is_checked_as_any(engines: Engines, request_: dict[str, Any]) -> None:
    def body(engine: Engine) -> Any:
        tensors = {} if "X" in request_ and len(request_) == 1 else {"A": np.ones(1, np.float32)}
        return engine.infer("e_chain", **{**tensors, **request_})

    assert "error" in engines.same(body)


REQUESTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "named": {"request_id": "mine", "timeout": 60_000_000, "priority": 3},
    "parameters": {"parameters": {"text": "t", "number": 7, "yes": True}},
    "sequence": {"sequence_id": 7, "sequence_start": True},
    "text_sequence": {"sequence_id": "seven", "sequence_end": True},
    "large_sequence": {"sequence_id": 2**63 + 5, "sequence_start": True, "sequence_end": True},
}


@pytest.mark.rule("4.7-request", "4.7-response-parameters")
@pytest.mark.parametrize("name", ["e_tells", "e_tells_one", "e_chain", "e_nested", "e_through"])
@pytest.mark.parametrize("kind", [kind for kind in REQUESTS if kind != "text_sequence"])
def test_what_is_handed_to_the_steps(engines: Engines, name: str, kind: str) -> None:
    assert "parameters" in engines.same(answer(name, **REQUESTS[kind]))


@pytest.mark.rule("4.7-request", "4.7-response-parameters")
@pytest.mark.parametrize("name", ["e_tells", "e_tells_one", "e_chain", "e_through"])
def test_a_sequence_named_by_a_text(engines: Engines, name: str) -> None:
    assert "parameters" in engines.same(answer(name, **REQUESTS["text_sequence"]))


@pytest.mark.deviation("text-sequence")
def test_a_step_that_names_a_sequence_by_a_text(engines: Engines, tmp_path: Path) -> None:
    body = answer("e_nested", **REQUESTS["text_sequence"])
    said = outcome(body, engines.stub)["error"]
    assert said.startswith("in ensemble 'e_nested', ")
    assert deviations.TEXT_SEQUENCE.server in said
    write(tmp_path, ["add"], ["e_chain", "e_nested"])
    with NativeEngine(tmp_path) as native:
        assert "no answer from" in outcome(body, native)["error"]
        assert not is_live(native)


@pytest.mark.rule("4.7-response-parameters")
def test_tensors_without_content_have_no_parameters(engines: Engines) -> None:
    empty = engines.same(answer("e_chain", A=np.ones(0, np.float32), sequence_id=3))
    assert empty["parameters"] == {}


@pytest.mark.rule("4.7-step-input")
@pytest.mark.parametrize("lie", [1, 2])
def test_what_a_step_makes_is_checked_by_the_next(engines: Engines, lie: int) -> None:
    said = engines.same(answer("e_lies_on", A=np.array([lie], np.float32)))["error"]
    assert said.startswith("in ensemble 'e_lies_on', [request id: <id_unknown>] ")
    named = engines.same(answer("e_lies_on", A=np.array([lie], np.float32), request_id="mine"))[
        "error"
    ]
    assert "[request id: mine] " in named


@pytest.mark.rule("4.7-output")
@pytest.mark.parametrize("lie", [1, 2])
def test_what_the_last_step_makes_is_not_checked(engines: Engines, lie: int) -> None:
    assert "outputs" in engines.same(answer("e_lies", A=np.array([lie], np.float32)))


@pytest.mark.rule("4.7-step-error")
@pytest.mark.parametrize("name", ["e_refuses", "e_nested_fails"])
def test_a_step_that_fails(engines: Engines, name: str) -> None:
    said = engines.same(answer(name))
    assert said["error"].endswith("in ensemble 'e_refuses', step err")
    assert said["status"] == 404


@pytest.mark.rule("4.7-step-error")
def test_a_step_that_raises(engines: Engines) -> None:
    def body(engine: Engine) -> Any:
        try:
            return engine.infer("e_fails", A=np.ones(1, np.float32))
        except InferenceError as error:
            # Frames of two Pythons.
            return re.sub(r"\S*/(fails/1/model.py)", r"…/\1", error.message), error.code.http_status

    said, _ = engines.same(body)
    assert said.startswith(
        "in ensemble 'e_fails', Failed to process the request(s) for model 'fails"
    )


@pytest.mark.rule("4.7-step-input")
def test_no_step_begins_if_one_refuses_its_inputs(engines: Engines) -> None:
    def body(engine: Engine) -> Any:
        before = executions(engine, "add")
        with pytest.raises(InferenceError) as caught:
            engine.infer("e_half_fails", A=np.ones(1, np.float32))
        return caught.value.message, executions(engine, "add") - before

    _, executed = engines.same(body)
    assert executed == 0


@pytest.mark.rule("4.7-omitted")
@pytest.mark.parametrize("count", [0, 1, 2])
@pytest.mark.parametrize("name", ["e_omits", "e_omits_optional", "e_omits_needed"])
def test_a_step_that_leaves_out_outputs(engines: Engines, name: str, count: int) -> None:
    engines.same(answer(name, A=np.array([count], np.float32)))


@pytest.mark.rule("4.7-optional")
@pytest.mark.parametrize("given", ["A", "AM"])
def test_inputs_that_may_be_left_out(engines: Engines, given: str) -> None:
    request = {name: np.ones(1, np.float32) for name in given}
    assert "outputs" in engines.same(answer("e_optional", **request))


@pytest.mark.rule("4.7-optional")
def test_optional_inputs_of_a_step_need_not_be_mapped(engines: Engines) -> None:
    assert engines.same(answer("e_unmapped"))["outputs"]["T"]["values"] == [b"IN"]


@pytest.mark.rule("4.7-unrequested")
@pytest.mark.parametrize(
    ("name", "outputs"),
    [
        ("e_side", ["B"]),
        ("e_side", ["C"]),
        ("e_through", ["A"]),
        ("e_through", ["B"]),
        ("e_two", ["C"]),
        ("e_two", ["D"]),
        ("e_tells", ["T"]),
        ("e_tells", ["B"]),
    ],
)
def test_outputs_that_nobody_asks_for(engines: Engines, name: str, outputs: list[str]) -> None:
    more = {"B": np.full(2, 10, np.float32)} if name == "e_two" else {}

    before = {engine.name: executions(engine, "add") for engine in engines}
    engines.same(answer(name, outputs=outputs, **more))
    settled(engines, lambda engine: executions(engine, "add") - before[engine.name])


def executions(engine: Engine, model: str) -> int:
    """How often a model was executed so far."""
    count: int = engine.statistics(model)["model_stats"][0]["execution_count"]
    return count


@pytest.mark.rule("4.7-batching")
@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("e_to_batch", (2,)),
        ("e_to_batch", (0,)),
        ("e_from_batch", (1, 2)),
        ("e_from_batch", (3, 2)),
        ("e_batch", (1, 2)),
        ("e_batch", (4, 2)),
        ("e_batch", (5, 2)),
        ("e_reshape", (4,)),
    ],
)
def test_between_models_with_batches_and_without(
    engines: Engines, name: str, shape: tuple[int, ...]
) -> None:
    engines.same(answer(name, A=np.ones(shape, np.float32)))


@pytest.mark.rule("4.7-decoupled")
@pytest.mark.parametrize("ending", [0, 1, 2], ids=["bare", "with-the-last", "error"])
@pytest.mark.parametrize("count", [0, 1, 3])
@pytest.mark.parametrize("name", ["e_stream", "e_stream_on", "e_stream_tells", "e_nested_stream"])
def test_every_response_of_a_stream_goes_on(
    engines: Engines, name: str, count: int, ending: int
) -> None:
    if count == 0 and ending == 1:
        count = 2
    if ending == 2 and name != "e_stream":
        count = 0  # else it depends on who is first what comes before the error
    engines.same(responses(name, count, ending, request_id="mine", sequence_id=5))


@pytest.mark.rule("4.7-decoupled")
def test_a_stream_asked_for_as_if_it_were_none(engines: Engines) -> None:
    assert "error" in engines.same(answer("e_stream", A=np.array([1, 1], np.float32)))


@pytest.mark.rule("4.7-unchecked", "4.7-step-error", "4.2-backend")
def test_what_only_backends_check(engines: Engines) -> None:
    cut = b"\5\0\0\0ab"
    text = {"datatype": "BYTES", "shape": [1, 1], "parameters": {"binary_data_size": len(cut)}}
    nothing = {"datatype": "FP32", "shape": [0, 0], "data": []}

    def body(engine: Engine) -> Any:
        return [
            *(
                raw(engine, model, [{"name": name, **text}], cut)
                for model, name in (("texts", "IN"), ("e_texts", "A"), ("e_nested_texts", "A"))
            ),
            *(raw(engine, model, []) for model in ("maybe", "maybe_flat")),
            *(raw(engine, model, []) for model in ("e_maybe", "e_maybe_flat")),
            raw(engine, "e_rows_flat", [{"name": "A", **nothing}]),
        ]

    def count(engine: Engine) -> Any:
        failures = "nv_inference_request_failure"
        models = ["texts", "e_texts", "e_nested_texts", "maybe", "maybe_flat", "e_maybe"]
        return [counts(engine, model) for model in models], {
            key: number
            for key, number in series(engine).items()
            if key[0] == failures and ("model", "texts") in key[1]
        }

    statuses = [status for status, _ in engines.same(body)]
    assert statuses == [400, 400, 400, 400, 200, 400, 200, 200]
    counted, _ = settled(engines, count)
    assert counted[0]["fail"] == 3
    assert counted[0]["execution_count"] == 0


def raw(engine: Engine, model: str, inputs: list[Any], data: bytes = b"") -> tuple[int, Any]:
    """Status and body of the answer to a request of JSON, and what comes after it."""
    document = json.dumps({"inputs": inputs}).encode()
    answer = urllib3.request(
        "POST",
        f"http://{engine.http_url}/v2/models/{model}/infer",
        body=document + data,
        headers={"Inference-Header-Content-Length": str(len(document))},
    )
    return answer.status, answer.json()


@pytest.mark.rule("4.7-statistics")
def test_statistics(engines: Engines) -> None:
    def body(engine: Engine) -> Any:
        found: list[Any] = []
        for name, request in {
            "e_nested": {"A": np.ones(2, np.float32)},
            "e_batch": {"A": np.ones((3, 2), np.float32)},
            "e_refuses": {"A": np.ones(2, np.float32)},
            "e_lies_on": {"A": np.ones(1, np.float32)},
        }.items():
            before = counts(engine, name)
            for _ in range(2):
                with contextlib.suppress(InferenceError):
                    engine.infer(name, **request)
            # The real server counts when the client has its answer already.
            until = time.monotonic() + 60
            # A failure it counts twice.
            counted = before["requests"] + (2 if name in ("e_nested", "e_batch") else 4)
            while (after := counts(engine, name))["requests"] < counted:
                assert time.monotonic() < until
            found.append({key: after[key] - before.get(key, 0) for key in after})
        return found

    engines.same(body)


def counts(engine: Engine, model: str) -> dict[str, int]:
    """All that is counted of a model, without the times."""
    [found] = engine.statistics(model)["model_stats"]
    stats = found["inference_stats"]
    counted = {key: found[key] for key in ("inference_count", "execution_count")}
    counted |= {key: each["count"] for key, each in stats.items()}
    for batch in found["batch_stats"]:
        counted[f"batch of {batch['batch_size']}"] = batch["compute_infer"]["count"]
    return counted | {"requests": stats["success"]["count"] + stats["fail"]["count"]}
