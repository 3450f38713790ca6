"""Models for the generate extension, and what a server answers to a raw request for one."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from broken_models import both_engines, write_models
from comparing import Engines
from programs import write_programs

# Answers with its inputs, and with what it has seen of the request.
ECHO = """
import json
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        seen = {tensor.name(): tensor.shape() for tensor in request.inputs()}
        seen |= {"parameters": json.loads(request.parameters()), "id": request.request_id()}
        seen |= {"sequence": [request.correlation_id(), request.flags()]}
        text = json.dumps(seen, sort_keys=True).encode()
        tensors = [pb_utils.Tensor("SEEN", np.array([text], object))]
        for tensor in request.inputs():
            tensors.append(pb_utils.Tensor("O_" + tensor.name(), tensor.as_numpy()))
        return pb_utils.InferenceResponse(tensors)
"""
NUMBERS = ("UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64")
#: Of ``echo`` and ``batched``: datatype and dims of each input.
INPUTS = {
    **{name: (name, "[ -1 ]") for name in (*NUMBERS, "FP16", "BF16", "FP32", "FP64", "BOOL")},
    "text": ("STRING", "[ -1 ]"),
    "one_text": ("STRING", "[ 1 ]"),
    "one": ("INT32", "[ 1 ]"),
    "flat": ("INT32", "[ 6 ]"),
    "matrix": ("INT32", "[ 2, 3 ]"),
    "any_matrix": ("INT32", "[ -1, -1 ]"),
    "rows": ("INT32", "[ -1, 3 ]"),
    "columns": ("INT32", "[ 2, -1 ]"),
}
# Outputs that are named like what the protocol tells itself, and others of all sizes.
ODD = """
import numpy as np
import triton_python_backend_utils as pb_utils

def tensor(name, values, dtype):
    return pb_utils.Tensor(name, np.array(values, dtype))

class TritonPythonModel:
    def execute(self, requests):
        return [
            pb_utils.InferenceResponse([
                tensor("id", [b"an output"], object),
                tensor("model_name", [b"an output"], object),
                tensor("nothing", [], np.int32),
                tensor("nested", [[1, 2], [3, 4]], np.float64),
                tensor("scalar", 5, np.int64),
                tensor("alone", [[[7]]], np.int64),
                tensor("\\u00e9", [b"\\xff\\x00", b"\\n\\ndata: x"], object),
            ])
            for request in requests
        ]
"""
HALF = """
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        tensor = pb_utils.Tensor("OUT", np.array([1], np.float16))
        return [pb_utils.InferenceResponse([tensor]) for request in requests]
"""
# Tells how full its cache is, as TensorRT-LLM does.
CACHED = """
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        name = "nv_trt_llm_kv_cache_block_metrics"
        self.family = pb_utils.MetricFamily(name, "Blocks", pb_utils.MetricFamily.GAUGE)
        self.gauges = [self.gauge(*each) for each in (("tokens_per", 64), ("used", 3), ("max", 8))]

    def gauge(self, kind, value):
        gauge = self.family.Metric(labels={"kv_cache_block_type": kind, "model": "cached"})
        gauge.set(value)
        return gauge

    def execute(self, requests):
        return [pb_utils.InferenceResponse([]) for request in requests]
"""
# Of one step, the model that is filled in.
ENSEMBLE = """
platform: "ensemble"
input { name: "CODE" data_type: TYPE_STRING dims: [ 1 ] }
output { name: "OUT" data_type: TYPE_STRING dims: [ -1 ] }
ensemble_scheduling { step {
    model_name: "%s"
    model_version: -1
    input_map { key: "CODE" value: "CODE" }
    output_map { key: "OUT" value: "OUT" }
} }
"""


class Answer(NamedTuple):
    """What two servers must agree on."""

    status: int
    media_type: str | None
    chunked: bool
    #: The JSON of each event, its members as pairs, in order; of other media types one.
    events: str


def config(inputs: Mapping[str, tuple[str, str]], batch: int = 0) -> str:
    """Inputs that may be missing, an output for each, and one for what is seen."""
    tensors = [
        f'input {{ name: "{name}" data_type: TYPE_{datatype} dims: {dims} optional: true }}\n'
        f'output {{ name: "O_{name}" data_type: TYPE_{datatype} dims: {dims} }}\n'
        for name, (datatype, dims) in inputs.items()
    ]
    seen = 'output { name: "SEEN" data_type: TYPE_STRING dims: [ 1 ] }\n'
    return f'backend: "python"\nmax_batch_size: {batch}\n{"".join(tensors)}{seen}'


def _odd_config() -> str:
    outputs = {
        **dict.fromkeys(("id", "model_name", "é"), ("STRING", "[ -1 ]")),
        "nothing": ("INT32", "[ -1 ]"),
        "nested": ("FP64", "[ -1, -1 ]"),
        "scalar": ("INT64", "[ -1 ]"),
        "alone": ("INT64", "[ -1, -1, -1 ]"),
    }
    return 'backend: "python"\ninput { name: "IN" data_type: TYPE_INT32 dims: [ 1 ] }\n' + "".join(
        f'output {{ name: "{name}" data_type: TYPE_{datatype} dims: {dims} }}\n'
        for name, (datatype, dims) in outputs.items()
    )


@contextmanager
def both_with_models(repository: Path) -> Iterator[Engines]:
    """Both engines with models of all kinds; see ``programs`` for those that are sent a CODE."""
    write_programs(repository, ("plain", "decoupled", "single", "background"))
    for name, batch in (("echo", 0), ("batched", 4)):
        write_models(repository, {name: ECHO}, config(INPUTS, batch))
    write_models(repository, {"clash": ECHO}, config({"parameters": ("STRING", "[ 1 ]")}))
    sequence = config({"one": INPUTS["one"]}, 4) + "sequence_batching { }"
    write_models(repository, {"sequence": ECHO}, sequence)
    write_models(repository, {"odd": ODD}, _odd_config())
    write_models(repository, {"cached": CACHED}, config({"one": INPUTS["one"]}))
    half = 'backend: "python"\noutput { name: "OUT" data_type: TYPE_FP16 dims: [ 1 ] }\n'
    given = 'input { name: "IN" data_type: TYPE_INT32 dims: [ 1 ] }\n'
    write_models(repository, {"half": HALF}, half + given)
    for step in ("plain", "decoupled"):
        (repository / f"ensemble_{step}" / "1").mkdir(parents=True)
        (repository / f"ensemble_{step}" / "config.pbtxt").write_text(ENSEMBLE % step)
    # Of some programs the real server never forgets that they are open.
    with both_engines(repository, options=["--exit-timeout-secs=1"]) as engines:
        yield engines


def ask(
    url: str,
    path: str,
    body: Any,
    *,
    method: str = "POST",
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """A raw request for ``/v2/models/{path}``; a body that is no bytes is sent as JSON."""
    connection = http.client.HTTPConnection(url, timeout=60)
    try:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        connection.request(method, f"/v2/models/{path}", data, dict(headers or {}))
        response = connection.getresponse()
        content = response.read()
    finally:
        connection.close()
    media_type = response.headers["Content-Type"]
    chunked = response.headers["Transfer-Encoding"] == "chunked"
    assert chunked == (response.headers["Content-Length"] is None)
    parts = _events(content) if str(media_type).startswith("text/event-stream") else [content]
    # repr, because NaN is not equal to itself.
    return Answer(response.status, media_type, chunked, repr([told(part) for part in parts]))


def _events(content: bytes) -> list[bytes]:
    *events, rest = content.split(b"\n\n")
    assert rest == b""
    assert all(event.startswith(b"data: ") for event in events)
    return [event.removeprefix(b"data: ") for event in events]


def told(document: bytes) -> Any:
    """A JSON text: objects as lists of pairs, and what the model has seen as JSON once more."""

    def pairs(members: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
        return [(key, json.loads(value) if key == "SEEN" else value) for key, value in members]

    return json.loads(document.decode(errors="surrogateescape"), object_pairs_hook=pairs)
