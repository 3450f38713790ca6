"""Models whose clients are compared, and both engines with them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from broken_models import both_engines, write_models
from flavours import Flavours, all_flavours
from instances import write_files

# What model ``pair`` takes.
PAIR = {
    "X": np.array([[1, 2, 0.5]], np.float32),
    "S": np.array([[b"abc", "\u00e9".encode()]], dtype=np.object_),
}
FIRST = ("pair", "same", "told", "waits", "counts", "sums", "together", "broken")

_PAIR = """
name: "pair"
backend: "python"
max_batch_size: 8
version_policy { all { } }
input { name: "X" data_type: TYPE_FP32 dims: [ -1 ] }
input { name: "S" data_type: TYPE_STRING dims: [ -1 ] }
output { name: "Y" data_type: TYPE_FP32 dims: [ -1 ] label_filename: "labels.txt" }
output { name: "T" data_type: TYPE_STRING dims: [ -1 ] }
"""
_TEXT = """
backend: "python"
input { name: "IN" data_type: TYPE_STRING dims: [ 1 ] }
output { name: "OUT" data_type: TYPE_STRING dims: [ 1 ] }
"""
# The same as JSON.
TOLD_CONFIG = {
    "backend": "python",
    "input": [{"name": "IN", "data_type": "TYPE_STRING", "dims": [1]}],
    "output": [{"name": "OUT", "data_type": "TYPE_STRING", "dims": [1]}],
}
_NUMBER = """
backend: "python"
input { name: "IN" data_type: TYPE_INT32 dims: [ 1 ] }
output { name: "OUT" data_type: TYPE_INT32 dims: [ 1 ] }
"""
_COUNTS = _NUMBER + "model_transaction_policy { decoupled: true }"
_SUMS = _NUMBER + "sequence_batching { max_sequence_idle_microseconds: 60000000 }"
# Executes when four have come, and not before.
_TOGETHER = (
    _NUMBER
    + "max_batch_size: 4\n"
    + "dynamic_batching { preferred_batch_size: 4 max_queue_delay_microseconds: 60000000 }"
)

_HEAD = """
import json
import os
import time

import numpy as np
import triton_python_backend_utils as pb_utils


def given(request, name="IN"):
    return pb_utils.get_input_tensor_by_name(request, name).as_numpy()


def answer(**arrays):
    return pb_utils.InferenceResponse([pb_utils.Tensor(*item) for item in arrays.items()])


class TritonPythonModel:
    def initialize(self, args):
        self.version = int(args["model_version"])
        self.sum = 0

    def execute(self, requests):
        return [self.one(request, requests) for request in requests]

    def one(self, request, requests):
"""

# Of each datatype.
VALUES: dict[str, np.ndarray] = {
    "BOOL": np.array([[True, False]]),
    **{
        name: np.array([[0, 1, limits.min, limits.max]], name.lower())
        for name in ("INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64")
        for limits in [np.iinfo(name.lower())]
    },
    "FP16": np.array([[0.5, -65504, 6e-8]], np.float16),
    "FP32": np.array([[0.1, -0.0, 3e38]], np.float32),
    "FP64": np.array([[0.1, 1e-310, -1e308]]),
    "BF16": np.array([[0.5, -3e38]], ml_dtypes.bfloat16),
    "STRING": np.array([[b"", b"text", "\u00e9\n".encode() * 300]], dtype=np.object_),
}


def _same() -> str:
    rows = ['backend: "python"', "max_batch_size: 4"]
    for name in VALUES:
        tensor = f'name: "{name}" data_type: TYPE_{name} dims: [ -1 ]'
        rows += [f"input {{ {tensor} optional: true }}", f"output {{ {tensor} }}"]
    return "\n".join(rows)


def _one(code: str) -> str:
    return _HEAD + "".join(f"        {line}\n" for line in code.strip().splitlines())


_SAME_CODE = _one("""
return pb_utils.InferenceResponse(request.inputs())
""")
_PAIR_CODE = _one("""
turned = np.array([text[::-1] for text in given(request, "S").ravel()], dtype=np.object_)
return answer(Y=given(request, "X") * self.version, T=turned.reshape(given(request, "S").shape))
""")
TOLD_CODE = _one("""
told = {
    "id": request.request_id(),
    "correlation": request.correlation_id(),
    "flags": request.flags(),
    "timeout": request.timeout(),
    "parameters": json.loads(request.parameters()),
    "outputs": sorted(request.requested_output_names()),
}
return answer(OUT=np.array([json.dumps(told, sort_keys=True).encode()], dtype=np.object_))
""")
# Until there is a file, or nobody waits.
_WAITS_CODE = _one("""
gate = given(request)[0].decode()
open(gate + ".begun", "w").close()
until = time.monotonic() + 60
while not (os.path.exists(gate) or request.is_cancelled()) and time.monotonic() < until:
    time.sleep(0.005)
if request.is_cancelled():
    open(gate + ".cancelled", "w").close()
return answer(OUT=np.array([b"done"], dtype=np.object_))
""")
_COUNTS_CODE = _one("""
sender = request.get_response_sender()
count = int(given(request)[0])
for number in range(abs(count)):
    sender.send(answer(OUT=np.array([number], np.int32)))
if count < 0:
    sender.send(pb_utils.InferenceResponse(error=pb_utils.TritonError("below zero")))
sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
""").replace("return [", "[", 1)  # a decoupled model returns nothing
_SUMS_CODE = _one("""
if request.flags() & pb_utils.TRITONSERVER_REQUEST_FLAG_SEQUENCE_START:
    self.sum = 0
self.sum += int(given(request)[0])
return answer(OUT=np.array([self.sum], np.int32))
""")
_TOGETHER_CODE = _one("""
return answer(OUT=given(request) * 0 + len(requests))
""")
_BROKEN_CODE = _one("""
raise ValueError("this model is broken")
""")


def write(repository: Path) -> None:
    """All models; those of FIRST are to be loaded at the start."""
    write_files(
        repository / "pair",
        {
            "config.pbtxt": _PAIR,
            "labels.txt": "zero\none\ntwo\n",
            "1/model.py": _PAIR_CODE,
            "2/model.py": _PAIR_CODE,
        },
    )
    write_models(repository, {"spare": TOLD_CODE, "told": TOLD_CODE, "waits": _WAITS_CODE}, _TEXT)
    write_models(repository, {"same": _SAME_CODE}, _same())
    write_models(repository, {"counts": _COUNTS_CODE}, _COUNTS)
    write_models(repository, {"sums": _SUMS_CODE}, _SUMS)
    write_models(repository, {"together": _TOGETHER_CODE}, _TOGETHER)
    write_models(repository, {"broken": _BROKEN_CODE}, _NUMBER)


def number(value: int) -> dict[str, Any]:
    """What the models of numbers take."""
    return {"IN": np.array([value], np.int32)}


@contextmanager
def clients_of_both(folder: Path) -> Iterator[Flavours]:
    """Both engines with these models, loaded by name, and their clients."""
    write(folder)
    loaded = [f"--load-model={name}" for name in FIRST]
    with (
        both_engines(
            folder,
            options=["--model-control-mode=explicit", "--model-load-thread-count=1", *loaded],
            model_control_mode="explicit",
            startup_models=FIRST,
        ) as engines,
        all_flavours(engines) as flavours,
    ):
        yield flavours
