"""What a request costs beyond the model's own time, in microseconds: the stub and real Triton.

The model adds two inputs of four numbers and tells how long that took; what the client waits
beyond it is the overhead. One client, one request at a time. All ways are measured once a round,
so that a disturbance of the machine hits them alike. Writes ``bench-results/overhead.{json,md}``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import tritonclient.grpc
import tritonclient.http

from triton_stub.engines.native import NativeEngine
from triton_stub.engines.stub import StubEngine

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
MODELS = HERE / "small_models"
WARM_UP = 200
A = np.arange(4, dtype=np.float32)

Ask = Callable[[], int]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=3000, help="in one measurement")
    parser.add_argument("--output", type=Path, default=ROOT / "bench-results")
    arguments = parser.parse_args()
    overheads: dict[str, list[list[float]]] = {}
    with ExitStack() as stack:
        native = stack.enter_context(NativeEngine(MODELS))
        stub = stack.enter_context(StubEngine(MODELS))
        asks = dict(ways(stack, stub, native))
        for _ in range(arguments.rounds):
            for way, ask in asks.items():
                overheads.setdefault(way, []).append(measure(ask, arguments.requests))
    arguments.output.mkdir(exist_ok=True)
    (arguments.output / "overhead.json").write_text(json.dumps(summary(overheads), indent=1))
    (arguments.output / "overhead.md").write_text(table(overheads))
    print(table(overheads))


def ways(stack: ExitStack, stub: StubEngine, native: NativeEngine) -> Iterator[tuple[str, Ask]]:
    """Each sends one request and returns the nanoseconds that the model took for it."""
    model = stub.model("add")
    yield "stub, in process", lambda: int(model(A=A, B=A)["OWN_NS"][0])
    for engine in (stub, native):
        yield f"{engine.name}, HTTP", client(stack, tritonclient.http, engine.http_url)
    yield "native, gRPC", client(stack, tritonclient.grpc, native.grpc_url)


def client(stack: ExitStack, flavour, url: str) -> Ask:
    connected = stack.enter_context(flavour.InferenceServerClient(url))

    def ask() -> int:
        inputs = [flavour.InferInput(name, A.shape, "FP32") for name in "AB"]
        for tensor in inputs:
            tensor.set_data_from_numpy(A)
        return int(connected.infer("add", inputs).as_numpy("OWN_NS")[0])

    return ask


def measure(ask: Ask, requests: int) -> list[float]:
    """Microseconds that each request took beyond the model's own time."""
    for _ in range(WARM_UP):
        ask()
    spent = []
    for _ in range(requests):
        start = time.perf_counter_ns()
        own = ask()
        spent.append((time.perf_counter_ns() - start - own) / 1000)
    return spent


def summary(overheads: dict[str, list[list[float]]]) -> list[dict[str, object]]:
    """For each way the median of every round, and percentiles of all requests together."""
    rows = []
    for way, rounds in overheads.items():
        together = np.concatenate(rounds)
        medians = [statistics.median(each) for each in rounds]
        percentiles = {f"p{q}": float(np.percentile(together, q)) for q in (10, 50, 90, 99)}
        rows.append({"way": way, "round medians": medians, **percentiles})
    return rows


def table(overheads: dict[str, list[list[float]]]) -> str:
    """Markdown: median of the round medians, their spread, and percentiles."""
    lines = [
        f"Microseconds a request costs beyond the model's own time, one client, {os.cpu_count()} "
        f"CPU cores ({platform.machine()}), Python {platform.python_version()}.",
        "",
        "| way | median of rounds (spread) | p10 | p90 | p99 |",
        "|---|---|---|---|---|",
    ]
    for row in summary(overheads):
        medians = row["round medians"]
        spread = f"{statistics.median(medians):.1f} ({min(medians):.1f} to {max(medians):.1f})"
        others = " | ".join(f"{row[name]:.1f}" for name in ("p10", "p90", "p99"))
        lines.append(f"| {row['way']} | {spread} | {others} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
