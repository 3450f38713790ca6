"""Models of sequences that tell everything they get, and how they are asked.

An answer is JSON: the instance, the request's place in the batch, and every request of the batch
with its id, flags and inputs. What the real server leaves uninitialised is told as None. A request
says in its parameters what the model does: ``wait`` for a file to be there, or have the request
executed ``again`` so many times.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from broken_models import both_engines, write_models
from comparing import Engines, outcome
from patience import wait_until

from triton_stub.engines.engine import Engine

MODEL = """
import json, os, time
import numpy as np
import triton_python_backend_utils as pb_utils

def plain(value):
    return value.decode("latin-1") if isinstance(value, bytes) else value.item()

class TritonPythonModel:
    def initialize(self, args):
        config = json.loads(args["model_config"])
        states = config["sequence_batching"].get("state", [])
        self.own = {each["name"] for each in config["input"]}
        self.states = {each["input_name"] for each in states}
        self.unset = {each["input_name"] for each in states if not each.get("initial_state")}
        self.shape = (1, 1) if config["max_batch_size"] else (1,)
        self.instance = args["model_instance_name"]
        self.left = {}

    def execute(self, requests):
        told = [self.told(request) for request in requests]
        return [self.answer(index, request, told) for index, request in enumerate(requests)]

    def told(self, request):
        names = sorted(request.requested_output_names())
        hidden = self.unset if names else self.own | self.states
        inputs = []
        for tensor in request.inputs():
            array = tensor.as_numpy()
            is_hidden = tensor.name() in hidden and array.dtype != object
            values = None if is_hidden else [plain(value) for value in array.ravel()]
            kind = pb_utils.numpy_to_triton_type(array.dtype.type)
            inputs.append([tensor.name(), kind, list(array.shape), values])
        return [request.correlation_id(), request.flags(), request.request_id(), names, inputs]

    def answer(self, index, request, told):
        wanted = json.loads(request.parameters() or "{}")
        if "begin" in wanted:
            open(wanted["begin"], "w").close()
        while "wait" in wanted and not os.path.exists(wanted["wait"]):
            time.sleep(0.01)
        key = request.request_id()
        left = self.left.pop(key, wanted.get("again", 0))
        if left:
            self.left[key] = left - 1
            request.set_release_flags(pb_utils.TRITONSERVER_REQUEST_RELEASE_RESCHEDULE)
            return None
        if "fail" in wanted:
            raise ValueError("boom")
        text = json.dumps([self.instance, index, told]).encode()
        out = np.array([text], object).reshape(self.shape)
        return pb_utils.InferenceResponse([pb_utils.Tensor("OUT", out)])
"""
CONFIG = """
backend: "python"
input [ { name: "X" data_type: TYPE_FP32 dims: [ -1 ] },
        { name: "S" data_type: TYPE_STRING dims: [ 2 ] optional: true } ]
output { name: "OUT" data_type: TYPE_STRING dims: [ 1 ] }
"""
# A test may be slow: only where it is about that a sequence is ever forgotten.
PATIENT = "max_sequence_idle_microseconds: 600000000"
_PATIENCE = 60.0


def signals(field: str, *values: str, kinds: str = "START END READY") -> str:
    """Control inputs of these kinds, named like them."""
    return "\n".join(
        f'control_input {{ name: "{kind}" control {{ kind: CONTROL_SEQUENCE_{kind} '
        f"{field}: [ {', '.join(values)} ] }} }}"
        for kind in kinds.split()
    )


def corrid(data_type: str) -> str:
    """A control input that holds the correlation id."""
    return (
        f'control_input {{ name: "CORRID" control {{ kind: CONTROL_SEQUENCE_CORRID '
        f"data_type: {data_type} }} }}"
    )


def batching(text: str = "", *, rows: int = 0, instances: int = 1, idle: str = PATIENT) -> str:
    """A configuration with ``sequence_batching``."""
    return (
        f"{CONFIG}max_batch_size: {rows}\ninstance_group {{ count: {instances} }}\n"
        f"sequence_batching {{ {idle} {text} }}\n"
    )


NEVER = "600000000"  # microseconds that no test waits
SOON = "max_sequence_idle_microseconds: 100000"
OLDEST = "oldest { max_candidate_sequences: 2 }"
ALL = signals("int32_false_true", "0", "1") + corrid("TYPE_UINT64")
MODELS = {
    # Three slots of one instance, or two, or one without batches.
    "direct": batching(rows=3),
    "oldest": batching(OLDEST, rows=3),
    "single": batching(),
    "oldest_single": batching(OLDEST),
    "counted": batching(rows=3),
    # With everything that a model may be told.
    "int32": batching(signals("int32_false_true", "-5", "7") + corrid("TYPE_UINT64"), rows=3),
    "fp32": batching(signals("fp32_false_true", "0.5", "-2.5") + corrid("TYPE_INT32")),
    "bool": batching(
        signals("bool_false_true", "false", "true") + corrid("TYPE_INT64") + OLDEST, rows=3
    ),
    "inverted": batching(
        signals("bool_false_true", "true", "false", kinds="READY") + corrid("TYPE_UINT32"), rows=2
    ),
    "taken": batching(
        'control_input { name: "X" control { kind: CONTROL_SEQUENCE_START '
        "fp32_false_true: [ 3, 4 ] } }"
    ),
    # Several instances.
    "instances": batching(rows=3, instances=3),
    "oldest_instances": batching(OLDEST, rows=3, instances=2),
    # Sequences that are soon forgotten.
    "idle": batching(rows=1, idle=SOON),
    # A number that is meant for ever: as one with a sign it is -1.
    "idle_at_once": batching(rows=1, idle=f"max_sequence_idle_microseconds: {2**64 - 1}"),
    "oldest_idle": batching(OLDEST.replace("2", "1"), rows=1, idle=SOON),
    # Who waits for whom.
    "patient": batching(
        f"direct {{ minimum_slot_utilization: 0.5 max_queue_delay_microseconds: {NEVER} }}", rows=4
    ),
    "hasty": batching(
        "direct { minimum_slot_utilization: 1 max_queue_delay_microseconds: 1000 }", rows=4
    ),
    "careless": batching(f"direct {{ max_queue_delay_microseconds: {NEVER} }}", rows=4),
    "pairs": batching(
        "oldest { max_candidate_sequences: 4 preferred_batch_size: [ 2 ] "
        f"max_queue_delay_microseconds: {NEVER} }}",
        rows=4,
    ),
    "ordered": batching("oldest { max_candidate_sequences: 4 preserve_ordering: true }", rows=4),
    "ragged": batching(rows=3).replace("dims: [ -1 ] }", "dims: [ -1 ] allow_ragged_batch: true }"),
    # Iterative sequences.
    "iterative": batching(f"iterative_sequence: true {ALL}", rows=3),
    "iterative_oldest": batching(f"iterative_sequence: true {ALL} {OLDEST}", rows=3),
    "iterative_single": batching(f"iterative_sequence: true {ALL}"),
}


@contextmanager
def both_with(
    repository: Path, configs: Mapping[str, str], files: Mapping[str, bytes] | None = None
) -> Iterator[Engines]:
    """Both engines with models of these configurations, all with the same files of states."""
    for name, config in configs.items():
        write_models(repository, {name: MODEL}, config)
        for file, content in (files or {}).items():
            path = repository / name / "initial_state" / file
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
    # The real server waits for sequences that nobody ends.
    with both_engines(repository, options=["--exit-timeout-secs=1"]) as engines:
        yield engines


def ask(
    engine: Engine, model: str, sequence: int | str = 0, flags: str = "", **request: Any
) -> Any:
    """Send a request of a sequence: what the model tells. ``flags`` is of ``start end``.

    ``rows`` 0 is a model without batches; ``x`` and ``s`` are values of the inputs X and S.
    """
    rows, x, s = request.pop("rows", 1), request.pop("x", [1]), request.pop("s", None)
    batch = (rows,) if rows else ()
    inputs: dict[str, Any] = {"X": np.resize(np.array(x, np.float32), (*batch, len(x)))}
    if s is not None:
        inputs["S"] = np.resize(np.array([each.encode() for each in s], object), (*batch, len(s)))
    result = engine.infer(
        model,
        **inputs,
        sequence_id=sequence,
        sequence_start="start" in flags,
        sequence_end="end" in flags,
        **request,
    )
    return json.loads(result["OUT"].flatten()[0])


def answers(engine: Engine, model: str, *requests: tuple[Any, ...], **more: Any) -> list[Any]:
    """What each of several requests is answered, sent one after the other: also with errors."""
    return [attempt(engine, model, *request, **more) for request in requests]


def attempt(engine: Engine, model: str, *request: Any, **more: Any) -> Any:
    """The same as ``ask``, or the error."""
    return outcome(lambda engine: ask(engine, model, *request, **more), engine)


class Busy:
    """Requests that come while their model's only instance is busy, one after the other.

    Each is sent when the one before is in the queue, so that the same is executed every time.
    """

    def __init__(self, engine: Engine, model: str, folder: Path) -> None:
        self._engine = engine
        self._model = model
        self._file = folder / f"{engine.name}-{model}-{time.monotonic_ns()}"
        self._pool = ThreadPoolExecutor(16)
        self._answers: list[Future[Any]] = []

    def occupy(self, *request: Any) -> None:
        """Send the request that keeps the instance busy; return when it is executed."""
        begun = self._file.with_suffix(".begun")
        self._send(request, parameters={"begin": str(begun), "wait": str(self._file)})
        wait_until(begun.exists, "the instance is not busy")

    def send(self, *request: Any, waiting: int, **more: Any) -> None:
        """Send a request; return when so many wait."""
        self._send(request, **more)
        self.wait(waiting)

    def wait(self, waiting: int) -> None:
        """Return when so many wait."""
        wait_until(
            lambda: self._waiting() == waiting, f"there are not {waiting} requests that wait"
        )

    def go_on(self) -> list[Any]:
        """Let the instance go on: what each request is answered, in the order of ``send``."""
        self._file.touch()
        with self._pool:
            return [answer.result(_PATIENCE) for answer in self._answers]

    def _send(self, request: tuple[Any, ...], **more: Any) -> None:
        self._answers.append(
            self._pool.submit(attempt, self._engine, self._model, *request, **more)
        )

    def _waiting(self) -> int:
        pattern = rf'^nv_inference_pending_request_count{{model="{self._model}",.*}} (\d+)'
        found = re.search(pattern, self._engine.metrics(), re.MULTILINE)
        return int(found[1]) if found else 0
