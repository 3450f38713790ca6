"""Models that answer as a request's parameters say, and how to wait for what they do."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from broken_models import CONFIG, both_engines, write_models
from comparing import Engines
from patience import wait_until

from triton_stub.engines.engine import Engine

_HELP = """
import json
import os
import threading
import time
import triton_python_backend_utils as pb_utils

ERRORS = {}


def at(asked, name):
    return asked.get(name, os.devnull)


def wait(path, request=None):
    end = time.monotonic() + 60
    while time.monotonic() < end and not os.path.exists(path):
        time.sleep(0.002)


def touch(path):
    open(path, "w").close()


def be_cancelled(asked, request):
    end = time.monotonic() + 60
    while time.monotonic() < end and not request.is_cancelled():
        time.sleep(0.002)
    if request.is_cancelled():
        touch(asked["cancelled"])


def array(request):
    return pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()


def output(value):
    return pb_utils.InferenceResponse([pb_utils.Tensor("OUT", value)])


def failure(text, code):
    code = getattr(pb_utils.TritonError, code)
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(text, code))
"""
# started: a file to make; until: one to wait for; cancelled: one to make when it is; error, code.
_ONCE = (
    _HELP
    + """

class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request, json.loads(request.parameters())) for request in requests]

    def answer(self, request, asked):
        touch(at(asked, "started"))
        if "until" in asked:
            wait(asked["until"])
        if "cancelled" in asked:
            be_cancelled(asked, request)
        if "error" in asked:
            return failure(asked["error"], asked.get("code", "INTERNAL"))
        return output(array(request) + 1)
"""
)
# The same before response number ``at``; count responses, of which number ``error_at`` is an error;
# bare: the final flag comes on its own; done: a file to make at the end; size: of each output.
_MANY = (
    _HELP
    + """

class TritonPythonModel:
    def initialize(self, args):
        self.threads = []

    def execute(self, requests):
        for request in requests:
            given = request, request.get_response_sender(), json.loads(request.parameters())
            self.threads.append(threading.Thread(target=self.answer, args=given))
            self.threads[-1].start()

    def answer(self, request, sender, asked):
        value, count, bare = array(request), asked.get("count", 1), asked.get("bare", False)
        for number in range(count):
            if number == asked.get("at", 0):
                touch(at(asked, "started"))
                if "until" in asked:
                    wait(asked["until"])
                if "cancelled" in asked:
                    be_cancelled(asked, request)
            response = output((value + number).repeat(asked.get("size", 1)))
            if number == asked.get("error_at", -1):
                response = failure(f"no {number}", asked.get("code", "INTERNAL"))
            sender.send(response, flags=int(number == count - 1 and not bare))
        if bare or not count:
            sender.send(flags=1)
        touch(at(asked, "done"))

    def finalize(self):
        for thread in self.threads:
            thread.join()
"""
)
_SUMS = """
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        self.sums = {}

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        value, start, sequence = (
            pb_utils.get_input_tensor_by_name(request, name).as_numpy()
            for name in ("IN", "START", "ID")
        )
        sequence = int(sequence.item())
        self.sums[sequence] = value + (0 if start.item() else self.sums[sequence])
        return pb_utils.InferenceResponse([pb_utils.Tensor("OUT", self.sums[sequence])])
"""
# Answers by a sender: r and R are responses, e and E errors, of which those in capitals are final;
# f is the final flag on its own.
_SENDER = (
    _HELP
    + """

class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            sender = request.get_response_sender()
            for kind in json.loads(request.parameters())["kinds"]:
                if kind == "f":
                    sender.send(flags=1)
                else:
                    response = failure("no", "INTERNAL") if kind in "eE" else output(array(request))
                    sender.send(response, flags=int(kind in "RE"))
"""
)
_DECOUPLED = CONFIG + "model_transaction_policy { decoupled: true }"
_SEQUENCE = (
    CONFIG
    + """
sequence_batching {
  control_input {
    name: "START" control { kind: CONTROL_SEQUENCE_START int32_false_true: [ 0, 1 ] }
  }
  control_input { name: "ID" control { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_UINT64 } }
}
"""
)
_STEP = """
platform: "ensemble"
input { name: "IN" data_type: TYPE_FP32 dims: [ -1 ] }
output { name: "OUT" data_type: TYPE_FP32 dims: [ -1 ] }
ensemble_scheduling { step {
  model_name: "many" model_version: -1
  input_map { key: "IN" value: "IN" } output_map { key: "OUT" value: "OUT" }
} }
"""
#: Models that answer once, and decoupled ones.
ONCE = ("once", "other", "slow")
MANY = ("many", "more", "steps")
_NUMBERS = itertools.count()


def write_stream_models(folder: Path) -> None:
    """Write them all: ``once`` has three instances; ``steps`` is an ensemble."""
    threefold = CONFIG + "instance_group { kind: KIND_CPU count: 3 }"
    write_models(folder, {"once": _ONCE}, threefold)
    write_models(folder, {"slow": _ONCE, "other": _ONCE, "sender": _SENDER})
    write_models(folder, {"many": _MANY, "more": _MANY}, _DECOUPLED)
    write_models(folder, {"sums": _SUMS}, _SEQUENCE)
    write_models(folder, {"steps": {"1/none": "", "config.pbtxt": _STEP}})


@contextmanager
def both_with_stream_models(folder: Path) -> Iterator[Engines]:
    """Both engines with all of them, which may be unloaded and loaded."""
    write_stream_models(folder)
    options = ["--model-control-mode=explicit", "--load-model=*"]
    explicit: Any = {"model_control_mode": "explicit", "startup_models": ["*"]}
    with both_engines(folder, options=options, **explicit) as engines:
        yield engines


class Signs:
    """Files by which a test and a model tell each other how far they are."""

    def __init__(self, folder: Path, engine: Engine) -> None:
        self._folder = folder / f"{engine.name}-{next(_NUMBERS)}"
        self._folder.mkdir()

    def __call__(self, name: str) -> str:
        """The path of a file, which need not be there."""
        return str(self._folder / name)

    def give(self, name: str) -> None:
        """Make a file that a model waits for."""
        Path(self(name)).touch()

    def wait(self, *names: str) -> None:
        """Wait for what a model makes."""
        for name in names:
            wait_until(Path(self(name)).exists, f"no file {name}")
