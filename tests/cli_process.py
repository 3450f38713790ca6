"""The command line in tests: ``triton-stub serve`` in a process of its own, and its arguments."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import urllib.request

import pytest
from model_files import CONFIG

from triton_stub.cli import main, options
from triton_stub.cli.parser import Parser

TIMEOUT = 60
FREE_PORTS = ("--http-port=0", "--grpc-port=0", "--metrics-port=0")
SERVICES = {
    "grpc": "Started GRPCInferenceService at ",
    "http": "Started HTTPService at ",
    "metrics": "Started Metrics Service at ",
}
# Waits in execute until the test makes a file.
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
    """The command; ``urls`` is filled by ``wait``."""

    def __init__(self, *arguments):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "triton_stub.cli", "serve", *FREE_PORTS, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        self.printed = []
        self.urls = {}

    def wait(self, last="metrics"):
        """Wait until ``last``, a key of SERVICES, is served; the URLs."""
        if last in self.urls:
            return self.urls
        for line in self.process.stdout:
            self.printed.append(line)
            for name, start in SERVICES.items():
                if line.startswith(start):
                    self.urls[name] = line.removeprefix(start).strip()
            if last in self.urls:
                return self.urls
        raise AssertionError(self.process.stderr.read())

    def url(self):
        """Wait until the ports are open; that of HTTP."""
        return f"http://{self.wait()['http']}"

    def end_when_ready(self):
        """Wait until the ports are open, and end it."""
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


def refused(capsys, *arguments):
    """What is said of a command line that makes no sense."""
    with pytest.raises(SystemExit) as caught:
        main([str(each) for each in arguments])
    assert caught.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    return printed.err


def parsed(*arguments):
    """Arguments of ``serve``, complete."""
    parser = Parser(prog="triton-stub serve")
    parser.set_defaults(parser=parser)
    options.add_options(parser)
    given = parser.parse_args(["models", *arguments])
    options.check(given)
    return given
