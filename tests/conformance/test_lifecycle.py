"""The life of an instance: imported, made, initialized, executed one by one, finalized."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import probing
import pytest
from broken_models import both_engines, comparable, reasons, write_models
from comparing import Engines, outcome
from probing import log_line, probe, probe_stream

from triton_stub.engines.engine import Engine
from triton_stub.engines.native import NativeEngine
from triton_stub.errors import InferenceError

CONFIG = """
backend: "python"
input { name: "IN" data_type: TYPE_STRING dims: [ 1 ] }
output { name: "OUT" data_type: TYPE_STRING dims: [ 1 ] }
"""
TWO = CONFIG + "instance_group { count: 2 }"
DECOUPLED = CONFIG + "model_transaction_policy { decoupled: true }"
BATCHES = CONFIG + (
    "max_batch_size: 4 dynamic_batching { "
    "preferred_batch_size: [ 4 ] max_queue_delay_microseconds: 60000000 }"
)
HEAD = """import json, os, time
import numpy as np
import triton_python_backend_utils as pb_utils

SEEN = []

def log(text):
    name = os.path.basename(os.path.dirname(os.path.dirname(__file__)))
    pb_utils.Logger.log_info(f"{name}: {text}")

def given(request):
    return request.inputs()[0].as_numpy().flatten()[0].decode()

def out(value):
    value = np.array([json.dumps(value).encode()], object)
    return pb_utils.InferenceResponse([pb_utils.Tensor("OUT", value)])

def together(folder, count):
    # Comes back when as many executions are in here at once, or never will be.
    mine = os.path.join(folder, f"{os.getpid()}-{time.monotonic_ns()}")
    open(mine, "w").close()
    until = time.monotonic() + (30 if count > 1 else 0.2)
    while len(os.listdir(folder)) < count and time.monotonic() < until:
        time.sleep(0.005)
    most = len(os.listdir(folder))
    time.sleep(0.05)
    if count == 1:
        os.remove(mine)
    return most

class TritonPythonModel:
"""
# Goes on when the file is there that the request names.
WAITS = (
    "    def execute(self, requests):\n"
    "        log('execute begins')\n"
    "        while not os.path.exists(given(requests[0])):\n"
    "            time.sleep(0.005)\n"
    "        log('execute ends')\n"
    "        return [out('done')]\n"
)
FINE = "    def execute(self, requests):\n        return [out('fine') for request in requests]\n"
FINALIZE = "    def finalize(self):\n        log('finalize')\n"
# A loop that has nothing to do would not notice at once that it is stopped.
LOOPS = (
    "    async def execute(self, requests):\n"
    "        import asyncio\n"
    "        async def tick():\n"
    "            while True:\n"
    "                await asyncio.sleep(0.001)\n"
    "        self.loop = asyncio.get_running_loop()\n"
    "        self.task = self.loop.create_task(tick())\n"
    "        return [out('fine')]\n"
    "    def finalize(self):\n"
    "        until = time.monotonic() + 30\n"
    "        while self.loop.is_running() and time.monotonic() < until:\n"
    "            time.sleep(0.005)\n"
    "        log(f'loop runs: {self.loop.is_running()}')\n"
)
BLS = (
    "    def finalize(self):\n"
    "        request = pb_utils.InferenceRequest(\n"
    "            model_name='m', inputs=[], requested_output_names=[])\n"
    "        try:\n"
    "            request.exec()\n"
    "        except pb_utils.TritonModelException as error:\n"
    "            log(str(error))\n"
)
MODELS: dict[str, tuple[str, str]] = {
    "no_initialize": (HEAD + FINE, CONFIG),
    "initialize_returns": (
        HEAD + "    def initialize(self, args):\n        return 3\n" + FINE,
        CONFIG,
    ),
    "imports": (
        HEAD + "    def initialize(self, args):\n        SEEN.append(args['model_instance_name'])\n"
        "    def execute(self, requests):\n        return [out(SEEN)]\n",
        TWO,
    ),
    "together": (
        HEAD + "    def execute(self, requests):\n"
        "        return [out(together(given(requests[0]), 2))]\n",
        TWO,
    ),
    "alone": (
        HEAD + "    def execute(self, requests):\n"
        "        return [out(together(given(requests[0]), 1))]\n",
        CONFIG,
    ),
    "generates": (HEAD + "    def execute(self, requests):\n        yield out(1)\n", CONFIG),
    "mixed_up": (
        HEAD + "    def execute(self, requests):\n"
        "        told = [given(request) for request in requests]\n"
        "        return [out([mine, told]) for mine in told]\n",
        BATCHES,
    ),
    "decoupled_raises": (
        HEAD + "    def execute(self, requests):\n"
        "        senders = [request.get_response_sender() for request in requests]\n"
        "        for number in range(int(given(requests[0]))):\n"
        "            senders[0].send(out(number))\n"
        "        if given(requests[0]) == '2':\n"
        "            senders[0].send(flags=1)\n"
        "        raise ValueError('boom')\n",
        DECOUPLED,
    ),
}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lifecycle")
    for name, (model, config) in MODELS.items():
        write_models(folder, {name: model}, config)
    return folder


@pytest.fixture(scope="module")
def own(repository: Path) -> Any:
    with both_engines(repository) as engines:
        yield engines


def ask(engine: Engine, model: str, text: object = "") -> Any:
    given = np.array([str(text).encode()], object)
    return json.loads(engine.infer(model, IN=given)["OUT"].flatten()[0])


@pytest.mark.rule("3.1-constructor")
@pytest.mark.parametrize("model", ["no_initialize", "initialize_returns"])
def test_initialize_is_optional_and_its_result_ignored(own: Engines, model: str) -> None:
    assert own.same(lambda engine: ask(engine, model)) == "fine"


@pytest.mark.rule("3.1-instance-import")
def test_each_instance_has_a_module_of_its_own(own: Engines) -> None:
    def all_seen(engine: Engine) -> list[str]:
        # Which instance answers is the server's business: both do, sooner or later.
        seen: set[str] = set()
        while len(seen) < 2:
            with ThreadPoolExecutor(4) as pool:
                seen |= {
                    json.dumps(told) for told in pool.map(lambda _: ask(engine, "imports"), "8" * 8)
                }
        return sorted(seen)

    assert own.same(all_seen) == ['["imports_0_0"]', '["imports_0_1"]']


@pytest.mark.rule("3.1-parallel-instances", "3.1-serial-execute")
@pytest.mark.parametrize(("model", "most"), [("together", 2), ("alone", 1)])
def test_instances_run_side_by_side_and_each_one_at_a_time(
    own: Engines, tmp_path: Path, model: str, most: int
) -> None:
    def at_once(engine: Engine) -> list[int]:
        folder = tmp_path / engine.name
        folder.mkdir()
        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(lambda _: ask(engine, model, folder), range(2)))

    assert own.same(at_once) == [most, most]


@pytest.mark.rule("3.4-generator")
def test_an_execute_that_yields(own: Engines, repository: Path) -> None:
    # Which of two complaints it is, is a matter of Python's version: up to 3.11 a generator
    # passes for a coroutine.
    def error(engine: Engine) -> str:
        with pytest.raises(InferenceError) as caught:
            ask(engine, "generates")
        text = probing.comparable(comparable(caught.value.message, repository))
        return text.partition("\n\nAt:")[0]

    own.same(error)


@pytest.mark.rule("3.4-response-order", "3.4-list-of-requests")
def test_answers_go_to_their_requests(own: Engines) -> None:
    def four(engine: Engine) -> list[bool]:
        def one(number: int) -> list[Any]:
            given = np.array([[b"%d" % number]], object)
            told: list[Any] = json.loads(engine.infer("mixed_up", IN=given)["OUT"].flatten()[0])
            return told

        with ThreadPoolExecutor(4) as pool:
            told = list(pool.map(one, range(4)))
        return [mine == str(number) and len(all_) == 4 for number, (mine, all_) in enumerate(told)]

    assert own.same(four) == [True] * 4


@pytest.mark.rule("3.4-decoupled-exception", "3.4-decoupled-exception-late")
@pytest.mark.parametrize("sent", [0, 1, 2])
def test_a_decoupled_execute_that_raises(own: Engines, repository: Path, sent: int) -> None:
    def answers(engine: Engine) -> list[Any]:
        given = np.array([b"%d" % sent], object)
        return [
            comparable(answer.message, repository)
            if isinstance(answer, InferenceError)
            else {name: answer[name].tolist() for name in answer}
            for answer in engine.stream("decoupled_raises", IN=given)
        ]

    own.same(answers)


@pytest.mark.rule("3.10-state")
def test_state_persists_between_batches(engines: Engines) -> None:
    def three(engine: Engine) -> list[str]:
        probe(engine, "np.random.seed(7); self.kept['n'] = 0; import random; random.seed(7)")
        line = (
            "import random; self.kept['n'] += 1; self.kept['n'], np.random.rand(), random.random()"
        )
        return [probe(engine, line) for _ in range(3)]

    assert len(set(engines.same(three))) == 3


@pytest.mark.rule("3.10-background")
@pytest.mark.parametrize(
    "own",
    [
        "t = threading.Thread(target=x.append, args=['target'])",
        "t = threading.Thread(); t.run = lambda: x.append('assigned')",
        "t = threading.Thread(target=x.append, args=['target']); inner = t.run\n"
        "t.run = lambda: (x.append('wrapper'), inner())",
    ],
    ids=["target", "assigned", "wrapped"],
)
def test_a_thread_runs_its_own_run(engines: Engines, own: str) -> None:
    code = f"x = []; {own}\nt.start(); t.join(); (x, 'run' in vars(t), t.daemon)"
    assert engines.same(lambda engine: probe(engine, code)).startswith("(['")


@pytest.mark.rule("3.4-async-decoupled")
def test_decoupled_probes_answer_out_of_order(engines: Engines) -> None:
    # A sender that is kept is answered by a later request.
    def later(engine: Engine) -> Any:
        keep = "self.kept['sender'] = sender; silent = True"
        answer = "self.kept.pop('sender').send(R([T('OUT', np.ones(1))]), 1)"
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(probe_stream, engine, keep)
            until = time.monotonic() + 60
            while probe_stream(engine, "'sender' in self.kept") == [{"TOLD": "False"}]:
                assert time.monotonic() < until
            probe_stream(engine, answer)
            return first.result()

    engines.same(later)


# Ends

FINALIZE = "    def finalize(self):\n        log('finalize')\n"
ENDS: dict[str, tuple[str, str]] = {
    "two": (HEAD + FINE + FINALIZE, TWO),
    "one": (HEAD + FINE + FINALIZE, CONFIG),
    "none": (HEAD + FINE, CONFIG),
    "fails": (
        HEAD + "    def initialize(self, args):\n        raise ValueError\n" + FINALIZE,
        CONFIG,
    ),
    "loops": (HEAD + LOOPS, CONFIG),
    "asks": (HEAD + FINE + BLS, CONFIG),
    "raises": (HEAD + FINE + "    def finalize(self):\n        raise ValueError('boom')\n", CONFIG),
    "waits": (HEAD + WAITS + FINALIZE, CONFIG),
}


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> list[list[str]]:
    """The logs of both engines, stopped while a request is being executed."""
    folder = tmp_path_factory.mktemp("ends")
    for name, (model, config) in ENDS.items():
        write_models(folder / "models", {name: model}, config)
    with both_engines(folder / "models") as engines:
        return [log_until_the_end(engine, folder / engine.name) for engine in engines]


def log_until_the_end(engine: Engine, go: Path) -> list[str]:
    ask(engine, "loops")
    with ThreadPoolExecutor(2) as pool:
        answer = pool.submit(ask, engine, "waits", go)
        until = time.monotonic() + 60
        while "execute begins" not in engine.log():
            assert time.monotonic() < until
            time.sleep(0.01)
        stopped = pool.submit(engine.stop)
        threading.Event().wait(0.2)
        go.touch()
        assert answer.result() == "done"
        stopped.result()
    return [log_line(line) for line in engine.log().splitlines()]


@pytest.mark.rule("3.1-unload", "3.5-optional", "3.5-loop-first", "3.5-services")
@pytest.mark.parametrize(
    ("model", "count"),
    [("two", 2), ("one", 1), ("none", 0), ("fails", 0), ("loops", 1), ("asks", 1), ("waits", 3)],
)
def test_what_finalize_does(logs: list[list[str]], model: str, count: int) -> None:
    stub, native = ([line for line in log if f'"{model}: ' in line] for log in logs)
    assert stub == native
    assert len(stub) == count
    if model == "waits":  # work in flight ends before
        assert [line.rpartition(": ")[2] for line in stub] == [
            'execute begins"', 'execute ends"', 'finalize"'
        ]  # fmt: skip


@pytest.mark.rule("3.5-swallowed")
def test_what_finalize_raises_is_logged(logs: list[list[str]]) -> None:
    for log in logs:
        (line,) = (line for line in log if "boom" in line)
        assert line.startswith("I")
        assert "ValueError: boom\\n\\nAt:\\n" in line


CRASHES = {
    "later": HEAD + "    def execute(self, requests):\n        os._exit(7)\n" + FINALIZE,
    "at_once": HEAD + "    def initialize(self, args):\n        os._exit(7)\n",
}
STARTS = """
import sys
import numpy as np
from triton_stub import Server

with Server(sys.argv[1], model_control_mode="explicit", startup_models=[sys.argv[2]]) as server:
    server.model(sys.argv[2])(IN=np.array([b""], object))
"""


@pytest.mark.threads
@pytest.mark.deviation("crash")
@pytest.mark.rule("3.9-unhealthy", "3.9-no-restart", "3.5-crash", "3.3-hard-exit")
def test_a_process_that_ends(tmp_path: Path) -> None:
    write_models(tmp_path, CRASHES, CONFIG)
    # The server would wait half a minute for the process that is gone.
    options = ["--exit-on-error=false", "--exit-timeout-secs=1"]
    with NativeEngine(tmp_path, options=options) as native:
        for _ in range(2):
            told = outcome(lambda engine: ask(engine, "later"), native)
            assert told["error"] == "Stub process 'later_0' is not healthy."
        assert "Stub process 'at_once_0' is not healthy." in reasons(native)["at_once"]
    assert "finalize" not in native.log()
    for name in CRASHES:
        command = [sys.executable, "-c", STARTS, str(tmp_path), name]
        assert subprocess.run(command, check=False, timeout=60).returncode == 7


@pytest.mark.threads
@pytest.mark.rule("3.1.1-print")
def test_what_a_model_prints(engines: Engines, capfd: pytest.CaptureFixture[str]) -> None:
    for engine in engines:
        probe(engine, f"print('printed on {engine.name}', flush=True)")
    assert "printed on stub" in capfd.readouterr().out
    assert "printed on native" in engines.native.log()
