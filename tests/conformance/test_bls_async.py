"""Requests of a model's own with ``async_exec``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from asking import bls
from broken_models import CONFIG, both_engines, write_models
from comparing import Engines
from probing import expressions

from triton_stub.engines.engine import Engine
from triton_stub.errors import InferenceError

LINES = """
# 3.6-async-future
f = ask("told(1)").async_exec(); (type(f), seen(await f), f.done())
f = ask("told(1)").async_exec(); (f.get_loop() is asyncio.get_running_loop(), type(await f))
[seen(r) for r in await asyncio.gather(*[ask(f"told({n})").async_exec() for n in range(8)])]
seen(await asyncio.create_task(asyncio.wait_for(ask("told(1)").async_exec(), 60)))
f = ask("told(1)").async_exec(); f.cancel(); f.cancelled()
done, waiting = await asyncio.wait([ask("told(1)").async_exec() for _ in range(3)]); ([seen(f.result()) for f in done], waiting)
seen(ask("told(1)").exec())
# 3.6-never-raises
[seen(r) for r in await asyncio.gather(ask("1 / 0").async_exec(), ask("1", model="no").async_exec(), ask("1", model="called_decoupled").async_exec())]
# 3.6-iterator
r = await ask("told(1)").async_exec(decoupled=True); (type(r), [seen(x) for x in r])
r = await ask("1", model="no").async_exec(True); [seen(x) for x in r]
rs = await asyncio.gather(*[ask(f"send(told({n})); send(told(-{n})); send(flags=1)", "called_decoupled").async_exec(True) for n in range(3)]); [[seen(x) for x in r] for r in rs]
rs = [await ask("1", model="no").async_exec(True), await ask("2", model="no").async_exec(True)]; [[seen(x) for x in r] for r in rs]
# 3.6-scheduler
[seen(r) for r in await asyncio.gather(*[ask("R([T('TOLD', np.full((1, 1), str(len(requests)).encode(), object))])", model="called_batched").async_exec() for _ in range(3)])]
# 1.4-exec
ask("1").async_exec(None)
ask("1").async_exec(decopled=True)
"""  # noqa: E501 - a line is a case


@pytest.mark.parametrize("line", expressions(LINES))
def test_a_line_in_an_async_model(engines: Engines, line: str) -> None:
    engines.same(lambda engine: bls(engine, line, model="probe_async"))


@pytest.mark.rule("3.6-async-no-loop")
def test_without_a_loop(engines: Engines) -> None:
    told = engines.same(lambda engine: bls(engine, "ask('told(1)').async_exec()"))
    assert told == "builtins.RuntimeError: no running event loop"


@pytest.mark.rule("3.6-async-future", "3.6-when")
def test_in_a_loop_of_the_models_own(engines: Engines) -> None:
    code = (
        "async def both():\n"
        "    return await asyncio.gather(*[ask(f'told({n})').async_exec() for n in (1, 2)])\n"
        "[seen(r) for r in asyncio.run(both())]"
    )
    engines.same(lambda engine: bls(engine, code))


DECOUPLED = """
import asyncio
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    async def execute(self, requests):
        for request in requests:
            asked = [
                pb_utils.InferenceRequest(
                    inputs=request.inputs(), requested_output_names=["OUT"], model_name=name
                )
                for name in ("one", "two", "none")
            ]
            sender = request.get_response_sender()
            for answer in await asyncio.gather(*[each.async_exec() for each in asked]):
                sender.send(pb_utils.InferenceResponse(answer.output_tensors(), answer.error()))
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""
PLAIN = """
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        out = pb_utils.Tensor("OUT", np.full(1, {number}, np.float32))
        return [pb_utils.InferenceResponse([out]) for _ in requests]
"""


@pytest.mark.rule("3.6-async-decoupled")
def test_in_a_decoupled_model(tmp_path: Path) -> None:
    decoupled = CONFIG + "model_transaction_policy { decoupled: true }"
    write_models(tmp_path, {"caller": DECOUPLED}, decoupled)
    write_models(tmp_path, {"one": PLAIN.format(number=1), "two": PLAIN.format(number=2)})

    def body(engine: Engine) -> list[object]:
        return [
            str(each) if isinstance(each, InferenceError) else dict(each)
            for each in engine.stream("caller", IN=np.zeros(1, np.float32))
        ]

    with both_engines(tmp_path) as engines:
        assert len(engines.same(body)) == 4
