"""A process for a model: how it begins, and that it ends."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
from instances import write_files

from triton_stub.core.processes.child import Child
from triton_stub.core.processes.link import LinkClosedError

PATIENCE = 60.0  # seconds


@pytest.fixture
def child():
    ended = threading.Event()
    child = Child("m", {}, ended.set)
    child.ended = ended
    child.start()
    yield child
    child.kill()
    child.end()


def is_there(pid):
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def wait_until_gone(pid):
    until = time.monotonic() + PATIENCE
    while is_there(pid):
        assert time.monotonic() < until
        time.sleep(0.01)


def descriptors():
    # All but the one that looks.
    return len(list(Path("/proc/self/fd").iterdir()))


def test_it_ends_when_it_is_told_to_and_leaves_nothing(child):
    pid = child.pid
    assert is_there(pid)
    assert child.end(PATIENCE)
    assert child.is_gone
    assert child.ended.is_set()
    assert child.status() == "ended with status 0"
    with pytest.raises(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    with pytest.raises(LinkClosedError):
        child.call("where")


def test_it_takes_no_descriptors_and_no_threads():
    before, threads = descriptors(), threading.active_count()
    child = Child("m", {})
    child.start()
    child.end()
    assert (descriptors(), threading.active_count()) == (before, threads)


@pytest.mark.parametrize("name", ["SIGKILL", "SIGSEGV"])
def test_what_it_has_died_of(child, name):
    child.call("where")
    os.kill(child.pid, signal.Signals[name])
    assert child.ended.wait(PATIENCE)
    assert child.status() == f"was killed by {name}"


def test_signals_for_the_server_do_not_end_it(child):
    child.call("where")
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(child.pid, number)
    assert child.call("where") == ""


def test_it_ends_when_the_other_end_is_closed(child):
    child.call("where")
    child._link.close()
    child._process.wait(PATIENCE)
    assert child.status() == "ended with status 1"


def test_one_that_is_stopped_says_so(child, monkeypatch):
    monkeypatch.setattr("triton_stub.core.processes.child._PATIENCE", 0.1)
    child.call("where")
    os.kill(child.pid, signal.SIGSTOP)
    assert child.where().startswith(f"Process {child.pid} does not say where it is")


BLOCKS = """
import ctypes, os, time, triton_python_backend_utils
class TritonPythonModel:
    def initialize(self, args):
        with open(os.environ["PIDS"], "a") as file:
            print(os.getpid(), file=file)
    def execute(self, requests):
        {}
"""
STARTS = """
    import os, signal, sys, threading, time
    from triton_stub import Server

    server = Server(sys.argv[1], isolation="process", strict_model_config=True).start()
    threading.Thread(target=server.model("m"), daemon=True).start()
    try:
        print("started", flush=True)
        time.sleep(600)
    finally:
        server.stop()
"""


def test_an_interrupt_ends_all_of_it_in_its_order(tmp_path):
    config = 'backend: "python"\noutput { name: "Y" data_type: TYPE_FP32 dims: [ 1 ] }\n'
    finalize = "    def finalize(self):\n        print('finalized', flush=True)\n"
    model = BLOCKS.format("time.sleep(0.5); return [None]") + finalize
    write_files(tmp_path / "models" / "m", {"config.pbtxt": config, "1/model.py": model})
    command = [sys.executable, "-c", textwrap.dedent(STARTS), str(tmp_path / "models")]
    environment = os.environ | {"PIDS": str(tmp_path / "pids")}
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, env=environment, stdout=pipe, stderr=pipe, text=True, start_new_session=True
    ) as server:
        assert server.stdout.readline() == "started\n"
        pid = int((tmp_path / "pids").read_text())
        os.killpg(server.pid, signal.SIGINT)
        out, err = server.communicate(timeout=PATIENCE)
    assert (out, err.splitlines()[-1]) == ("finalized\n", "KeyboardInterrupt")
    assert not is_there(pid)


@pytest.mark.parametrize("body", ["time.sleep(600)", "ctypes.PyDLL(None).sleep(600)"])
def test_no_process_of_a_model_outlives_one_that_is_killed(tmp_path, body):
    config = 'backend: "python"\noutput { name: "Y" data_type: TYPE_FP32 dims: [ 1 ] }\n'
    files = {"config.pbtxt": config, "1/model.py": BLOCKS.format(body)}
    write_files(tmp_path / "models" / "m", files)
    pids = tmp_path / "pids"
    command = [sys.executable, "-c", textwrap.dedent(STARTS), str(tmp_path / "models")]
    environment = os.environ | {"PIDS": str(pids)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout.readline() == "started\n"
        pid = int(pids.read_text())
        assert is_there(pid)
        server.kill()
    wait_until_gone(pid)
