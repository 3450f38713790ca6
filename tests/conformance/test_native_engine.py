"""The real tritonserver as an engine: it serves, says why it does not, and leaves nothing."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from patience import wait_until

from triton_stub.engines import process
from triton_stub.engines.engine import Engine
from triton_stub.engines.environment import NativeEnvironment
from triton_stub.engines.native import NativeEngine
from triton_stub.errors import InferenceError, LoadError, ServerError, StatusCode

CONFIG = """
backend: "python"
max_batch_size: 8
input {{ name: "x" data_type: {datatype} dims: [ -1 ] }}
output {{ name: "y" data_type: {datatype} dims: [ -1 ] }}
instance_group {{ kind: KIND_CPU }}
"""
IDENTITY = """
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        return [
            pb_utils.InferenceResponse(
                [pb_utils.Tensor.from_dlpack(
                    "y", pb_utils.get_input_tensor_by_name(request, "x").to_dlpack())])
            for request in requests
        ]
"""
ADD = """
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        xs = [pb_utils.get_input_tensor_by_name(request, "x").as_numpy() for request in requests]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("y", x + np.float32(1))]) for x in xs]
"""
SURROUNDINGS = """
import os, sys
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        words = [np.__version__, np.__file__, os.environ.get("COLOUR", ""), *sys.path]
        self.words = np.array([word.encode() for word in words], dtype=np.object_)

    def execute(self, requests):
        return [pb_utils.InferenceResponse([pb_utils.Tensor("y", self.words[None])])
                for _ in requests]
"""
RAISES = """
class TritonPythonModel:
    def initialize(self, args):
        raise ValueError("no 'weights' here\\nput them there")
"""


def write_model(repository, name, source, datatype="TYPE_FP32"):
    folder = repository / name
    (folder / "1").mkdir(parents=True)
    (folder / "config.pbtxt").write_text(CONFIG.format(datatype=datatype))
    (folder / "1" / "model.py").write_text(source)


@pytest.fixture(scope="module")
def environment(pytestconfig):
    return NativeEnvironment.find(pytestconfig.rootpath)


@pytest.fixture
def repository(tmp_path):
    repository = tmp_path / "models"
    repository.mkdir()
    return repository


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where engines put their files: every process of theirs has it in its command line."""
    folder = tmp_path / "engines"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


@contextlib.contextmanager
def one_engine(environment, tmp_path_factory):
    repository = tmp_path_factory.mktemp("repository")
    write_model(repository, "add", ADD)
    write_model(repository, "bf16", IDENTITY, "TYPE_BF16")
    write_model(repository, "bytes", IDENTITY, "TYPE_STRING")
    write_model(repository, "surroundings", SURROUNDINGS, "TYPE_STRING")
    with NativeEngine(repository, environment=environment, env={"COLOUR": "green"}) as engine:
        yield engine
    assert not list(repository.rglob("__pycache__"))


@pytest.fixture(scope="module")
def engine(environment, tmp_path_factory):
    with one_engine(environment, tmp_path_factory) as engine:
        yield engine


def processes(folder):
    """The command line of each process that belongs to engines in ``folder``, by process id."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes().decode().split("\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if any(str(folder) in word for word in command) and int(entry.name) != os.getpid():
            found[int(entry.name)] = command
    return found


def regions(commands):
    """The shared memory regions of the servers among ``commands``."""
    text = " ".join(word for command in commands.values() for word in command)
    prefixes = set(re.findall(r"shm-region-prefix-name=(\S+)", text))
    return [path for prefix in prefixes for path in Path("/dev/shm").glob(f"{prefix}*")]


def test_is_an_engine(engine):
    assert isinstance(engine, Engine)
    assert engine.name == "native"
    assert engine.ready()
    assert engine.server_metadata()["name"] == "triton"
    assert engine.server_metadata()["version"] == "2.51.0"


def test_describes_models(engine):
    assert engine.ready("add")
    assert engine.ready("add", "1")
    assert not engine.ready("add", "2")
    assert not engine.ready("nobody")
    assert engine.metadata("add") == {
        "name": "add",
        "versions": ["1"],
        "platform": "python",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, -1]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, -1]}],
    }
    assert engine.config("add")["max_batch_size"] == 8
    stats = engine.statistics("add", "1")["model_stats"]
    assert [(model["name"], model["version"]) for model in stats] == [("add", "1")]


def test_infers(engine):
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    result = engine.infer("add", x=x, model_version="1", request_id="r", outputs=["y"])
    np.testing.assert_array_equal(result["y"], x + 1)
    assert (result.model_name, result.model_version, result.request_id) == ("add", "1", "r")
    assert list(result) == ["y"]


def test_infers_what_numpy_has_no_type_for(engine):
    half = np.array([[1.5, -3.0, np.inf]], ml_dtypes.bfloat16)
    got = engine.infer("bf16", x=half)["y"]
    assert got.dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(got, half)


def test_infers_from_many_threads(engine):
    before = len(list(Path("/proc/self/fd").iterdir()))
    wrong = []

    def ask(number):
        x = np.full((1, 4), number, np.float32)
        wrong.extend(n for n in range(5) if engine.infer("add", x=x)["y"][0, 0] != number + 1)

    for _ in range(3):
        threads = [threading.Thread(target=ask, args=(number,)) for number in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []
    # At most a connection for each that was in use at once, none for each thread that ever was.
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 16


@pytest.mark.parametrize(
    ("ask", "text", "code"),
    [
        (
            lambda engine: engine.infer("nobody"),
            "Request for unknown model: 'nobody' is not found",
            StatusCode.NOT_FOUND,
        ),
        (
            lambda engine: engine.metadata("nobody"),
            "Request for unknown model: 'nobody' is not found",
            StatusCode.NOT_FOUND,
        ),
        (
            lambda engine: engine.infer("add", z=np.ones((1, 1), np.float32)),
            "unexpected inference input 'z' for model 'add'",
            StatusCode.INVALID_ARG,
        ),
    ],
)
def test_error_has_exactly_the_servers_text(engine, ask, text, code):
    with pytest.raises(ServerError) as caught:
        ask(engine)
    assert (str(caught.value), caught.value.code) == (text, code)


def test_models_have_their_own_environment(engine, environment):
    words = engine.infer("surroundings", x=np.array([[b""]], np.object_))["y"][0]
    version, file, colour, *path = (word.decode() for word in words)
    assert version.startswith("1.")
    assert Path(file).is_relative_to(environment.site_packages)
    assert colour == "green"
    assert str(environment.site_packages) in path
    ours = {entry for entry in sys.path if "site-packages" in entry}
    assert ours.isdisjoint(path)


def test_only_named_models_are_loaded(environment, repository):
    write_model(repository, "add", ADD)
    write_model(repository, "raises", RAISES)
    with NativeEngine(repository, environment=environment, models=["add"]) as engine:
        assert engine.ready("add")
        assert not engine.ready("raises")


def test_broken_model_is_named_in_the_servers_words(environment, repository, folder):
    write_model(repository, "add", ADD)
    write_model(repository, "raises", RAISES)
    with pytest.raises(LoadError) as caught:
        NativeEngine(repository, environment=environment)
    assert str(caught.value) == (
        "failed to load 'raises' version 1: Internal: ValueError: no 'weights' here\n"
        f"put them there\n\nAt:\n  {repository}/raises/1/model.py(4): initialize"
    )
    [note] = caught.value.__notes__
    assert note.startswith("the end of tritonserver's log:\n")
    assert "error: creating server: Internal - failed to load all models" in note
    assert processes(folder) == {}
    assert list(folder.iterdir()) == []


def test_good_models_serve_beside_a_broken_one(environment, repository):
    write_model(repository, "add", ADD)
    write_model(repository, "raises", RAISES)
    options = ["--exit-on-error=false"]
    with NativeEngine(repository, environment=environment, options=options) as engine:
        assert not engine.ready()
        assert engine.ready("add")
        assert not engine.ready("raises")
        assert "failed to load 'raises' version 1" in engine.log()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"options": ["--bogus"]}, "unrecognized option '--bogus'"),
        (
            {"models": ["nobody"]},
            "failed to poll model 'nobody': model not found in any model repository.",
        ),
        ({"startup_timeout": 0.0}, "tritonserver was not ready within 0 s"),
    ],
)
def test_failed_start_says_why_and_leaves_nothing(environment, repository, folder, arguments, text):
    write_model(repository, "add", ADD)
    with pytest.raises(LoadError) as caught:
        NativeEngine(repository, environment=environment, **arguments)
    assert str(caught.value) == text
    assert processes(folder) == {}
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("stolen", ["http", "grpc", "metrics"])
def test_port_that_is_taken_meanwhile_is_given_up(environment, repository, monkeypatch, stolen):
    given = []
    free = process._free_ports
    with socket.socket() as thief:
        thief.bind(("127.0.0.1", 0))
        thief.listen()

        def next_ports():
            ports = free()
            if not given:
                others = {name: getattr(ports, name) for name in ("http", "grpc", "metrics")}
                ports = process.Ports(**{**others, stolen: thief.getsockname()[1]})
            given.append(ports)
            return ports

        monkeypatch.setattr(process, "_free_ports", next_ports)
        with NativeEngine(repository, environment=environment, models=[]) as engine:
            assert engine.http_url == f"127.0.0.1:{given[1].http}"
            assert engine.ready()
    assert len(given) == 2


def test_stop_leaves_nothing_but_the_log(environment, repository, folder):
    write_model(repository, "add", ADD)
    engine = NativeEngine(repository, environment=environment)
    running = processes(folder)
    assert any("triton_python_backend_stub" in command[0] for command in running.values())
    assert regions(running)
    engine.stop()
    assert processes(folder) == {}
    assert regions(running) == []
    assert list(folder.iterdir()) == []
    assert "successfully unloaded 'add' version 1" in engine.log()
    assert not engine.ready()
    engine.stop()


def test_killed_server_is_reported_with_its_log(environment, repository, folder):
    write_model(repository, "add", ADD)
    with NativeEngine(repository, environment=environment) as engine:
        running = processes(folder)
        [server] = [pid for pid, command in running.items() if command[0].endswith("tritonserver")]
        os.kill(server, signal.SIGKILL)
        wait_until(lambda: not processes(folder))
        with pytest.raises(InferenceError, match="no answer from") as caught:
            engine.infer("add", x=np.ones((1, 1), np.float32))
    assert caught.value.code is StatusCode.UNAVAILABLE
    assert "successfully loaded 'add'" in caught.value.__notes__[0]
    assert regions(running) == []


OWNER = """
import signal, sys, tempfile, threading, time
tempfile.tempdir = {folder!r}
from pathlib import Path
from triton_stub.engines.environment import NativeEnvironment
from triton_stub.engines.native import NativeEngine

engines = []

def start():
    environment = NativeEnvironment.open(Path({environment!r}))
    engines.append(NativeEngine({repository!r}, environment=environment))

# From a thread that ends at once: its end must not be taken for the owner's.
starter = threading.Thread(target=start)
starter.start()
starter.join()
try:
    time.sleep(1)
    print("ready" if engines[0].ready("add") else "gone", flush=True)
    time.sleep(600)
finally:
    engines[0].stop()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nothing_is_left_of_an_interrupted_run(
    pytestconfig, environment, repository, folder, number
):
    write_model(repository, "add", ADD)
    script = OWNER.format(
        folder=str(folder), environment=str(environment.path), repository=str(repository)
    )
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=pytestconfig.rootpath,
    ) as owner:
        assert owner.stdout.readline() == "ready\n"
        running = processes(folder)
        assert regions(running)
        owner.send_signal(number)
        wait_until(lambda: not processes(folder))
    assert regions(running) == []
    assert list(folder.iterdir()) == []


def test_nothing_is_left_when_the_guard_is_killed(environment, repository, folder):
    write_model(repository, "add", ADD)
    with NativeEngine(repository, environment=environment):
        [guard] = [
            pid
            for pid, command in processes(folder).items()
            if any(word.endswith("guard.py") for word in command)
        ]
        os.kill(guard, signal.SIGKILL)
        wait_until(lambda: not processes(folder))
