"""Requests from workers that a model has forked.

On the server such a worker shares the memory by which its parent talks to the server.
"""

from __future__ import annotations

import numpy as np
import pytest
from asking import bls
from comparing import Engines
from probing import expressions

from triton_stub.engines.engine import Engine

# Newer Pythons warn of forks beside threads, of which the real server's processes have some, too.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
    # JAX, if some other test has imported it.
    pytest.mark.filterwarnings("ignore:.*fork:RuntimeWarning"),
]

# What a child found out comes by a pipe; it must end without what its parent does at its own end.
FORKED = """
def forked(work):
    there, here = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            told = repr(work())
        except BaseException as error:
            told = f"{type(error).__name__}: {error}"
        try:
            os.write(here, told.encode())
        finally:
            os._exit(0)
    os.close(here)
    with open(there) as pipe:
        told = pipe.read()
    os.waitpid(child, 0)
    return told

"""
LINES = """
# 3.6-forked
forked(lambda: seen(ask("told(1)").exec()))
forked(lambda: [seen(ask(f"told({n})").exec()) for n in range(20)])
forked(lambda: [seen(ask("1 / 0").exec()), seen(ask("1", model="no").exec()), seen(ask("1", outputs=["BAD"]).exec())])
q = ask("told(by_name(request, 'X').as_numpy())", tensors=[T('X', np.arange(3, dtype=np.float32))]); forked(lambda: seen(q.exec())), seen(q.exec())
forked(lambda: seen(ask("R([T('OUT', np.arange(6.).reshape(2, 3)), T('TOLD', np.array([b'a', b''], object))])").exec()))
forked(lambda: seen(ask("R([T('OUT', np.zeros((300, 300)))])").exec())[0][2])
forked(lambda: forked(lambda: seen(ask("told(1)").exec())))
forked(lambda: [seen(x) for x in ask("told(1)").exec(True)])
forked(lambda: [seen(x) for x in ask("send(told(1), 1)", "called_decoupled").exec(True)])
forked(lambda: [seen(x) for x in ask("send(flags=1)", "called_decoupled").exec(True)])
forked(lambda: [seen(x) for x in ask("1", model="no").exec(True)])
forked(lambda: (pb_utils.get_model_dir()[-7:], by_name(request, 'X').as_numpy(), request.parameters(), T('a', np.ones(1)).as_numpy()))
async def both(): return await asyncio.gather(*[ask(f'told({n})').async_exec() for n in (1, 2)])\nforked(lambda: [seen(r) for r in asyncio.run(both())])
x = []; ts = [threading.Thread(target=lambda: x.append(forked(lambda: seen(ask("told(1)").exec())))) for _ in range(3)]; [t.start() for t in ts]; [t.join() for t in ts]; x
from multiprocessing import get_context; here, there = get_context('fork').Pipe(); p = get_context('fork').Process(target=lambda: there.send(seen(ask("told(1)").exec()))); p.start(); x = here.recv(); p.join(); (x, p.exitcode)
"""  # noqa: E501 - a line is a case


@pytest.mark.parametrize("line", expressions(LINES))
def test_a_line_in_a_model(engines: Engines, line: str) -> None:
    x = np.arange(3, dtype=np.float32)
    code = FORKED + line.replace("\\n", "\n")
    engines.same(lambda engine: bls(engine, code, X=x, parameters={"p": 1}))


@pytest.mark.rule("3.6-forked")
def test_a_process_that_is_not_forked_knows_nothing_of_the_server(engines: Engines) -> None:
    code = (
        "import subprocess\n"
        "run = [sys.executable, '-c', 'import triton_python_backend_utils']\n"
        "subprocess.run(run, capture_output=True).stderr.decode().splitlines()[-1]"
    )
    assert "ModuleNotFoundError" in engines.same(lambda engine: bls(engine, code))


@pytest.mark.deviation("forked-worker")
@pytest.mark.rule("3.6-forked")
@pytest.mark.parametrize(
    "call",
    [
        "list(ask('send(told(1)); send(flags=1)', 'called_decoupled').exec(True))",
        "ask('send(told(1)); send(flags=1)', 'called_decoupled').exec(True).cancel()",
        "request.is_cancelled()",
        "pb_utils.is_model_ready('add')",
        "pb_utils.MetricFamily('n', 'd', pb_utils.MetricFamily.COUNTER)",
    ],
)
def test_what_a_worker_would_wait_for_for_ever(stub: Engine, call: str) -> None:
    told = bls(stub, f"{FORKED}forked(lambda: {call})")
    assert told[1:].startswith("TritonModelException: ")
    assert "the real server waits for ever" in told


@pytest.mark.deviation("forked-sender")
@pytest.mark.rule("3.6-forked")
def test_a_worker_answers_by_the_sender(stub: Engine) -> None:
    answer = "request.get_response_sender().send(R(), 1)"
    assert "the real server sends the answer" in bls(stub, f"{FORKED}forked(lambda: {answer})")
