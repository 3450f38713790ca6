"""Models whose statistics, metrics and traces are compared, and how these are read."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from broken_models import write_models
from comparing import Engines
from patience import wait_until
from prometheus_client.parser import text_string_to_metric_families
from tritonclient.grpc import InferenceServerClient, InferInput

from triton_stub import InferenceError
from triton_stub.engines.engine import Engine
from triton_stub.engines.native import NativeEngine
from triton_stub.engines.stub import StubEngine

PATIENCE = 60.0
_LONG = ("nv_inference_request_duration_us", "nv_inference_compute_infer_duration_us")
# Families since 24.11: core src/metrics.cc.
NEWER = ("nv_model_load_duration_secs",)
CACHE = {"local": {"size": 1048576}}
CACHE_OPTION = "--cache-config=local,size=1048576"
MODELS = [
    *("plain", "two", "asks", "cached", "answers", "dynamic", "slow", "patient", "sequence"),
    *("ensemble", "full", "again"),
]

CONFIG = """
backend: "python"
max_batch_size: 8
input { name: "X" data_type: TYPE_FP32 dims: [ 1 ] }
output { name: "Y" data_type: TYPE_FP32 dims: [ 1 ] }
"""
_HEAD = """
import os, time
import triton_python_backend_utils as pb_utils

def value(request):
    return pb_utils.get_input_tensor_by_name(request, "X").as_numpy()

def response(request):
    return pb_utils.InferenceResponse([pb_utils.Tensor("Y", value(request))])
"""
# -1 fails, 9 answers with an error; 4 makes a file beside the model and waits for another.
PLAIN = (
    _HEAD
    + """
def answer(request):
    first = value(request)[0, 0]
    if first == 4:
        open(__file__ + ".begun", "w").close()
        until = time.monotonic() + 120
        while not os.path.exists(__file__ + ".open") and time.monotonic() < until:
            time.sleep(0.005)
    if first == -1:
        raise ValueError("negative")
    if first == 9:
        return pb_utils.InferenceResponse(error=pb_utils.TritonError("nine"))
    return response(request)

class TritonPythonModel:
    def execute(self, requests):
        return [answer(request) for request in requests]
"""
)
# Two requests of its own to the plain model; 5 does not hand on its trace.
ASKS = (
    _HEAD
    + """
class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            tensor = pb_utils.get_input_tensor_by_name(request, "X")
            traced = {} if value(request)[0, 0] == 5 else {"trace": request.trace()}
            for request_id in ("inner", ""):
                pb_utils.InferenceRequest(
                    request_id=request_id, model_name="plain", inputs=[tensor],
                    requested_output_names=["Y"], **traced,
                ).exec()
        return [response(request) for request in requests]
"""
)
# As many responses as the value says.
ANSWERS = (
    _HEAD
    + """
class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            sender = request.get_response_sender()
            for _ in range(int(value(request)[0, 0])):
                sender.send(response(request))
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""
)
BROKEN = """
class TritonPythonModel:
    def initialize(self, args):
        raise ValueError("no")
"""
STEP = """
step { model_name: "%s" model_version: -1
  input_map { key: "X" value: "%s" } output_map { key: "Y" value: "%s" } }
"""
ENSEMBLE = (
    CONFIG.replace('backend: "python"', 'platform: "ensemble"')
    + "ensemble_scheduling {"
    + STEP % ("plain", "X", "between")
    + STEP % ("dynamic", "between", "Y")
    + "}"
)
# Nothing is executed before it has waited for a minute, or there are eight rows.
PATIENT = "dynamic_batching { max_queue_delay_microseconds: 60000000 }"
# And nothing may wait for so long.
SLOW = PATIENT[:-1] + "default_queue_policy { default_timeout_microseconds: 200000 } }"


# One request may wait, for half a second.
FULL = (
    "dynamic_batching { max_queue_delay_microseconds: 500000 "
    "default_queue_policy { max_queue_size: 1 } }"
)
ITERATIVE = "sequence_batching { iterative_sequence: true }"
# As many responses as the value says, each from another call of execute.
AGAIN = (
    _HEAD
    + """
class TritonPythonModel:
    def initialize(self, args):
        self.calls = 0

    def execute(self, requests):
        for request in requests:
            self.calls += 1
            sender = request.get_response_sender()
            if self.calls < value(request)[0, 0]:
                sender.send(response(request))
                request.set_release_flags(pb_utils.TRITONSERVER_REQUEST_RELEASE_RESCHEDULE)
            else:
                self.calls = 0
                sender.send(response(request), pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""
)


def write(repository: Path) -> None:
    """Write the models."""
    write_models(repository, {"plain": PLAIN, "spare": PLAIN, "broken": BROKEN}, CONFIG)
    write_models(repository, {"asks": ASKS}, CONFIG)
    write_models(repository, {"cached": PLAIN}, CONFIG + "response_cache { enable: true }")
    decoupled = "model_transaction_policy { decoupled: true }"
    write_models(repository, {"answers": ANSWERS}, CONFIG + decoupled)
    write_models(repository, {"dynamic": PLAIN}, CONFIG + "dynamic_batching { }")
    write_models(repository, {"slow": PLAIN}, CONFIG + SLOW)
    write_models(repository, {"patient": PLAIN}, CONFIG + PATIENT)
    write_models(repository, {"full": PLAIN}, CONFIG + FULL)
    write_models(repository, {"sequence": PLAIN}, CONFIG + "sequence_batching { direct { } }")
    write_models(repository, {"again": AGAIN}, CONFIG + decoupled + ITERATIVE)
    more = 'version_policy { all { } } metric_tags { key: "team" value: "a \\"b\\"" }'
    versions = {"1/model.py": PLAIN, "2/model.py": PLAIN}
    write_models(repository, {"two": versions}, CONFIG + more)
    write_models(repository, {"ensemble": {"1/nothing": ""}}, ENSEMBLE)


def ask(engine: Engine, model: str, value: float = 1, rows: int = 1, **request: Any) -> str:
    """What becomes of a request: its output, or the beginning of the error."""
    try:
        answer = engine.infer(model, {"X": np.full((rows, 1), value, np.float32)}, **request)
    except InferenceError as error:
        return error.message.partition("\n")[0]
    return str(answer["Y"].tolist())


def cancelled(engine: Engine, model: str) -> None:
    """Send a request, and cancel it when it is in the queue."""
    array = np.ones((1, 1), np.float32)
    if isinstance(engine, StubEngine):
        cancel: Callable[[], Any] = engine.model(model).infer(inputs={"X": array}).cancel
        wait_for_pending(engine, model, 1)
        cancel()
        return
    assert isinstance(engine, NativeEngine)
    tensor = InferInput("X", [1, 1], "FP32").set_data_from_numpy(array)
    with InferenceServerClient(engine.grpc_url) as client:
        call = client.async_infer(model, [tensor], callback=lambda *_, **__: None)
        wait_for_pending(engine, model, 1)
        call.cancel()


def series(engine: Engine) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every number of the page of metrics that is a count of the server's own."""
    return {
        (sample.name.removesuffix("_total"), tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(engine.metrics())
        for sample in family.samples
        if sample.labels and family.name not in NEWER
    }


def counted(engine: Engine) -> dict[Any, float]:
    """The same; of durations only whether there was any, or if it may be short, that it is told."""

    def told(name: str, number: float) -> float:
        if "duration" not in name:
            return number
        return float(number > 0) if name in _LONG else 1.0

    return {key: told(key[0], number) for key, number in series(engine).items()}


def pending(engine: Engine, model: str) -> float:
    """How many requests wait for a model, as the page of metrics says."""
    return series(engine)[
        "nv_inference_pending_request_count", (("model", model), ("version", "1"))
    ]


def wait_for_pending(engine: Engine, model: str, number: int) -> None:
    """Wait until so many requests wait for a model."""
    wait_until(lambda: pending(engine, model) == number)


def settled(engines: Engines, read: Callable[[Engine], Any]) -> Any:
    """What ``read`` tells of both engines, as soon as it is the same."""
    deadline = time.monotonic() + PATIENCE
    expected = read(engines.stub)
    while (found := read(engines.native)) != expected and time.monotonic() < deadline:
        time.sleep(0.02)
        expected = read(engines.stub)
    assert expected == found
    return expected


def statistics(engine: Engine, model: str = "") -> Any:
    """The statistics without times: how often each thing was counted."""

    def counts(value: Any) -> Any:
        if isinstance(value, list):
            return [counts(item) for item in value]
        if isinstance(value, dict):
            return {
                name: item > 0 if name == "last_inference" else counts(item)
                for name, item in value.items()
                if name != "ns"
            }
        return value

    return counts(engine.statistics(model))
