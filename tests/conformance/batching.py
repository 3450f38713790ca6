"""Models that tell in which batch each request was, and requests that come in a known order."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from patience import wait_until

from triton_stub.engines.engine import Engine
from triton_stub.engines.stub import StubEngine
from triton_stub.errors import InferenceError

_LOADED = itertools.count()
_PATIENCE = 60.0  # seconds until a request must be where it goes

# Tells each request in which call of execute it is, where in it, and the shape of its first input
# as the model has it. One with a parameter "gate" keeps the model busy until the file of that name
# exists; that it has begun, another file says. With a parameter "seconds" it keeps it busy so long.
MODEL = """
import json, os, time
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        self.calls = 0

    def execute(self, requests):
        call, self.calls = self.calls, self.calls + 1
        for request in requests:
            parameters = json.loads(request.parameters() or "{}")
            time.sleep(float(parameters.get("seconds", 0)))
            gate = parameters.get("gate")
            if gate:
                open(gate + ".begun", "w").close()
                until = time.monotonic() + 120
                while not os.path.exists(gate) and time.monotonic() < until:
                    time.sleep(0.005)
        told = [
            np.array([call, position, *request.inputs()[0].shape()], np.int32)
            for position, request in enumerate(requests)
        ]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("CALL", one)]) for one in told]
"""
INPUTS = """
input { name: "FIXED" data_type: TYPE_FP32 dims: [ 1 ] }
input { name: "OPEN" data_type: TYPE_FP32 dims: [ -1 ] }
input { name: "RAGGED" data_type: TYPE_FP32 dims: [ -1 ] allow_ragged_batch: true }
input { name: "MAYBE" data_type: TYPE_FP32 dims: [ 1 ] optional: true }
"""
OUTPUTS = 'output { name: "CALL" data_type: TYPE_INT32 dims: [ -1 ] }'


@dataclass(frozen=True)
class Arrival:
    """A request: its rows, the sizes of its inputs, and what the batcher looks at.

    0 rows are those of a model without a batch dimension.
    """

    rows: int = 1
    sizes: Mapping[str, int] = field(default_factory=lambda: {"FIXED": 1})
    priority: int = 0
    timeout: int = 0  # microseconds
    parameters: Mapping[str, str] = field(default_factory=dict)

    def ask(self, engine: Engine, model: str, name: str) -> Callable[[], np.ndarray]:
        """Send it, on the stub before this returns; what is returned waits for the answer."""
        shapes = {key: (self.rows, size)[not self.rows :] for key, size in self.sizes.items()}
        inputs = {key: np.zeros(shape, np.float32) for key, shape in shapes.items()}
        more: dict[str, Any] = {"priority": self.priority, "timeout": self.timeout}
        more |= {"request_id": name, "parameters": dict(self.parameters)}
        if isinstance(engine, StubEngine):
            answer = engine.model(model).infer(inputs=inputs, **more)
            return lambda: np.from_dlpack(next(answer).outputs["CALL"])
        return lambda: engine.infer(model, inputs, **more)["CALL"]


class Queue:
    """Requests to one model of an engine, each in its queue before the next one is sent."""

    def __init__(self, engine: Engine, model: str, pool: ThreadPoolExecutor) -> None:
        self._engine = engine
        self._model = model
        self._pool = pool
        self._sent: dict[str, Future[np.ndarray]] = {}

    def start(self, arrival: Arrival, name: str) -> None:
        """Send a request, and do not wait."""
        try:
            answer = arrival.ask(self._engine, self._model, name)
        except InferenceError as error:
            self._sent[name] = Future()
            self._sent[name].set_exception(error)
        else:
            self._sent[name] = self._pool.submit(answer)

    def send(self, arrival: Arrival, name: str = "") -> bool:
        """Send a request, and wait until it is queued; False if there is no room in the queue."""
        name = name or f"r{len(self._sent)}"
        waiting = self._waiting()
        self.start(arrival, name)
        wait_until(lambda: self.is_answered(name) or self._waiting() > waiting)
        error = self._sent[name].exception() if self.is_answered(name) else None
        return not str(error).endswith("Exceeds maximum queue size")

    def outcome(self) -> tuple[list[list[str]], dict[str, str]]:
        """Wait for every answer: the requests of each call in their order, and all errors."""
        executed: list[tuple[int, int, str]] = []
        errors: dict[str, str] = {}
        for name, answer in self._sent.items():
            try:
                call, position, *shape = answer.result(_PATIENCE).tolist()
            except InferenceError as error:
                errors[name] = error.message
            else:
                executed.append((call, position, f"{name} {shape}"))
        calls: dict[int, list[str]] = {}
        for call, _, told in sorted(executed):
            calls.setdefault(call, []).append(told)
        return list(calls.values()), errors

    def is_answered(self, name: str) -> bool:
        """True if there is an answer to a request."""
        return self._sent[name].done()

    @staticmethod
    def waiting(engine: Engine, model: str) -> int:
        """How many requests to a model are not executed yet."""
        found = re.search(
            rf'^nv_inference_pending_request_count{{model="{model}",.*}} (\d+)',
            engine.metrics(),
            re.MULTILINE,
        )
        return int(found[1]) if found else 0

    def _waiting(self) -> int:
        return self.waiting(self._engine, self._model)


@contextmanager
def queueing(engine: Engine, model: str) -> Iterator[Queue]:
    """A queue of so many requests at most."""
    with ThreadPoolExecutor(32) as pool:
        yield Queue(engine, model, pool)


@contextmanager
def collected(engine: Engine, model: str) -> Iterator[None]:
    """Inside, requests wait: on the stub by ``hold``, on the real server by its delay."""
    with engine.server.hold(model) if isinstance(engine, StubEngine) else nullcontext():
        yield


@contextmanager
def busy(engine: Engine, model: str, queue: Queue, folder: Path) -> Iterator[None]:
    """Inside, the one instance of a model executes a request that takes as long."""
    gate = folder / f"{engine.name}-{model}"
    begun = Path(f"{gate}.begun")
    queue.start(Arrival(parameters={"gate": str(gate)}), "first")
    wait_until(begun.exists)
    try:
        yield
    finally:
        gate.touch()


def load(engine: Engine, model: str, config: Mapping[str, Any]) -> None:
    """Load a model with another configuration, as JSON has it; anew, also if it is the same."""
    number = {"string_value": str(next(_LOADED))}
    text = json.dumps({**config, "parameters": {"number": number}})
    if isinstance(engine, StubEngine):
        engine.server.load(model, {"config": text})
        return
    with engine.client() as client:
        client.load_model(model, config=text)
