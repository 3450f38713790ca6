"""What each further tensor of a request costs, in and out: the stub and real Triton."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc
import tritonclient.http
from parts import Part, Settings, Spread, interleaved

from triton_stub.engines.native import NativeEngine
from triton_stub.engines.stub import StubEngine

FEW, MANY = 1, 17  # tensors in, and as many out
WARM_UP = 50
NUMBERS = np.arange(4, dtype=np.float32)
IN_PROCESS = "stub, in process"

Ask = Callable[[], object]

CODE = """
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        return pb_utils.InferenceResponse(
            [pb_utils.Tensor(f"OUT{each.name()[2:]}", each.as_numpy()) for each in request.inputs()]
        )
"""


def run(settings: Settings) -> Part:
    requests = settings.pick(500, 100)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for count in (FEW, MANY):
            write_echo_of(folder, count)
        asks = dict(ways(stack, folder))
        for ask in asks.values():
            for _ in range(WARM_UP):
                ask()
        measured = interleaved(
            {cell: partial(microseconds, ask, requests) for cell, ask in asks.items()},
            settings.rounds + settings.pick(2, 1),  # they are short
        )
    return Part(
        name="tensors",
        title="What a tensor costs",
        description=(
            "Microseconds of a request to a model that gives back each of its inputs, four numbers "
            f"each: with {FEW} tensor in and out and with {MANY}, the difference for each further "
            "one. The model reads, and makes, each of them, which is in the figures. One client, "
            f"{requests} requests a round, of which the median counts."
        ),
        columns={
            "way": "way",
            "few": f"µs, {FEW} in and out",
            "many": f"µs, {MANY} in and out",
            "each": "µs for each further one",
        },
        rows=[
            row(way, *(Spread.of(measured[way, count]) for count in (FEW, MANY)))
            for way, count in asks
            if count == FEW
        ],
    )


def row(way: str, few: Spread, many: Spread) -> dict[str, Any]:
    each = [(m - f) / (MANY - FEW) for f, m in zip(few.rounds, many.rounds, strict=True)]
    return {"way": way, "few": few, "many": many, "each": Spread.of(each)}


def name_of(count: int) -> str:
    return f"echo_of_{count}"


def write_echo_of(repository: Path, count: int) -> None:
    """A model with so many inputs and outputs in a model repository."""
    folder = repository / name_of(count)
    (folder / "1").mkdir(parents=True)
    lines = ['backend: "python"'] + [
        f'{kind} {{ name: "{name}{number}" data_type: TYPE_FP32 dims: [ {NUMBERS.size} ] }}'
        for kind, name in (("input", "IN"), ("output", "OUT"))
        for number in range(count)
    ]
    (folder / "config.pbtxt").write_text("\n".join(lines))
    (folder / "1/model.py").write_text(CODE)


def ways(stack: ExitStack, models: Path) -> Iterator[tuple[tuple[str, int], Ask]]:
    """Each sends a request with so many tensors and reads all of the answer."""
    thread = stack.enter_context(StubEngine(models))
    process = stack.enter_context(StubEngine(models, isolation="process"))
    native = stack.enter_context(NativeEngine(models))
    in_process = {
        IN_PROCESS: thread,
        f"{IN_PROCESS}, the model in a process of its own": process,
    }
    for way, stub in in_process.items():
        for count in (FEW, MANY):
            given = {f"IN{number}": NUMBERS for number in range(count)}
            yield (way, count), partial(stub.model(name_of(count)), **given)
    for engine in (thread, native):
        for title, flavour, url in (
            ("HTTP", tritonclient.http, engine.http_url),
            ("gRPC", tritonclient.grpc, engine.grpc_url),
        ):
            client = stack.enter_context(flavour.InferenceServerClient(url))
            for count in (FEW, MANY):
                yield (f"{engine.name}, {title}", count), partial(infer, flavour, client, count)


def infer(flavour: Any, client: Any, count: int) -> None:
    inputs = [flavour.InferInput(f"IN{n}", NUMBERS.shape, "FP32") for n in range(count)]
    for tensor in inputs:
        tensor.set_data_from_numpy(NUMBERS)
    result = client.infer(name_of(count), inputs)
    for number in range(count):
        result.as_numpy(f"OUT{number}")


def microseconds(ask: Ask, requests: int) -> float:
    """The median of so many requests."""
    spent = []
    for _ in range(requests):
        start = time.perf_counter_ns()
        ask()
        spent.append((time.perf_counter_ns() - start) / 1000)
    return statistics.median(spent)
