"""``triton-stub serve``: what it prints, what it serves, and how it ends."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from model_files import BROKEN, CONFIG, DOUBLE, write_model

from triton_stub.cli import main

TESTS = Path(__file__).parents[1]
TIMEOUT = 60
# Waits in execute, or in initialize, until the test makes a file.
SLOW = """
import pathlib
import time
import triton_python_backend_utils as pb_utils

FOLDER = pathlib.Path(__file__).parent


def wait():
    (FOLDER / "begun").touch()
    while not (FOLDER / "go").exists():
        time.sleep(0.01)


class TritonPythonModel:
    def execute(self, requests):
        wait()
        return [pb_utils.InferenceResponse(r.inputs()) for r in requests]
"""
SLOW_CONFIG = CONFIG.replace('"OUT"', '"IN"')
SLOW_TO_LOAD = SLOW + "\n    def initialize(self, args):\n        wait()\n"


class Process:
    """``triton-stub serve`` in a process of its own."""

    def __init__(self, *arguments):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "triton_stub.cli", "serve", "--http-port=0", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        self.printed = []

    def url(self):
        """Wait until the port is open."""
        for line in self.process.stdout:
            self.printed.append(line)
            if line.startswith("Started HTTPService at "):
                return f"http://{line.split()[-1]}"
        raise AssertionError(self.process.stderr.read())

    def end_when_ready(self):
        """Wait until the port is open, and end it."""
        self.url()
        return self.end(signal.SIGTERM)

    def end(self, *signals):
        """Send signals; returns exit code, and all that was printed and logged."""
        for number in signals:
            self.process.send_signal(number)
        out, log = self.process.communicate(timeout=TIMEOUT)
        return self.process.returncode, "".join(self.printed) + out, log


@pytest.fixture
def serve():
    with contextlib.ExitStack() as stack:

        def start(*arguments):
            process = Process(*map(str, arguments))
            stack.enter_context(process.process)
            stack.callback(process.process.kill)
            return process

        yield start


def infer(url, model="model", value=1):
    tensor = {"name": "IN", "datatype": "FP32", "shape": [1], "data": [value]}
    body = json.dumps({"inputs": [tensor]}).encode()
    with urllib.request.urlopen(f"{url}/v2/models/{model}/infer", body, TIMEOUT) as answer:
        return json.load(answer)["outputs"][0]["data"]


def wait_for(path):
    while not path.exists():
        time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_in_good_order(tmp_path, serve, number):
    write_model(tmp_path)
    process = serve(tmp_path)
    assert infer(process.url()) == [2]
    code, out, log = process.end(number)
    assert code == 0
    assert "| model | 1       | READY  |" in out
    assert "stopping: requests in flight are answered first" in out
    assert "successfully unloaded 'model' version 1" in log


def test_requests_in_flight_are_answered(tmp_path, serve):
    version = write_model(tmp_path, code=SLOW, config=SLOW_CONFIG) / "1"
    process = serve(tmp_path)
    url = process.url()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(infer, url)
        wait_for(version / "begun")
        process.process.send_signal(signal.SIGTERM)
        assert "stopping" in process.process.stdout.readline()
        (version / "go").touch()
        assert answer.result(TIMEOUT) == [1]
    assert process.end()[0] == 0


def test_a_model_that_blocks_is_given_up(tmp_path, serve):
    version = write_model(tmp_path, code=SLOW, config=SLOW_CONFIG) / "1"
    process = serve(tmp_path, "--exit-timeout-secs=0.1")
    url = process.url()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(infer, url)
        wait_for(version / "begun")
        code, _, log = process.end(signal.SIGINT)
        with pytest.raises(urllib.error.HTTPError, match="503") as caught:
            answer.result(TIMEOUT)
    caught.value.close()
    assert code == 0
    assert "did not stop within 0.1 s" in log


def test_a_second_signal_ends_it_at_once(tmp_path, serve):
    version = write_model(tmp_path, code=SLOW, config=SLOW_CONFIG) / "1"
    process = serve(tmp_path)
    url = process.url()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(infer, url)
        wait_for(version / "begun")
        process.process.send_signal(signal.SIGINT)
        assert "stopping" in process.process.stdout.readline()
        assert process.end(signal.SIGINT)[0] == -signal.SIGINT
        assert isinstance(answer.exception(TIMEOUT), OSError)


def test_a_signal_while_models_are_loaded(tmp_path, serve):
    version = write_model(tmp_path, code=SLOW_TO_LOAD) / "1"
    process = serve(tmp_path)
    wait_for(version / "begun")
    code, _, log = process.end(signal.SIGINT)
    assert code == 1
    assert "triton-stub: stopped while the models were loading" in log
    assert "Traceback" not in log


# Name of the model → its code, its configuration, and what the explanation has to say.
BREAKAGES = {
    "arity": (
        "class TritonPythonModel:\n    def initialize(self): pass\n",
        CONFIG,
        ["initialize() takes 1 positional argument but 2 were given", "the model's class"],
    ),
    "exits": (
        "import sys\nsys.exit(3)\n",
        CONFIG,
        ["SystemExit: 3", "exits/1/model.py(2): <module>", "first line under 'At:'"],
    ),
    "feature": (
        DOUBLE,
        f'{CONFIG} model_repository_agents {{ agents {{ name: "a" }} }}',
        ["model_repository_agents", "native"],
    ),
    "garbled": (DOUBLE, "nonsense: 1", ["garbled/config.pbtxt:1:1", "nonsense"]),
    "import": (
        "import no_such_module\n",
        CONFIG,
        ["install the package that has the module 'no_such_module'", sys.executable],
    ),
    "initialize": (
        BROKEN,
        CONFIG,
        ["OSError: no weights", "initialize/1/model.py(", "first line under"],
    ),
    "noclass": ("x = 1\n", CONFIG, ["define `class TritonPythonModel` in that file"]),
    "syntax": ("class X\n", CONFIG, ["SyntaxError", "syntax/1/model.py, line 1"]),
    "value": (
        DOUBLE,
        f"{CONFIG} max_batch_size: 4 dynamic_batching {{ preferred_batch_size: 9 }}",
        ["value/config.pbtxt", "preferred size must be <= max batch size"],
    ),
}


def test_every_broken_model_is_explained_and_the_others_serve(tmp_path, serve):
    write_model(tmp_path)
    for name, (code, config, _) in BREAKAGES.items():
        write_model(tmp_path, name, code, config)
    (write_model(tmp_path, "nofile") / "1" / "model.py").unlink()
    (tmp_path / "noversion").mkdir()
    process = serve(tmp_path)
    assert infer(process.url()) == [2]
    code, out, log = process.end(signal.SIGTERM)
    assert code == 0
    for name in BREAKAGES:
        assert f"\n| {name:<10} | " in out
    expected = {name: words for name, (_, _, words) in BREAKAGES.items()}
    expected["nofile"] = ["Could not determine backend", f"{tmp_path}/nofile/1/model.py"]
    expected["noversion"] = ["Could not determine backend", f"{tmp_path}/noversion/1/model.py"]
    for name, words in expected.items():
        _, _, rest = log.partition(f"\nmodel '{name}' is not served:\n")
        explanation, found, advice = rest.partition("\n  what to do: ")
        advice = advice.partition("\n")[0]
        assert found, name
        assert str(tmp_path / name) in explanation
        assert advice
        for word in words:
            assert word in f"{explanation}\n{advice}"
    assert "model 'model' is not served" not in log


def exit_code(*arguments):
    before = signal.getsignal(signal.SIGTERM)
    code = main(["serve", *map(str, arguments)])
    assert signal.getsignal(signal.SIGTERM) is before
    return code


def test_a_port_in_use_is_one_sentence(tmp_path, capsys):
    write_model(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert exit_code(tmp_path, f"--http-port={port}") == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(
        f"triton-stub: cannot serve HTTP at 127.0.0.1:{port}: the port is already"
    )


def test_no_repository(capsys):
    assert exit_code() == 1
    assert capsys.readouterr().err.startswith("triton-stub: no model repository given; for example")


def test_a_repository_that_is_not_there(tmp_path, capsys):
    assert exit_code(tmp_path / "nothing") == 1
    assert f"{tmp_path}/nothing is not a directory" in capsys.readouterr().err


def test_a_repository_with_a_link_to_nowhere(tmp_path, capsys):
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    assert exit_code(tmp_path) == 1
    assert capsys.readouterr().err.startswith("triton-stub: cannot read a model repository: ")


def test_exit_on_error(tmp_path, capsys):
    write_model(tmp_path, code=BROKEN)
    assert exit_code(f"--model-repository={tmp_path}", "--exit-on-error=true") == 1
    assert "model 'model': load failed for model 'model'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["serve", "--exit-on-error=maybe"],
        ["serve", "--http-port=http"],
        ["serve", "--cache-config=size=1"],
        ["serve", "--cache-config=local,size"],
        ["serve", "--model-control-mode=sometimes"],
        ["fly"],
    ],
)
def test_arguments_that_make_no_sense(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: triton-stub" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argument", "told"),
    [
        (
            "--http-port=65536",
            "http-port: expected 1 to 65535, or 0 for a free port; got '65536'",
        ),
        (
            "--metrics-port=-1",
            "-port: expected 1 to 65535, or 0 for a free port; got '-1'",
        ),
        ("--load-timeout-secs=-1", "--load-timeout-secs: expected a number of seconds; got '-1'"),
        ("--response-timeout-secs=x", "expected a number of seconds; got 'x'"),
        ("--exit-timeout-secs=inf", "expected a number of seconds; got 'inf'"),
    ],
)
def test_numbers_that_make_no_sense_are_told_before_models_are_loaded(argument, told, capsys):
    with pytest.raises(SystemExit):
        main(["serve", "no models", argument])
    assert told in capsys.readouterr().err


def test_explicit_control_and_two_repositories(tmp_path, serve):
    for path, name in (("one", "a"), ("one", "b"), ("two", "c")):
        write_model(tmp_path / path, name)
    process = serve(
        tmp_path / "one",
        f"--model-repository={tmp_path / 'two'}",
        "--model-control-mode=explicit",
        "--load-model=a",
        "--load-model=c",
        "--exit-on-error=TRUE",
        "--log-verbose=1",
    )
    url = process.url()
    assert infer(url, "a") == infer(url, "c") == [2]
    with pytest.raises(urllib.error.HTTPError, match="404") as caught:
        infer(url, "b")
    caught.value.close()
    code, out, _ = process.end(signal.SIGINT)
    assert code == 0
    assert [line.split()[1] for line in out.splitlines() if line.startswith("| ")] == [
        "Model",
        "a",
        "c",
    ]


def test_models_to_load_need_explicit_control(tmp_path, capsys):
    assert exit_code(tmp_path, "--load-model=a") == 1
    assert capsys.readouterr().err == (
        "triton-stub: Error: Use of '--load-model' requires setting "
        "'--model-control-mode=explicit' as well.\n"
    )


def test_polling(tmp_path, serve):
    write_model(tmp_path / "models", "a")
    process = serve(tmp_path / "models", "--model-control-mode=poll", "--repository-poll-secs=0.05")
    url = process.url()
    assert infer(url, "a") == [2]
    write_model(tmp_path / "new", "b")
    (tmp_path / "new" / "b").rename(tmp_path / "models" / "b")
    write_model(tmp_path / "new", "c", BROKEN)
    (tmp_path / "new" / "c").rename(tmp_path / "models" / "c")
    ready = 400
    while ready != 200:
        with contextlib.suppress(urllib.error.HTTPError):
            ready = urllib.request.urlopen(f"{url}/v2/models/b/ready", None, TIMEOUT).status
    assert infer(url, "b") == [2]
    while "model 'c' is not served:\n" not in process.process.stderr.readline():
        pass
    code, _, _ = process.end(signal.SIGINT)
    assert code == 0


def test_where_the_log_goes_and_what_of_it(tmp_path, serve):
    write_model(tmp_path / "models")
    log = tmp_path / "server.log"
    serve(tmp_path / "models", f"--log-file={log}", "--log-format=ISO8601").end_when_ready()
    assert "successfully loaded 'model'" in log.read_text()
    before = log.read_text()
    process = serve(tmp_path / "models", f"--log-file={log}", "--log-info=false")
    _, _, printed = process.end_when_ready()
    assert log.read_text() == before
    assert printed == ""


def test_models_in_processes_with_a_cache(tmp_path, serve):
    write_model(tmp_path, config=f"{CONFIG} response_cache {{ enable: true }}")
    process = serve(tmp_path, "--isolation=process", "--cache-config=local,size=1048576")
    url = process.url()
    assert infer(url) == infer(url) == [2]
    with urllib.request.urlopen(f"{url}/v2/models/model/stats", None, TIMEOUT) as answer:
        (row,) = json.load(answer)["model_stats"]
    assert (row["inference_count"], row["execution_count"]) == (1, 1)
    assert row["inference_stats"]["cache_hit"]["count"] == 1
    process.end(signal.SIGTERM)


def test_help_needs_no_numpy():
    program = (
        "import sys; from triton_stub.cli import main\n"
        "try: main(['serve', '--help'])\n"
        "except SystemExit: print('numpy' in sys.modules)"
    )
    out = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=TESTS
    ).stdout
    assert "--http-port" in out
    assert out.splitlines()[-1] == "False"
