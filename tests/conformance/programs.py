"""Models whose ``execute`` is sent to them: a program is the body of one execute.

It has ``requests``, ``request`` (the first), ``sender`` (its), ``self`` (``self.kept`` is a dict
that stays, ``self.count`` how many calls there were), ``response(*values)``, ``error(text)``,
``attempt(call, *arguments)``, which tells what a call returns or raises, and ``pb_utils``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
from broken_models import both_engines, write_models
from comparing import Engines

from triton_stub.engines.engine import Engine
from triton_stub.errors import InferenceError

MODEL = """
import asyncio, re, textwrap, threading, time
import numpy as np
import triton_python_backend_utils as pb_utils

AGAIN = pb_utils.TRITONSERVER_REQUEST_RELEASE_RESCHEDULE

def tensor(*values, name="OUT"):
    return pb_utils.Tensor(name, np.array([str(value).encode() for value in values], object))

def response(*values):
    return pb_utils.InferenceResponse([tensor(*values)])

def error(text):
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(text))

def attempt(call, *arguments):
    try:
        return repr(call(*arguments))
    except Exception as error:
        return re.sub("0x[0-9a-f]+", "0x", f"{type(error).__name__}: {error}")

class TritonPythonModel:
    def initialize(self, args):
        self.kept = {}
        self.count = 0

    START execute(self, requests):
        self.count += 1
        request = requests[0]
        code = pb_utils.get_input_tensor_by_name(request, "CODE").as_numpy().flatten()[0]
        names = {**globals(), "self": self, "requests": requests, "request": request}
        names["sender"] = request.get_response_sender()
        body = textwrap.indent(code.decode(), "    ")
        made = {}
        exec(compile(f"START body():\\n{body}", "program.py", "exec"), names, made)
        return AWAIT made["body"]()

    def finalize(self):
        pb_utils.Logger.log_info("finalized")
"""
CONFIG = """
backend: "python"
input { name: "CODE" data_type: TYPE_STRING dims: [ 1 ] }
output [ { name: "OUT" data_type: TYPE_STRING dims: [ -1 ] },
         { name: "MORE" data_type: TYPE_STRING dims: [ -1 ] } ]
"""
DECOUPLED = "model_transaction_policy { decoupled: true }\n"
# The server forgets a sequence for which nothing comes for so long; a test may be slow.
PATIENT = "iterative_sequence: true max_sequence_idle_microseconds: 60000000"
ITERATIVE = f"sequence_batching {{ {PATIENT} }}\n"
OLDEST = f"sequence_batching {{ {PATIENT} oldest {{ max_candidate_sequences: 4 }} }}\n"
# A batch of three, as soon as there are three.
THREE = (
    "max_batch_size: 3 dynamic_batching { preferred_batch_size: [ 3 ] "
    "max_queue_delay_microseconds: 60000000 }\n"
)
KINDS = {
    "plain": "",
    "decoupled": DECOUPLED,
    "asynchronous": "",
    "background": DECOUPLED,
    "iterative": ITERATIVE,
    "iterative_decoupled": ITERATIVE + DECOUPLED,
    "direct": "max_batch_size: 4 " + ITERATIVE,
    "oldest": "max_batch_size: 4 " + OLDEST,
    "three": THREE,
    "three_decoupled": THREE + DECOUPLED,
    "single": "max_batch_size: 1 dynamic_batching { }\n",
}


def write_programs(repository: Path, kinds: Iterable[str]) -> None:
    """Write models of these kinds, each under its own name."""
    for kind in kinds:
        start = "async def" if kind in ("asynchronous", "background") else "def"
        await_ = "await" if start == "async def" else ""
        model = MODEL.replace("START", start).replace("AWAIT", await_)
        write_models(repository, {kind: model}, CONFIG + KINDS[kind])


def both_with_programs(repository: Path, *kinds: str) -> AbstractContextManager[Engines]:
    """Both engines with models of these kinds."""
    write_programs(repository, kinds)
    # Of some programs the real server never forgets that they are open.
    return both_engines(repository, options=["--exit-timeout-secs=1"])


def sent(program: str, kind: str) -> np.ndarray:
    """The input CODE for a model of this kind."""
    code = np.array([program.encode()], object)
    return code.reshape(1, 1) if "max_batch_size" in KINDS[kind] else code


def run(engine: Engine, kind: str, program: str, **request: Any) -> list[Any]:
    """Every response to a program, in order."""
    return list(running(engine, kind, program, **request))


def running(engine: Engine, kind: str, program: str, **request: Any) -> Iterator[Any]:
    """The same, as they come: the texts of OUT, or the error's text, and if it is the last one."""
    for answer in engine.stream(kind, CODE=sent(program, kind), **request):
        if isinstance(answer, InferenceError):
            # Whether it is the last one, a stream does not say of an error.
            yield _comparable(answer.message)
        else:
            values = {name: [v.decode() for v in answer[name].flatten()] for name in answer}
            yield values, answer.final


def _comparable(text: str) -> str:
    return re.sub(r"  \S*/(\w+/1/model.py)", r"  …/\1", text)
