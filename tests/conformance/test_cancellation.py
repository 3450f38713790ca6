"""Requests whose client does not want the answer any more."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from broken_models import both_engines
from comparing import Engines
from probing import wait_for_log
from programs import both_with_programs, run, sent, write_programs
from tritonclient.grpc import InferenceServerClient, InferInput

from triton_stub import deviations
from triton_stub.engines.engine import Engine
from triton_stub.engines.native import NativeEngine
from triton_stub.engines.stub import StubEngine

# Tells when it begins, and waits until it is cancelled; the last of its own log says so.
WAIT = """
pb_utils.Logger.log_info("begun {0}")
until = time.monotonic() + {1}
while not request.is_cancelled() and time.monotonic() < until:
    time.sleep(0.01)
self.kept["seen"] = request.is_cancelled(), sender.is_cancelled(), request.is_cancelled()
"""
LOGGED = '"begun {}"'
# Executes one request until there is a file, and keeps who was executed, and cancelled by then.
QUEUE = """
self.kept.setdefault("log", []).append([(r.request_id(), r.is_cancelled()) for r in requests])
if self.count == 1:
    pb_utils.Logger.log_info("begun")
    import os
    while not os.path.exists({!r}):
        time.sleep(0.01)
return [response(r.request_id()) for r in requests]
"""


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    folder = tmp_path_factory.mktemp("cancellation")
    with both_with_programs(folder, "plain", "decoupled", "iterative") as engines:
        yield engines


def send(engine: Engine, kind: str, program: str, request_id: str = "") -> Callable[[], None]:
    """Send a request, now; what is returned cancels it."""
    if isinstance(engine, StubEngine):
        inputs = {"CODE": sent(program, kind)}
        return engine.model(kind).infer(inputs=inputs, request_id=request_id).cancel
    assert isinstance(engine, NativeEngine)
    array = sent(program, kind)
    code = InferInput("CODE", list(array.shape), "BYTES").set_data_from_numpy(array)
    client = InferenceServerClient(engine.grpc_url)
    call = client.async_infer(kind, [code], request_id=request_id, callback=lambda *_, **__: None)
    return lambda: call.cancel() and None


@pytest.mark.rule("3.8-seen", "3.8-answered", "2.5-is-cancelled")
@pytest.mark.parametrize("ending", ["return [response(1)]", "return [error('cancelled')]"])
def test_a_model_sees_that_it_is_cancelled(programs: Engines, ending: str) -> None:
    program = WAIT.format(ending.split("(", maxsplit=1)[0], 60) + ending

    def body(engine: Engine) -> Any:
        cancel = send(engine, "plain", program)
        wait_for_log(engine, LOGGED.format(ending.split("(", maxsplit=1)[0]))
        cancel()
        return run(engine, "plain", "return [response(self.kept.pop('seen'))]")

    assert programs.same(body) == [[{"OUT": ["(True, True, True)"]}, True]]


@pytest.mark.rule("3.8-seen", "3.8-answered")
def test_a_stream_that_is_closed(programs: Engines) -> None:
    program = "sender.send(response(0))\n" + WAIT.format("stream", 60) + (
        "sender.send(response(1))\nsender.send(flags=1)"
    )  # fmt: skip

    def body(engine: Engine) -> Any:
        stream = engine.stream("decoupled", CODE=sent(program, "decoupled"))
        first = next(stream)
        stream.close()
        return first["OUT"].tolist(), run(  # type: ignore[index]
            engine, "decoupled", "sender.send(response(self.kept.pop('seen')), 1)"
        )

    programs.same(body)


def queued(engine: Engine, kind: str, door: Path, ids: str) -> Any:
    """Send a request that is executed for a while, and others behind it; those in capitals are
    cancelled before it is done. What was executed, and counted as failed."""
    program = QUEUE.format(str(door))
    send(engine, kind, program, "first")
    wait_for_log(engine, LOGGED.removesuffix(' {}"') + '"')
    cancels = []
    for request_id in ids:
        cancels.append(send(engine, kind, program, request_id))
        time.sleep(0.1)
    for request_id, cancel in zip(ids, cancels, strict=True):
        if request_id.isupper():
            cancel()
    time.sleep(0.5)
    door.touch()
    told = run(engine, kind, "return [response(*self.kept['log'])]", request_id="last")
    (model,) = engine.statistics(kind)["model_stats"]
    return told, model["inference_stats"]["fail"]["count"]


@pytest.mark.rule("3.8-queued", "4.5-prefetched")
@pytest.mark.parametrize("kind", ["plain", "single"])
def test_requests_that_are_cancelled_in_the_queue(tmp_path: Path, kind: str) -> None:
    # Without dynamic batching all are executed. With it, those that it has taken out of the
    # queue before; here it holds two batches of one request each.
    write_programs(tmp_path / "models", [kind])
    with both_engines(tmp_path / "models") as engines:
        engines.same(lambda engine: queued(engine, kind, tmp_path / engine.name, "AbCdE"))


@pytest.mark.rule("3.7-again", "3.8-queued")
def test_a_request_that_is_cancelled_does_not_come_back(programs: Engines) -> None:
    program = (
        "self.kept['n'] = self.kept.get('n', 0) + 1\npb_utils.Logger.log_info('iterates')\n"
        "while not request.is_cancelled():\n    time.sleep(0.01)\n"
        "request.set_release_flags(AGAIN)\nreturn [None]"
    )

    def body(engine: Engine) -> Any:
        cancel = send(engine, "iterative", program)
        wait_for_log(engine, '"iterates"')
        cancel()
        return run(engine, "iterative", "return [response(self.kept['n'])]")

    assert programs.same(body) == [[{"OUT": ["1"]}, True]]


@pytest.mark.deviation("cancelled-after-end")
@pytest.mark.rule("2.5-is-cancelled")
@pytest.mark.parametrize("asked", ["request", "sender"])
def test_whether_an_answered_request_was_cancelled(programs: Engines, asked: str) -> None:
    program = f"sender.send(response(1), 1)\nself.kept['told'] = attempt({asked}.is_cancelled)"
    run(programs.stub, "plain", program)
    ((told, _),) = run(programs.stub, "plain", "return [response(self.kept.pop('told'))]")
    assert deviations.CANCELLED_AFTER_END.server in told["OUT"][0]
