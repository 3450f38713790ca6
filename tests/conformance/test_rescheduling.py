"""Requests that come back to ``execute``: iterative sequences."""

from __future__ import annotations

import ast
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from broken_models import both_engines
from comparing import Engines
from observed import settled
from probing import wait_for_log
from programs import CONFIG, ITERATIVE, both_with_programs, run, sent, write_programs
from tritonclient.grpc import InferenceServerClient, InferInput

from triton_stub import deviations
from triton_stub.engines.engine import Engine
from triton_stub.engines.stub import StubEngine
from triton_stub.errors import InferenceError

SEEN = (
    "seen = self.kept.setdefault('seen', [])\n"
    "seen.append((request.correlation_id(), request.flags(), request.request_id(), "
    "request.parameters(), [t.name() for t in request.inputs()], "
    "sorted(request.requested_output_names()), len(requests)))\n"
)
TIMES = "n = self.kept['n'] = self.kept.get('n', 0) + 1\nif n < {}:\n"
FORGET = "told = self.kept.pop('seen')\nself.kept.clear()\n"
AGAIN = "    request.set_release_flags({})\n    return {}\n"
PROGRAMS = {
    "once": SEEN + FORGET + "return [response(*told)]",
    "thrice": SEEN + TIMES.format(3) + AGAIN.format("AGAIN", "[None]") + FORGET
    + "return [response(*told)]",
    "none": SEEN + TIMES.format(2) + AGAIN.format("AGAIN", "None") + FORGET
    + "return [response(*told)]",
    "more_flags": SEEN + TIMES.format(3) + AGAIN.format(7, "[None]") + FORGET
    + "return [response(*told)]",
    "sent": SEEN + TIMES.format(3) + AGAIN.format("AGAIN", "[None]") + FORGET
    + "sender.send(response(*told), 1)",
    "response_too_early": "request.set_release_flags(AGAIN)\nreturn [response(1)]",
    "exception": TIMES.format(2) + AGAIN.format("AGAIN", "[None]")
    + "self.kept.clear()\nrequest.set_release_flags(AGAIN)\nraise ValueError('boom')",
    "new_objects": (
        "first = self.kept.setdefault('first', (request, sender))\n"
        + TIMES.format(2) + AGAIN.format("AGAIN", "[None]")
        + "told = first[0] is request, first[1] is sender, first[0].flags(), request.flags()\n"
        "self.kept.clear()\nreturn [response(*told)]"
    ),
}  # fmt: skip
DECOUPLED = {
    "one_each": SEEN + "sender.send(response(len(seen)))\n" + TIMES.format(3)
    + AGAIN.format("AGAIN", "None") + FORGET + "sender.send(response(*told), 1)",
    "old_sender": "self.kept.setdefault('old', sender)\n" + TIMES.format(2)
    + AGAIN.format("AGAIN", "None")
    + "self.kept['old'].send(response('old'))\nsender.send(response('new'), 1)\nself.kept.clear()",
    "exception": TIMES.format(2) + AGAIN.format("AGAIN", "None")
    + "self.kept.clear()\nraise ValueError('boom')",
}  # fmt: skip
BATCHES = """
seen = [(r.correlation_id(), r.flags(), r.request_id(), len(r.inputs())) for r in requests]
self.kept.setdefault('log', []).append(seen)
if self.count == 1:
    time.sleep(1.5)
out = []
for r in requests:
    key = r.correlation_id()
    n = self.kept[key] = self.kept.get(key, 0) + 1
    if n < 2 + key % 3:
        r.set_release_flags(AGAIN)
        out.append(None)
    else:
        out.append(response(key, n, r.request_id()))
return out
"""


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    folder = tmp_path_factory.mktemp("rescheduling")
    kinds = ("iterative", "iterative_decoupled", "direct", "oldest")
    with both_with_programs(folder, *kinds) as engines:
        yield engines


@pytest.mark.rule("3.7-again")
@pytest.mark.parametrize("kind", ["iterative", "direct", "oldest"])
def test_several_requests_that_come_back(programs: Engines, kind: str) -> None:
    """The first case of this file: its models have not been asked yet."""

    def ask(engine: Engine, number: int) -> Any:
        return run(engine, kind, BATCHES, request_id=f"r{number}")

    def body(engine: Engine) -> Any:
        # Numbered in the order in which they come, which is why they do not come at once. A slot
        # that is free between two that are not is filled with a null request.
        with ThreadPoolExecutor(6) as pool:
            answers = []
            for number in range(6):
                answers.append(pool.submit(ask, engine, number))
                time.sleep(0.1)
        answered = [answer.result() for answer in answers]
        ((log, _),) = run(engine, kind, "return [response(*self.kept['log'])]")
        if kind == "oldest":
            # Which of them it takes together, depends on the moment.
            executed = [one for batch in log["OUT"] for one in ast.literal_eval(batch)]
            return answered, sorted(executed)
        return answered, log

    def counts(engine: Engine) -> Any:
        (model,) = engine.statistics(kind)["model_stats"]
        times = {name: count["count"] for name, count in model["inference_stats"].items()}
        if kind == "oldest":
            return times
        sizes = [batch["batch_size"] for batch in model["batch_stats"]]
        return times, model["execution_count"], sizes

    programs.same(body)
    settled(programs, counts)


@pytest.mark.rule("3.7-again", "3.7-correlation-id", "3.7-failed-batch", "trap-27")
def test_a_request_that_comes_back(programs: Engines) -> None:
    def body(engine: Engine) -> Any:
        request: dict[str, Any] = {"request_id": "x7", "parameters": {"p": 1}, "outputs": ["OUT"]}
        return [run(engine, "iterative", program, **request) for program in PROGRAMS.values()]

    told = programs.same(body)
    assert [len(responses) for responses in told] == [1] * len(PROGRAMS)


@pytest.mark.rule("3.7-decoupled")
def test_a_decoupled_request_that_comes_back(programs: Engines) -> None:
    def body(engine: Engine) -> Any:
        return [run(engine, "iterative_decoupled", program) for program in DECOUPLED.values()]

    programs.same(body)


@pytest.mark.rule("3.7-again")
def test_a_batch_of_one_only(programs: Engines) -> None:
    code = np.repeat(sent("return []", "direct"), 2, axis=0)

    def body(engine: Engine) -> Any:
        return engine.infer("direct", CODE=code)

    assert "batch-size 1" in programs.same(body)["error"]


@pytest.mark.deviation("idle-sequence")
@pytest.mark.rule("3.7-again")
def test_a_request_that_comes_back_too_late(tmp_path: Path) -> None:
    write_programs(tmp_path, ["iterative"])
    text = ITERATIVE.replace("60000000", "50000")
    (tmp_path / "iterative" / "config.pbtxt").write_text(CONFIG + text)
    program = "time.sleep(0.5)\nrequest.set_release_flags(AGAIN)\nreturn [None]"
    logged = "Failed to release request: inference request for sequence 1 to model 'iterative' must"
    with both_engines(tmp_path, options=["--exit-timeout-secs=1"]) as (stub, native):
        (told,) = run(stub, "iterative", program)
        assert deviations.IDLE_SEQUENCE.server in told
        assert logged in stub.log()
        with InferenceServerClient(native.grpc_url) as client:
            answers: list[Any] = []
            code = InferInput("CODE", [1], "BYTES").set_data_from_numpy(sent(program, "iterative"))
            call = client.async_infer(
                "iterative", [code], callback=lambda result, _: answers.append(result)
            )
            wait_for_log(native, logged)
            # It would wait for ever.
            assert answers == []
            call.cancel()


@pytest.mark.deviation("rescheduled-after-end")
@pytest.mark.parametrize("kind", ["iterative", "iterative_decoupled"])
def test_a_request_that_comes_back_after_its_end(tmp_path: Path, kind: str) -> None:
    program = "request.set_release_flags(AGAIN)\nsender.send(response(1), 1)"
    write_programs(tmp_path, [kind])
    with StubEngine(tmp_path) as stub:
        assert run(stub, kind, program) == [({"OUT": ["1"]}, True)]
        (later,) = run(stub, kind, "sender.send(response(1), 1)")
        assert deviations.RESCHEDULED_AFTER_END.server in later
        assert deviations.RESCHEDULED_AFTER_END.server in stub.log()


def test_requests_that_are_to_be_executed_together(programs: Engines) -> None:
    assert isinstance(programs.stub, StubEngine)
    model = programs.stub.model("iterative")
    inputs = {"CODE": sent("return [response(1)]", "iterative")}
    with pytest.raises(InferenceError, match="Send them one by one"):
        model.execute([inputs, inputs])
