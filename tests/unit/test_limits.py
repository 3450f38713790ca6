"""No model keeps a program from going on, or from ending, and each that tries is named.

Whole programs run in processes of their own: that one ends is what is tested. Limits are tiny, and
what is measured is whether, never when.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from textwrap import dedent, indent

import numpy as np
import pytest
from cli_process import FREE_PORTS
from gates import GATES
from model_files import CONFIG, write_model

from triton_stub import InferenceError, LoadError, Server

pytest_plugins = ["pytester"]

CAP = 120.0  # seconds until a program is said to hang
HEAD = """
import asyncio
import multiprocessing
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import triton_python_backend_utils as pb_utils

HERE = Path(__file__).parent


def block():
    (HERE / "begun").touch()
    while not (HERE / "over").exists():
        time.sleep(0.1)


async def wait():
    while not (HERE / "over").exists():
        await asyncio.sleep(0.1)


class TritonPythonModel:
"""
EXECUTE = """
def execute(self, requests):
    return [
        pb_utils.InferenceResponse([pb_utils.Tensor("OUT", request.inputs()[0].as_numpy())])
        for request in requests
    ]
"""
DECOUPLED = CONFIG + "model_transaction_policy { decoupled: true }"
# Asks the model once, stops, tells what was said, and ends with a status that must get through.
PROGRAM = """
import sys
import threading

import numpy as np
from triton_stub import InferenceError, LoadError, Server
from triton_stub.testing.complaints import complaints

repository, limit, seconds = sys.argv[1:]
server = Server(repository, exit_on_error=False, **{limit: float(seconds)})
with server:
    for name, error in server.load_errors.items():
        print(f"{name}: {error}")
    try:
        for response in server.model("model").infer(inputs={"IN": np.ones(1, np.float32)}):
            print("answered")
    except InferenceError as error:
        print(error)
for complaint in complaints(str(server.log())):
    print(complaint)
print(threading.Thread.start.__module__, "the end", flush=True)
sys.exit(7)
"""


def model(*methods, before=""):
    """The text of a ``model.py`` with these methods, and with an ``execute`` if they have none."""
    body = "\n".join(dedent(method) for method in methods)
    if "execute" not in body:
        body += EXECUTE
    return HEAD.replace("class Tri", f"{dedent(before)}\nclass Tri") + indent(body, "    ")


def method(name, body, arguments="self", *, is_async=False):
    """The text of a method."""
    start = "async def" if is_async else "def"
    return f"{start} {name}({arguments}):\n{indent(dedent(body), '    ')}\n"


def initialize(body):
    return method("initialize", body, "self, args")


def execute(body, *, is_async=False):
    return method("execute", body, "self, requests", is_async=is_async)


@pytest.fixture(autouse=True)
def over(tmp_path):
    """In the end, whatever blocks in this process comes to its end."""
    yield
    for model_file in tmp_path.rglob("model.py"):
        (model_file.parent / "over").touch()
    for thread in threading.enumerate():
        if thread.name.startswith("model_"):
            thread.join(CAP)
            assert not thread.is_alive()


@pytest.fixture
def end(tmp_path):
    """Runs PROGRAM on a model; what it prints, once it has ended with its own status."""
    repository = tmp_path / "models"

    def run(code, limit, seconds=0.2, config=CONFIG):
        write_model(repository, code=code, config=config)
        arguments = [str(repository), f"{limit}_timeout", str(seconds)]
        process = subprocess.run(
            [sys.executable, "-c", PROGRAM, *arguments],
            stdout=subprocess.PIPE,
            text=True,
            check=False,
            timeout=CAP,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert "the end" in process.stdout
        assert process.returncode == 7
        return process.stdout

    return run


BLOCKS_WHILE_LOADING = {
    "import": (model(before="block()"), "Model 'model' is in import, at"),
    "auto_complete_config": (
        model("@staticmethod\n" + method("auto_complete_config", "block()", "config")),
        "Model 'model' is in auto_complete_config, at",
    ),
    "__init__": (model(method("__init__", "block()")), "Instance 'model_0' is in __init__, at"),
    "initialize": (model(initialize("block()")), "Instance 'model_0' is in initialize, at"),
}


@pytest.mark.parametrize("where", BLOCKS_WHILE_LOADING)
def test_a_model_that_does_not_load_in_time(end, where):
    code, told = BLOCKS_WHILE_LOADING[where]
    said = end(code, "load")
    assert "model: load failed for model 'model'" in said
    assert "the model was not loaded within 0.2 s: the real server waits for it for ever" in said
    assert told in said
    assert "in block\n    time.sleep(0.1)" in said


def test_a_model_that_does_not_load_does_not_keep_others_from_it(tmp_path):
    # Its import holds the lock of a name that all models have.
    gate = GATES[tmp_path.name]
    waits = f"\nimport gates\ngates.GATES[{tmp_path.name!r}].pass_through()\n"
    write_model(tmp_path, "a", waits + model(before="import helper"))
    (tmp_path / "a" / "1" / "helper.py").write_text("")
    write_model(tmp_path, "b", model())
    try:
        with Server(tmp_path, load_timeout=5, exit_on_error=False) as server:
            assert set(server.load_errors) == {"a"}
            assert server.model("b")(IN=np.ones(1, np.float32))["OUT"] == 1
            gate.opened.set()
            # It wakes up, and ends where it wants to go on.
            for thread in threading.enumerate():
                if thread.name.startswith("a "):
                    thread.join(CAP)
                    assert not thread.is_alive()
            assert server.model("b")(IN=np.ones(1, np.float32))["OUT"] == 1
    finally:
        gate.opened.set()


def test_several_instances_have_one_limit(tmp_path):
    code = model(initialize("if args['model_instance_name'].endswith('1'):\n    block()"))
    config = CONFIG + "instance_group { count: 2 }"
    write_model(tmp_path, code=code, config=config)
    with pytest.raises(LoadError, match=r"Instance 'model_0_1' is in initialize"):
        Server(tmp_path, load_timeout=5).start()


BLOCKS_ON_A_REQUEST = {
    "execute": (model(execute("block()")), CONFIG, "is in execute, at"),
    "async execute": (
        model(
            execute("await self.rest()", is_async=True), method("rest", "block()", is_async=True)
        ),
        CONFIG,
        "is in execute, at",
    ),
    "a task that waits": (
        model(execute("await wait()", is_async=True)),
        CONFIG,
        "in wait\n",
    ),
    "a decoupled task": (
        model(execute("await wait()", is_async=True)),
        DECOUPLED,
        "in wait\n",
    ),
    "a thread that has to answer": (
        model(
            execute(
                """
                sender = requests[0].get_response_sender()
                threading.Thread(target=self.answer, args=[sender]).start()
                """
            ),
            method("answer", "block()", "self, sender"),
        ),
        DECOUPLED,
        "is in none of its methods\nand has started thread 'Thread-",
    ),
}


@pytest.mark.parametrize("what", BLOCKS_ON_A_REQUEST)
def test_a_response_that_does_not_come_in_time(tmp_path, what):
    code, config, told = BLOCKS_ON_A_REQUEST[what]
    write_model(tmp_path, code=code, config=config)
    with Server(tmp_path, response_timeout=1.5, exit_timeout=0.1) as server:
        responses = server.model("model").infer(inputs={"IN": np.ones(1, np.float32)})
        with pytest.raises(InferenceError, match=r"no response within 1\.5 s") as caught:
            list(responses)
    text = caught.value.message
    assert "the real server waits for ever. Raise response_timeout" in text
    assert "Instance 'model_0'" in text
    assert told in text
    assert f"{tmp_path}/model/1/model.py" in text


LEAVES_RUNNING = {
    "finalize": (model(method("finalize", "block()")), "Instance 'model_0' is in finalize, at"),
    "thread": (
        model(initialize("threading.Thread(target=block, name='mine').start()")),
        "left running thread 'mine', at",
    ),
    "thread that is told to be no daemon, with nothing of the model": (
        model(initialize("threading.Thread(target=time.sleep, args=[1e6], daemon=False).start()")),
        "left running thread 'Thread-",
    ),
    "thread of a thread": (
        model(
            initialize("threading.Thread(target=self.start).start()"),
            method("start", "threading.Thread(target=block, name='second').start()"),
        ),
        "left running thread 'second', at",
    ),
    "timer": (model(initialize("threading.Timer(1e6, print).start()")), "left running thread"),
    "work in a pool": (
        model(initialize("self.pool = ThreadPoolExecutor(2)\nself.pool.submit(time.sleep, 1e6)")),
        "left running thread 'ThreadPoolExecutor-",
    ),
    "work in the pool of a loop": (
        model(
            execute(
                """
                self.kept = asyncio.get_running_loop().run_in_executor(None, time.sleep, 1e6)
                return TritonPythonModel.answers(requests)
                """,
                is_async=True,
            ),
            "@staticmethod\n" + method("answers", EXECUTE.partition(":")[2], "requests"),
        ),
        "thread 'asyncio_0', at",
    ),
    "process": (
        model(initialize("multiprocessing.Process(target=block, name='child').start()")),
        "left running process 'child', with the id ",
    ),
    "daemon process": (
        model(initialize("multiprocessing.Process(target=block, daemon=True).start()")),
        "left running process '",
    ),
    "work in a pool of processes": (
        model(initialize("self.pool = ProcessPoolExecutor(1)\nself.pool.submit(time.sleep, 1e6)")),
        "process 'ForkProcess-",
    ),
    "failed initialize": (
        model(initialize("threading.Thread(target=block).start()\nraise ValueError('no')")),
        "left running thread 'Thread-",
    ),
    "import": (
        model(before="threading.Thread(target=block).start()"),
        "was not loaded within 0.2 s after auto_complete_config",
    ),
}


@pytest.mark.parametrize("what", LEAVES_RUNNING)
def test_a_model_that_does_not_end_in_time(end, what):
    code, told = LEAVES_RUNNING[what]
    said = end(code, "exit")
    assert told in said
    if what != "import":
        assert "model 'model' did not stop within 0.2 s: the real server never gets such" in said


def test_a_process_that_is_left_is_killed(end, tmp_path):
    pid = tmp_path / "pid"
    code = model(
        initialize(
            f"""
            child = multiprocessing.Process(target=block)
            child.start()
            Path({str(pid)!r}).write_text(str(child.pid))
            """
        )
    )
    end(code, "exit")
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


def test_a_request_is_given_up_with_its_model(tmp_path):
    gate = GATES[tmp_path.name]
    code = model(execute(f"import gates\ngates.GATES[{tmp_path.name!r}].pass_through()"))
    write_model(tmp_path, code=code)
    server = Server(tmp_path, exit_timeout=0.1).start()
    responses = server.model("model").infer(inputs={"IN": np.ones(1, np.float32)})
    gate.wait_for_somebody()
    server.stop()
    gate.opened.set()
    with pytest.raises(InferenceError, match="given up") as caught:
        list(responses)
    assert "Instance 'model_0' is in execute, at" in caught.value.message
    assert "in pass_through" in caught.value.message


HARMLESS = {
    "a finalize that raises": model(method("finalize", "raise ValueError('no')")),
    "a finalize that exits": model(method("finalize", "raise SystemExit(3)")),
    "a pool that is idle": model(
        initialize("self.pool = ThreadPoolExecutor(2)\nself.pool.submit(int).result()")
    ),
    "a pool of processes that is idle": model(
        initialize("self.pool = ProcessPoolExecutor(1)\nself.pool.submit(int).result()")
    ),
    "another pool of processes that is idle": model(
        initialize("self.pool = multiprocessing.Pool(1)\nself.pool.apply(int)")
    ),
    "daemon processes that are not forked": model(
        initialize(
            """
            context = multiprocessing.get_context("spawn")
            context.Process(target=time.sleep, args=[1e6], daemon=True).start()
            """
        )
    ),
    "tasks": model(
        execute(
            """
            self.task = asyncio.create_task(asyncio.sleep(1e6))
            return TritonPythonModel.answers(requests)
            """,
            is_async=True,
        ),
        "@staticmethod\n" + method("answers", EXECUTE.partition(":")[2], "requests"),
    ),
    "a thread that ends in finalize": model(
        initialize(
            """
            self.ending = threading.Event()
            self.thread = threading.Thread(target=self.ending.wait)
            self.thread.start()
            """
        ),
        method("finalize", "self.ending.set()\nself.thread.join()"),
    ),
    "a thread that ends soon after finalize": model(
        initialize("threading.Thread(target=time.sleep, args=[0.3]).start()")
    ),
}


@pytest.mark.parametrize("what", HARMLESS)
def test_what_ends_as_on_the_server_is_no_complaint(end, what):
    said = end(HARMLESS[what], "exit", CAP)
    # Of what was replaced to see them start, nothing is left.
    assert said == "answered\nthreading the end\n"


def test_a_daemon_that_outlives_finalize_is_a_warning(end):
    code = model(initialize("threading.Thread(target=block, name='mine', daemon=True).start()"))
    said = end(code, "exit", CAP)
    assert "Instance 'model_0' is done and has left the daemon thread 'mine' running" in said
    assert "in block\n    time.sleep(0.1)" in said


def test_a_loop_that_blocks_is_a_warning(tmp_path):
    gate = GATES[tmp_path.name]
    code = model(
        execute(
            """
            asyncio.get_running_loop().call_later(0.1, gate.pass_through)
            return TritonPythonModel.answers(requests)
            """,
            is_async=True,
        ),
        "@staticmethod\n" + method("answers", EXECUTE.partition(":")[2], "requests"),
        before=f"import gates\ngate = gates.GATES[{tmp_path.name!r}]",
    )
    write_model(tmp_path, code=code)
    with Server(tmp_path) as server:
        server.model("model")(IN=np.ones(1, np.float32))
        gate.wait_for_somebody()
    gate.opened.set()
    assert "left the daemon thread 'model_0 loop' running" in str(server.log())
    assert "in pass_through" in str(server.log())


def test_threads_of_others_are_nobodys(tmp_path):
    write_model(tmp_path, code=model())
    ending = threading.Event()
    with Server(tmp_path) as server:
        mine = threading.Thread(target=ending.wait)
        mine.start()
        assert not mine.daemon
        server.model("model")(IN=np.ones(1, np.float32))
    assert "mine" not in str(server.log())
    ending.set()
    mine.join(CAP)


@pytest.fixture
def project(pytester):
    """A project with one test, of one model."""

    def write(code):
        write_model(pytester.path / "model_repository", code=code)
        pytester.makepyfile(
            """
            import numpy as np

            def test_it(triton):
                triton.infer("model", IN=np.ones(1, np.float32))
            """
        )
        return pytester

    return write


def test_pytest_has_one_option_for_all_limits(project):
    pytester = project(model(execute("block()")))
    result = pytester.runpytest_subprocess(
        "-p", "no:cacheprovider", "--triton-timeout=1", timeout=CAP
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*no response within 1 s, *Instance 'model_0' is in execute, at",
            "*in execute",
            "*= triton: models that were unloaded =*",
            "model 'model' did not stop within 1 s: *",
        ]
    )


def test_pytest_has_a_setting_for_all_limits(project):
    pytester = project(model(initialize("block()")))
    pytester.makeini("[pytest]\ntriton_timeout = 0.2")
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", timeout=CAP)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*the model was not loaded within 0.2 s*is in initialize, at"])


def test_pytest_tells_what_is_left_after_the_last_test(project):
    pytester = project(model(initialize("threading.Thread(target=block, name='mine').start()")))
    result = pytester.runpytest_subprocess(
        "-p", "no:cacheprovider", "--triton-timeout=3", timeout=CAP
    )
    result.assert_outcomes(passed=1)
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "*= triton: models that were unloaded =*",
            "*did not stop within 3 s: *left running thread 'mine', at",
            "*in block",
        ]
    )


def test_pytest_refuses_a_limit_that_is_none(project):
    pytester = project(model())
    pytester.makeini("[pytest]\ntriton_timeout = soon")
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", timeout=CAP)
    result.stderr.fnmatch_lines(["*ini option triton_timeout = soon: expected a number of seconds"])
    result = pytester.runpytest_subprocess("--triton-timeout=-1", timeout=CAP)
    result.stderr.fnmatch_lines(["*--triton-timeout=-1.0: expected a number of seconds"])


@pytest.mark.parametrize("where", ["initialize", "execute", "finalize"])
def test_an_interrupt_ends_a_test_run_while_a_model_blocks(project, where):
    arguments = {"initialize": "self, args", "execute": "self, requests", "finalize": "self"}
    pytester = project(model(method(where, "block()", arguments[where])))
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
    ) as process:
        begun = pytester.path / "model_repository" / "model" / "1" / "begun"
        until = time.monotonic() + CAP
        while not begun.exists():
            assert time.monotonic() < until
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        try:
            out, _ = process.communicate(timeout=CAP)
        finally:
            process.kill()
    assert process.returncode == pytest.ExitCode.INTERRUPTED, out
    if where == "finalize":  # all tests have passed, and the end is what was interrupted
        assert b"did not stop before the interrupt" in out
        assert b"Instance 'model_0' is in finalize, at" in out
    else:
        assert b"KeyboardInterrupt" in out


@pytest.mark.parametrize(
    ("limit", "code", "told"),
    [
        ("load", model(initialize("block()")), "the model was not loaded within 0.2 s"),
        ("exit", model(initialize("threading.Thread(target=block).start()")), "left running"),
    ],
)
def test_the_command_line_has_limits_and_ends(tmp_path, limit, code, told):
    write_model(tmp_path, code=code)
    arguments = ["serve", *FREE_PORTS, f"--{limit}-timeout-secs=0.2", str(tmp_path)]
    with subprocess.Popen(
        [sys.executable, "-m", "triton_stub.cli", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as process:
        try:
            lines = iter(process.stdout.readline, "")
            assert any(line.startswith("Started HTTPService") for line in lines)
            process.send_signal(signal.SIGINT)
            _, log = process.communicate(timeout=CAP)
        finally:
            process.kill()
    assert process.returncode == 0
    assert told in log
    assert "in block" in log
