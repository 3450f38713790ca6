"""Sequences: what a model gets of them, in which batches, and which requests are refused."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from broken_models import write_models
from comparing import Engines
from patience import wait_until
from probing import wait_for_log
from sequence_models import (
    MODEL,
    MODELS,
    Busy,
    answers,
    attempt,
    batching,
    both_with,
    corrid,
)

from triton_stub import deviations
from triton_stub.engines.engine import Engine
from triton_stub.engines.stub import StubEngine


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    with both_with(tmp_path_factory.mktemp("sequences"), MODELS) as engines:
        yield engines


@pytest.mark.rule("4.6-flags", "4.6-start", "4.6-both-kinds")
@pytest.mark.parametrize("model", ["direct", "oldest", "single", "oldest_single"])
@pytest.mark.parametrize("sequence", [7, 2**64 - 1, "seven", "7"])
def test_a_sequence(both: Engines, model: str, sequence: int | str) -> None:
    requests = [(sequence, flags) for flags in ("start", "", "", "end", "", "end", "start end", "")]
    rows = 0 if "single" in model else 1
    told = both.same(lambda engine: answers(engine, model, *requests, rows=rows))
    flags = [each[2][0][1] for each in told if isinstance(each, list)]
    assert flags == [1, 0, 0, 2, 3]
    assert [each["error"].split("'")[-1] for each in told if isinstance(each, dict)] == [
        " must specify the START flag on the first request of the sequence"
    ] * 3


@pytest.mark.rule("4.6-both-kinds")
@pytest.mark.parametrize("model", ["direct", "oldest"])
def test_a_number_and_its_digits_are_two_sequences(both: Engines, model: str) -> None:
    requests = [(7, "start"), ("7", ""), ("7", "start"), (7, ""), ("7", "end"), (7, "end")]
    told = both.same(lambda engine: answers(engine, model, *requests))
    assert [isinstance(each, dict) for each in told] == [False, True, *[False] * 4]


@pytest.mark.rule("4.6-no-id")
@pytest.mark.parametrize("model", ["direct", "oldest", "single"])
@pytest.mark.parametrize("nothing", [0, ""])
def test_a_request_without_an_id(both: Engines, model: str, nothing: int | str) -> None:
    requests = [(nothing,), (nothing, "start")]
    rows = 0 if model == "single" else 1
    told = both.same(lambda engine: answers(engine, model, *requests, rows=rows))
    assert all("non-zero or non-empty correlation ID" in each["error"] for each in told)


@pytest.mark.rule("4.6-batch-of-one")
@pytest.mark.parametrize("model", ["direct", "oldest", "iterative"])
def test_a_request_of_two_rows(both: Engines, model: str) -> None:
    requests = [(5, "start"), (0, "start")]
    told = both.same(lambda engine: answers(engine, model, *requests, rows=2))
    assert all("batch-size 1" in each["error"] for each in told)


@pytest.mark.rule("4.6-restart")
@pytest.mark.parametrize("model", ["direct", "oldest"])
def test_a_sequence_that_starts_again(both: Engines, model: str) -> None:
    requests = [(7, "start"), (8, "start"), (7, "start"), (7, ""), (7, "end"), (7, ""), (8, "end")]
    told = both.same(lambda engine: answers(engine, model, *requests))
    assert isinstance(told[5], dict)
    text = (
        f"sequence 7 for model '{model}' has a conflict. The previous sequence did not end before "
        "this sequence start. Previous sequence will be terminated early."
    )
    for engine in both:
        assert re.search(rf"^W.*{re.escape(text)}", wait_for_log(engine, text), re.MULTILINE)


@pytest.mark.rule("4.6-controls", "4.6-corrid", "trap-28")
@pytest.mark.parametrize("model", ["int32", "fp32", "bool", "inverted", "taken"])
def test_control_tensors(both: Engines, model: str) -> None:
    rows = 0 if model in ("fp32", "taken") else 1
    ids = (7, 2**32 + 5, 2**63 + 2**31) if model != "taken" else (7,)
    requests = [
        (sequence, flags) for sequence in ids for flags in ("start", "", "end", "start end")
    ]
    more: dict[str, Any] = {"rows": rows, "s": ["a", "b"]}
    told = both.same(lambda engine: answers(engine, model, *requests, **more))
    names = [each[0] for each in told[0][2][0][4]]
    assert len(names) == {"inverted": 4, "taken": 2}.get(model, 6)


@pytest.mark.rule("4.6-null", "4.6-slot", "trap-28")
@pytest.mark.parametrize("model", ["direct", "int32", "inverted"])
def test_null_requests(both: Engines, model: str) -> None:
    slots = 2 if model == "inverted" else 3
    requests = [(number, "start") for number in range(1, slots + 1)]
    requests += [(slots, ""), (1, "end"), (slots, ""), (2, "end"), (9, "start end")]
    requests += [] if slots == 2 else [(3, "end")]
    told = both.same(lambda engine: answers(engine, model, *requests, s=["a", "b"]))
    assert len(told[slots][2]) == slots
    assert told[slots][2][0][:4] == [0, 0, "", []]


@pytest.mark.rule("4.6-null")
def test_null_requests_are_not_counted(both: Engines) -> None:
    def body(engine: Engine) -> Any:
        answers(engine, "counted", (1, "start"), (2, "start"), (2, "end"), (1, "end"), (3,))
        # The real server counts a request after its answer.
        wait_until(lambda: _counts(engine, "counted")["success"] == 4, "not all are counted")
        return _counts(engine, "counted")

    assert both.same(body)["fail"] == 0


@pytest.mark.rule("4.6-sticky", "4.6-slot-order")
@pytest.mark.parametrize(("model", "slots"), [("instances", 9), ("oldest_instances", 4)])
def test_instances(both: Engines, model: str, slots: int) -> None:
    ids, ended = range(1, slots + 1), [3, 2, slots]
    left = [each for each in (*ids, 12, 13, 14) if each not in ended]
    requests: list[tuple[Any, ...]] = [(each, "start") for each in ids]
    requests += [(each,) for each in ids]
    requests += [(each, "end") for each in ended]
    requests += [(each, "start") for each in (12, 13, 14)]
    requests += [(each, "end") for each in left]
    told = both.same(lambda engine: _by_use(answers(engine, model, *requests)))
    # A sequence stays where it began.
    places = [each[:2] if model == "instances" else each[0] for each in told]
    assert places[:slots] == places[slots : 2 * slots]


@pytest.mark.rule("4.6-backlog", "4.6-slot")
@pytest.mark.parametrize("model", ["direct", "oldest"])
def test_the_backlog(both: Engines, model: str, tmp_path: Path) -> None:
    slots = 3 if model == "direct" else 2

    def body(engine: Engine) -> Any:
        answers(engine, model, *((each, "start") for each in range(1, slots)))
        busy = Busy(engine, model, tmp_path)
        busy.occupy(slots, "start")
        requests = [
            (11, "start"),
            (12, "start end"),
            (11, ""),
            (13, "start"),
            (11, "end"),
            (13, "end"),
        ]
        for number, request in enumerate(requests, 1):
            busy.send(*request, waiting=number)
        busy.send(slots, "end", waiting=len(requests) + 1)
        told = busy.go_on()
        told += answers(engine, model, *((each, "end") for each in range(1, slots)), (11,), (13,))
        return told

    both.same(body)


@pytest.mark.rule("4.6-backlog-timeout")
@pytest.mark.parametrize("model", ["direct", "oldest"])
def test_a_timeout_in_the_backlog(both: Engines, model: str, tmp_path: Path) -> None:
    slots = 3 if model == "direct" else 2
    open_ids = range(1, slots + 1)

    def body(engine: Engine) -> Any:
        answers(engine, model, *((each, "start") for each in range(1, slots)))
        before = _counts(engine, model)["fail"]
        busy = Busy(engine, model, tmp_path)
        busy.occupy(slots, "start")
        # The answers come while the instance is busy.
        busy.send(11, "start", waiting=1)
        late = attempt(engine, model, 11, "", timeout=1000)
        busy.wait(0)
        again = attempt(engine, model, 11)
        told = busy.go_on()
        failed = _counts(engine, model)["fail"] - before
        return (
            told,
            late,
            again,
            failed,
            answers(engine, model, *((each, "end") for each in open_ids)),
        )

    _, late, _, failed, _ = both.same(body)
    assert late["error"] == "timeout of the corresponding sequence has been expired"
    assert failed == 2


@pytest.mark.rule("4.6-idle")
@pytest.mark.parametrize("model", ["idle", "oldest_idle"])
def test_an_idle_sequence_is_forgotten(both: Engines, model: str) -> None:
    def body(engine: Engine) -> Any:
        told = answers(engine, model, (7, "start"))
        # It waits for the only slot until the other sequence is idle.
        told += answers(engine, model, (8, "start end"))
        told += answers(engine, model, (7, ""), (7, "end"), (7, "start end"))
        return told

    told = both.same(body)
    assert [isinstance(each, dict) for each in told] == [False, False, True, True, False]


@pytest.mark.rule("4.6-idle")
@pytest.mark.parametrize("model", ["idle", "idle_at_once"])
def test_an_idle_sequence_is_forgotten_by_itself(both: Engines, model: str) -> None:
    def body(engine: Engine) -> Any:
        told = answers(engine, model, (7, "start"))
        time.sleep(1)
        return told + answers(engine, model, (7, ""))

    assert "START flag" in both.same(body)[1]["error"]


@pytest.mark.rule("4.6-ragged")
@pytest.mark.parametrize("model", ["direct", "ragged", "oldest"])
@pytest.mark.parametrize("other", [{"x": [1, 2]}, {"s": ["a", "b"]}])
def test_requests_that_do_not_match(
    both: Engines, model: str, other: dict[str, Any], tmp_path: Path
) -> None:
    def body(engine: Engine) -> Any:
        answers(engine, model, (1, "start"), (2, "start"))
        busy = Busy(engine, model, tmp_path)
        busy.occupy(1)
        busy.send(1, "end", waiting=1)
        busy.send(2, "end", waiting=2, **other)
        return busy.go_on()

    both.same(body)


@pytest.mark.rule("4.6-utilization")
@pytest.mark.parametrize("model", ["patient", "hasty", "careless"])
def test_utilization(both: Engines, model: str, tmp_path: Path) -> None:
    def body(engine: Engine) -> Any:
        if model != "patient":
            return answers(engine, model, (1, "start"), (2, "start"), (2, "end"), (1, "end"))
        told = []
        for flags in ("start", "", "end"):
            pair = Busy(engine, model, tmp_path)
            pair.send(1, flags, waiting=1)
            pair.send(2, flags, waiting=0)
            told += pair.go_on()
        return told

    both.same(body)


@pytest.mark.rule("4.6-oldest", "4.6-preferred")
def test_the_oldest_wait_for_each_other(both: Engines, tmp_path: Path) -> None:
    def body(engine: Engine) -> Any:
        told = []
        for flags in ("start", "", "end"):
            pair = Busy(engine, "pairs", tmp_path)
            pair.send(1, flags, waiting=1)
            pair.send(2, flags, waiting=0)
            told += pair.go_on()
        return told

    assert {len(each[2]) for each in both.same(body)} == {2}


@pytest.mark.rule("4.6-oldest", "4.6-in-flight")
@pytest.mark.parametrize("model", ["ordered", "oldest"])
def test_one_request_of_a_sequence_is_in_flight(both: Engines, model: str, tmp_path: Path) -> None:
    def body(engine: Engine) -> Any:
        busy = Busy(engine, model, tmp_path)
        busy.occupy(1, "start")
        busy.send(2, "start", waiting=1)
        busy.send(2, "", waiting=2)
        busy.send(1, "", waiting=3)
        busy.send(2, "end", waiting=4)
        busy.send(1, "end", waiting=5)
        told = busy.go_on()
        ids = [sorted(each[0] for each in one[2]) for one in told]
        return [one[2][one[1]] for one in told], all(len(set(each)) == len(each) for each in ids)

    _, is_one_each = both.same(body)
    assert is_one_each


@pytest.mark.rule("4.6-failed")
@pytest.mark.parametrize("model", ["direct", "oldest", "iterative"])
def test_a_sequence_survives_a_failed_batch(both: Engines, model: str) -> None:
    # An iterative one ends with its request in any case.
    later = ["start"] if model == "iterative" else ["", "end"]

    def body(engine: Engine) -> Any:
        failed = attempt(engine, model, 7, "start", parameters={"fail": 1})
        told = answers(engine, model, *((7, each) for each in later))
        return "boom" in failed["error"], _own(told)

    assert both.same(body)[0]


@pytest.mark.rule("4.6-iterative", "trap-27")
@pytest.mark.parametrize("model", ["iterative", "iterative_oldest", "iterative_single"])
@pytest.mark.parametrize("again", [0, 1, 3])
def test_controls_of_a_request_that_comes_back(both: Engines, model: str, again: int) -> None:
    rows = 0 if model == "iterative_single" else 1
    more: dict[str, Any] = {"rows": rows, "request_id": "r", "parameters": {"again": again}}
    # Its own sequence, one of the client's, and what belongs to none. One has ended, which comes
    # after its answer, when another is executed.
    requests = [(0,), (77, "start"), (0,), (77,)]
    told = both.same(lambda engine: _own(answers(engine, model, *requests, **more)))
    assert [isinstance(each, dict) for each in told] == [False, False, False, True]


@pytest.mark.rule("4.6-iterative")
def test_a_clients_last_request_of_an_iterative_sequence(both: Engines) -> None:
    requests = [(7, "start end"), (7, ""), (7, "start")]
    both.same(lambda engine: _own(answers(engine, "iterative", *requests)))


@pytest.mark.deviation("iterative-end")
def test_an_iterative_sequence_that_a_client_ends(both: Engines) -> None:
    told = attempt(both.stub, "iterative_oldest", 7, "start end")
    assert deviations.ITERATIVE_END.server in told["error"]


@pytest.mark.rule("4.6-corrid-text")
@pytest.mark.newer("25.01", "core src/infer_request.cc, ValidateCorrelationId")
def test_correlation_ids_of_the_wrong_kind(tmp_path: Path) -> None:
    models = {"text": batching(corrid("TYPE_STRING")), "number": batching(corrid("TYPE_INT32"))}
    for name, config in models.items():
        write_models(tmp_path, {name: MODEL}, config)
    with StubEngine(tmp_path) as stub:
        told = answers(
            stub, "text", ("abc", "start"), ("abc", "end"), (7, "start"), ("", ""), rows=0
        )
        assert [each[2][0][4][0] for each in told[:2]] == [["CORRID", 13, [1], ["abc"]]] * 2
        assert told[2]["error"] == (
            "[request id: <id_unknown>] sequence batching control 'CORRID' data-type is 'UINT64', "
            "but model 'text' expects 'BYTES'"
        )
        told += answers(stub, "number", ("abc", "start"), (7, "start end"), rows=0)
        assert "data-type is 'BYTES', but model 'number' expects 'INT32'" in told[4]["error"]
        assert told[5][2][0][0] == 7


def _counts(engine: Engine, model: str) -> dict[str, int]:
    (stats,) = engine.statistics(model)["model_stats"]
    counts = {name: each["count"] for name, each in stats["inference_stats"].items()}
    for each in stats["batch_stats"]:
        counts[f"batches of {each['batch_size']}"] = each["compute_infer"]["count"]
    return {**counts, "rows": stats["inference_count"], "executions": stats["execution_count"]}


def _own(told: list[Any]) -> list[Any]:
    """Of each answer what the model has got of that request.

    Whether an iterative sequence has left its slot by the time the next one comes, is chance.
    """
    return [each if isinstance(each, dict) else each[2][each[1]] for each in told]


def _by_use(told: list[Any]) -> list[Any]:
    """Instances numbered as they come: which one the real server has first, is chance."""
    numbers: dict[str, int] = {}
    return [
        each if isinstance(each, dict) else [numbers.setdefault(each[0], len(numbers)), *each[1:]]
        for each in told
    ]
