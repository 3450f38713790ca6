"""Requests a second over HTTP and gRPC, stub and real server, with nothing to compute."""

from __future__ import annotations

import tempfile
from pathlib import Path

from echo import write_echo
from load import Figures, Generator, Load
from parts import TIMES, Line, Part, Plot, Settings, Spread, Target, interleaved

from triton_stub.engines.native import NativeEngine
from triton_stub.engines.stub import StubEngine

MODELS = {"image": [224, 224, 3], "small": [4]}
SIZES = {"image": "602 KB", "small": "16 bytes"}
SHARE = 0.4  # of the real server's requests a second

Cell = tuple[str, str, int, str]  # protocol, model, clients, engine


def run(settings: Settings) -> Part:
    crowds = settings.pick({"http": (1, 4, 16), "grpc": (1, 16)}, {"http": (1, 16)})
    seconds = settings.pick(1.5, 0.4)
    with (
        tempfile.TemporaryDirectory() as folder,
        Generator() as generator,
    ):
        for name, dims in MODELS.items():
            write_echo(Path(folder), name, dims)
        with NativeEngine(folder) as native, StubEngine(folder) as stub:
            ways = {}
            for protocol in crowds:
                for model in MODELS:
                    for clients in crowds[protocol]:
                        for engine in (stub, native):
                            url = getattr(engine, f"{protocol}_url")
                            load = Load(url, model, clients, seconds, protocol)
                            cell = protocol, model, clients, engine.name
                            ways[cell] = lambda load=load: generator.must(load)
            measured: dict[Cell, list[Figures]] = interleaved(ways, settings.rounds)
    rates = {
        cell: Spread.of([each["Inferences/Second"] for each in rounds])
        for cell, rounds in measured.items()
    }
    rows, targets = [], []
    for protocol, model, clients, engine in rates:
        if engine == "native":
            continue
        ours, real = (rates[protocol, model, clients, name] for name in ("stub", "native"))
        waits = {
            name: Spread.of(
                [each["p50 latency"] for each in measured[protocol, model, clients, name]]
            )
            for name in ("stub", "native")
        }
        rows.append({
            "protocol": protocol, "tensor": SIZES[model], "clients": clients, "stub": ours,
            "native": real, "share": ours.over(real), "stub p50": waits["stub"],
            "native p50": waits["native"],
        })  # fmt: skip
        if protocol == "http" and clients in (1, 16):
            name = f"HTTP, {SIZES[model]}, {clients} client{'s' if clients > 1 else ''}"
            targets.append(
                Target(
                    f"{name}: the real server's requests/s",
                    ours.over(real),
                    at_least=SHARE,
                    unit=TIMES,
                )
            )
    return Part(
        name="endpoints",
        title="Requests a second",
        description=(
            "A model that gives back what it gets: an image of 224 by 224 by 3 float32 (602 KB), "
            f"and four numbers. Closed loop, {seconds:g} s each; clients are threads of as many "
            "processes as there are processors, which they share with the server."
        ),
        columns={
            "protocol": "protocol",
            "tensor": "tensor",
            "clients": "Concurrency",
            "stub": "stub, Inferences/Second",
            "native": "native, Inferences/Second",
            "share": "stub / native",
            "stub p50": "stub, p50 latency, µs",
            "native p50": "native, p50 latency, µs",
        },
        rows=rows,
        targets=targets,
        plots=[
            plot(rates, protocol, model, clients)
            for protocol, clients in crowds.items()
            for model in MODELS
        ],
        absent=settings.pick([], ["gRPC, and 4 clients: only in a full run"]),
    )


def plot(rates: dict[Cell, Spread], protocol: str, model: str, crowds: tuple[int, ...]) -> Plot:
    """Throughput over clients."""
    lines = [
        Line(name, crowds, [rates[protocol, model, clients, name] for clients in crowds])
        for name in ("stub", "native")
    ]
    return Plot(
        name=f"endpoints-{protocol}-{model}",
        title=f"{protocol.upper().replace('GRPC', 'gRPC')}, {SIZES[model]} there and back",
        x_label="clients",
        y_label="requests a second",
        lines=lines,
        log_x=True,
    )
