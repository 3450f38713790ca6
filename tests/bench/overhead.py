"""What a request costs beyond the model's own time, in microseconds: the stub and real Triton.

The model adds two inputs of four numbers and tells how long that took; what the client waits
beyond it is the overhead. One client, one request at a time.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc
import tritonclient.http
from parts import Part, Settings, Spread, Target, interleaved

from triton_stub.core.mailbox import Mailbox
from triton_stub.engines.native import NativeEngine
from triton_stub.engines.stub import StubEngine

MODELS = Path(__file__).parent / "small_models"
WARM_UP = 100
A = np.arange(4, dtype=np.float32)
IN_PROCESS = "stub, in process"
FLOOR = "two threads that wake each other, nothing else"
WHY = """\
The model's `execute` runs on a thread of its own, as it must: the two hand-overs take what the
first line says, several times as much where the system wakes a thread on another processor (its
spread, and p10 beside p90). The rest is Python: looking up and validating, the scheduler,
statistics and metrics, the requests and tensors that the model sees. Tried and kept: waking by
`eventfd` instead of locks, whose waiter finds the interpreter taken; plans of validation made when
the model loads; statistics that add up without objects. Together they took a third from a request.\
"""

Ask = Callable[[], int]


def run(settings: Settings) -> Part:
    requests = settings.pick(2000, 300)
    with ExitStack() as stack:
        asks = dict(ways(stack))
        for ask in asks.values():
            for _ in range(WARM_UP):
                ask()
        rounds = settings.rounds + settings.pick(2, 1)  # they are short
        measured = interleaved(
            {way: lambda ask=ask: measure(ask, requests) for way, ask in asks.items()}, rounds
        )
    return Part(
        name="overhead",
        title="What a request costs",
        description=(
            "Microseconds beyond the model's own time: two inputs of four numbers are added, and "
            f"the model tells how long that took. One client, {requests} requests a round; "
            "percentiles of all requests together. The first line is what it takes to hand a "
            "request to another thread and its answer back, as the stub does it; no server with a "
            "thread for its model goes below that."
        ),
        columns={
            "way": "way",
            "median": "µs, median of a round",
            "p10": "p10",
            "p90": "p90",
            "p99": "p99",
        },
        rows=[row(way, each) for way, each in measured.items()],
        targets=[
            Target(
                "stub in process, two small inputs: a request beyond the model's own time",
                medians(measured[IN_PROCESS]),
                at_most=20,
                unit="µs",
                why=WHY,
            )
        ],
    )


def ways(stack: ExitStack) -> Iterator[tuple[str, Ask]]:
    """Each sends one request and returns the nanoseconds that the model took for it."""
    native = stack.enter_context(NativeEngine(MODELS))
    thread = stack.enter_context(StubEngine(MODELS))
    process = stack.enter_context(StubEngine(MODELS, isolation="process"))
    yield FLOOR, stack.enter_context(ping_pong())
    yield IN_PROCESS, in_process(thread)
    yield f"{IN_PROCESS}, the model in a process of its own", in_process(process)
    for engine in (thread, native):
        yield f"{engine.name}, HTTP", client(stack, tritonclient.http, engine.http_url)
        yield f"{engine.name}, gRPC", client(stack, tritonclient.grpc, engine.grpc_url)


@contextmanager
def ping_pong() -> Iterator[Ask]:
    """A thread that only answers: the model takes no time at all."""
    ping: Mailbox[bool] = Mailbox()
    pong: Mailbox[bool] = Mailbox()

    def answer() -> None:
        while ping.get():
            pong.put(True)

    def ask() -> int:
        ping.put(True)
        pong.get()
        return 0

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        yield ask
    finally:
        ping.put(False)
        thread.join()


def in_process(engine: StubEngine) -> Ask:
    model = engine.model("add")
    return lambda: int(model(A=A, B=A)["OWN_NS"][0])


def client(stack: ExitStack, flavour: Any, url: str) -> Ask:
    connected = stack.enter_context(flavour.InferenceServerClient(url))

    def ask() -> int:
        inputs = [flavour.InferInput(name, A.shape, "FP32") for name in "AB"]
        for tensor in inputs:
            tensor.set_data_from_numpy(A)
        return int(connected.infer("add", inputs).as_numpy("OWN_NS")[0])

    return ask


def measure(ask: Ask, requests: int) -> list[float]:
    """Microseconds that each request took beyond the model's own time."""
    spent = []
    for _ in range(requests):
        start = time.perf_counter_ns()
        own = ask()
        spent.append((time.perf_counter_ns() - start - own) / 1000)
    return spent


def medians(rounds: list[list[float]]) -> Spread:
    return Spread.of([statistics.median(each) for each in rounds])


def row(way: str, rounds: list[list[float]]) -> dict[str, Any]:
    """The median of each round, and percentiles of all requests together."""
    together = np.concatenate(rounds)
    percentiles = {f"p{q}": float(np.percentile(together, q)) for q in (10, 90, 99)}
    return {"way": way, "median": medians(rounds), **percentiles}
