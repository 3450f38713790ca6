"""Images a second of this project's ResNet and of a tutorial's on the real tritonserver.

Beside it: what is lost against the same batches called without a server, and the latencies of
requests that come whether the server is ready for them or not.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import latency
import resnets
from direct import Direct
from load import Figures, Generator, Load
from machine import native_variables
from parts import TIMES, Line, Part, Plot, Settings, Spread, Target, interleaved

from triton_stub.engines.engine import Engine
from triton_stub.engines.environment import NativeEnvironment
from triton_stub.engines.native import NativeEngine
from triton_stub.engines.stub import StubEngine

MOST = 16  # clients
# How many times the tutorial's images a second, by architecture and clients.
GAINS = {
    ("resnet18", 1): 11, ("resnet18", MOST): 13, ("resnet50", 1): 11, ("resnet50", MOST): 9,
}  # fmt: skip
KEPT = 0.9  # of the images a second without a server
TITLES = {"resnet18": "ResNet18", "resnet50": "ResNet50"}
FULL_ONLY = "Only in a full run."
OTHER = {"xla": "openvino", "openvino": "xla"}

Cell = tuple[str, str, int]  # whose model, architecture, clients
Measured = Mapping[Cell, list[Figures]]


def run(settings: Settings) -> list[Part]:
    architectures = settings.pick(("resnet18", "resnet50"), ("resnet18",))
    crowds = settings.pick((1, 4, MOST), (1, MOST))
    seconds = settings.pick(3.0, 1.0)
    environment = NativeEnvironment.find()
    default = resnets.default("cpu_engine")
    owners = {
        "tutorial": "the tutorial's",
        "ours": f"ours (cpu_engine {default})",
        "other": f"ours, cpu_engine {OTHER[default]}",
        "stub": "ours, on the stub",
    }
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        models: dict[tuple[str, str], str] = {}
        for architecture in architectures:
            models["tutorial", architecture] = resnets.tutorial(folder, architecture)
            models["ours", architecture] = resnets.ours(folder, architecture)
            if not settings.quick:
                models["other", architecture] = resnets.ours(
                    folder, architecture, "other", cpu_engine=OTHER[default]
                )
        native = stack.enter_context(NativeEngine(folder, environment=environment))
        generator = stack.enter_context(Generator())
        served: dict[str, Counter[int]] = {}
        ways: dict[Cell, Callable[[], Figures]] = {}
        for (owner, architecture), model in models.items():
            for clients in crowds:
                load = Load(native.http_url, model, clients, seconds)
                ways[owner, architecture, clients] = partial(cell, generator, native, load, served)
            if owner != "tutorial":
                direct = Direct(
                    environment.path / "bin/python", native_variables(environment),
                    folder / model / "1", native.config(model),
                )  # fmt: skip
                stack.callback(direct.close)
                ways[f"{owner} directly", architecture, MOST] = partial(
                    called, direct, model, served, seconds
                )
        if not settings.quick:
            model = models["ours", "resnet18"]
            stub = stack.enter_context(StubEngine(folder, models=[model]))
            for clients in crowds:
                load = Load(stub.http_url, model, clients, seconds)
                ways["stub", "resnet18", clients] = partial(cell, generator, stub, load, {})
        measured = interleaved(ways, settings.rounds)
        instances = sum(
            group["count"] for group in native.config(models["ours", "resnet18"])["instance_group"]
        )
        capacity = rate(measured, ("ours", "resnet18", MOST)).median
        offered = latency.measure(
            generator, native.http_url, models["ours", "resnet18"], capacity, settings
        )
    return [
        gains(measured, owners, crowds, seconds, settings),
        loss(measured, owners, instances),
        latency.part(offered, capacity),
    ]


def called(direct: Direct, model: str, served: Any, seconds: float) -> Figures:
    """Images a second with batches of the sizes that were last served."""
    return {"Inferences/Second": direct.run(served[model], seconds)}


def cell(generator: Generator, engine: Engine, load: Load, served: Any) -> Figures:
    """Figures of one load; the sizes of the batches that were run are kept in ``served``."""
    seen: list[Counter[int]] = []
    figures = generator.must(load, lambda: seen.append(batches(engine.statistics(load.model))))
    sizes = seen[1] - seen[0]
    served[load.model] = sizes
    return {**figures, "mean batch": sum(s * n for s, n in sizes.items()) / max(1, sizes.total())}


def batches(statistics: dict[str, Any]) -> Counter[int]:
    """How many batches of each size a model has run."""
    (row,) = statistics["model_stats"]
    return Counter(
        {
            int(each["batch_size"]): int(each["compute_infer"]["count"])
            for each in row["batch_stats"]
        }
    )


def rate(measured: Measured, cell: Cell, name: str = "Inferences/Second") -> Spread:
    return Spread.of([each[name] for each in measured[cell]])


def gains(
    measured: Measured,
    owners: Mapping[str, str],
    crowds: Sequence[int],
    seconds: float,
    settings: Settings,
) -> Part:
    """Everybody's images a second beside the tutorial's."""
    rows, lines = [], []
    for owner, label in owners.items():
        for architecture, title in TITLES.items():
            cells = [(owner, architecture, clients) for clients in crowds]
            if cells[0] not in measured:
                continue
            lines.append(Line(f"{title}, {label}", crowds, [rate(measured, c) for c in cells]))
            rows += [
                {
                    "network": title,
                    "owner": label,
                    "clients": each[2],
                    "rate": rate(measured, each),
                    # On another server, with another JAX, it is no gain over the tutorial's.
                    "gain": None if owner == "stub" else gain(measured, each),
                    "count": rate(measured, each, "Request Count"),
                    "p50": latency.percentile(measured[each], 50),
                    "p99": latency.percentile(measured[each], 99),
                    "batch": rate(measured, each, "mean batch"),
                }
                for each in cells
            ]
    rows.sort(key=lambda row: (row["network"], row["clients"]))  # the sort is stable
    targets = []
    for owner in ("ours", "other"):
        for (architecture, clients), times in GAINS.items():
            crowd = f"{clients} client{'s' if clients > 1 else ''}"
            targets.append(
                Target(
                    f"{TITLES[architecture]}, {crowd}, {owners[owner]}: beside the tutorial's",
                    gain(measured, (owner, architecture, clients)),
                    at_least=times,
                    unit=TIMES,
                    why="" if (owner, architecture, clients) in measured else FULL_ONLY,
                )
            )
    return Part(
        name="serving",
        title="Served: a tutorial's model.py and this repository's",
        description=(
            "Images a second from the real tritonserver over HTTP, 224 by 224 by 3 float32, one "
            "image a request, random weights. The tutorial's makes the parameters in every "
            "request, compiles nothing ahead, and serves one request at a time; ours is as its "
            f"config.pbtxt has it but for what is told. Closed loop, {seconds:g} s each. The stub "
            "has the newer JAX of its own environment: it is not put beside the tutorial's. The "
            "99th percentile is empty where a round had fewer than 100 answers."
        ),
        columns={
            "network": "network",
            "clients": "Concurrency",
            "owner": "model",
            "rate": "Inferences/Second",
            "gain": "beside the tutorial's",
            "count": "Request Count",
            "p50": "p50 latency, ms",
            "p99": "p99 latency, ms",
            "batch": "mean batch",
        },
        rows=rows,
        targets=targets,
        plots=[
            Plot(
                name=f"serving-{architecture}",
                title=f"{title}: images a second from the real tritonserver",
                x_label="clients",
                y_label="images a second",
                lines=[line for line in lines if line.label.startswith(title)],
                log_x=True,
                log_y=True,
            )
            for architecture, title in TITLES.items()
            if ("ours", architecture, MOST) in measured
        ],
        absent=settings.pick(
            [], ["ResNet50, 4 clients, the other compiler, the stub: only in a full run"]
        ),
    )


def gain(measured: Measured, each: Cell) -> Spread | None:
    """Times the tutorial's images a second; None if it was not measured."""
    _, architecture, clients = each
    if each not in measured:
        return None
    return rate(measured, each).over(rate(measured, ("tutorial", architecture, clients)))


def loss(measured: Measured, owners: Mapping[str, str], instances: int) -> Part:
    """Served beside the same batches without a server."""
    rows, targets = [], []
    for owner in ("ours", "other"):
        for architecture, title in TITLES.items():
            kept, why = None, FULL_ONLY
            alone = (f"{owner} directly", architecture, MOST)
            if alone in measured:
                served, direct = rate(measured, (owner, architecture, MOST)), rate(measured, alone)
                kept, why = served.over(direct), ""
                rows.append(
                    {
                        "network": title,
                        "owner": owners[owner],
                        "served": served,
                        "direct": direct,
                        "kept": kept,
                    }
                )
            name = f"{title}, {MOST} clients, {owners[owner]}: served beside called directly"
            targets.append(Target(name, kept, at_least=KEPT, unit=TIMES, why=why))
    return Part(
        name="loss",
        title="What serving loses",
        description=(
            f"Images a second through the server with {MOST} clients, beside the model's own "
            "classify called without one: in as many processes as the model has instances "
            f"({instances}), with the same packages, and with batches of the sizes that the server "
            "had just made."
        ),
        columns={
            "network": "network",
            "owner": "model",
            "served": "served, images/s",
            "direct": "called directly, images/s",
            "kept": "served / direct",
        },
        rows=rows,
        targets=targets,
    )
