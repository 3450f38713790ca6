"""Images a second of this project's ResNet and of a tutorial's on the real tritonserver.

Beside it: what is lost against the same batches called without a server, and the latencies of
requests that come whether the server is ready for them or not.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
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

Cell = tuple[str, str, int]  # whose model, architecture, clients
Measured = Mapping[Any, list[Figures]]


def run(settings: Settings) -> list[Part]:
    architectures = settings.pick(("resnet18", "resnet50"), ("resnet18",))
    crowds = settings.pick((1, 4, MOST), (1, MOST))
    seconds = settings.pick(4.0, 2.0)
    environment = NativeEnvironment.find()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        resnets.make(folder, architectures)
        native = stack.enter_context(NativeEngine(folder, environment=environment))
        generator = stack.enter_context(Generator())
        served: dict[str, Counter[int]] = {}
        ways: dict[Any, Callable[[], Figures]] = {}
        for architecture in architectures:
            for clients in crowds:
                for owner, model in (
                    ("tutorial", f"tutorial_{architecture}"), ("ours", architecture),
                ):  # fmt: skip
                    load = Load(native.http_url, model, clients, seconds)
                    ways[owner, architecture, clients] = lambda load=load: cell(
                        generator, native, load, served
                    )
            direct = Direct(
                environment.path / "bin/python", native_variables(environment),
                folder / architecture / "1", native.config(architecture),
            )  # fmt: skip
            stack.callback(direct.close)
            ways["direct", architecture, MOST] = lambda direct=direct, architecture=architecture: {
                "Inferences/Second": direct.run(served[architecture], seconds)
            }
        if not settings.quick:
            stub = stack.enter_context(StubEngine(folder, models=["resnet18"]))
            for clients in crowds:
                load = Load(stub.http_url, "resnet18", clients, seconds)
                ways["stub", "resnet18", clients] = lambda load=load: cell(
                    generator, stub, load, Counter()
                )
        measured = interleaved(ways, settings.rounds)
        instances = {
            name: sum(group["count"] for group in native.config(name)["instance_group"])
            for name in architectures
        }
        capacity = rate(measured, ("ours", "resnet18", MOST)).median
        offered = latency.measure(generator, native.http_url, "resnet18", capacity, settings)
    return [
        gains(measured, architectures, crowds, seconds, settings),
        loss(measured, architectures, instances),
        latency.part(offered, capacity),
    ]


def cell(generator: Generator, engine: Engine, load: Load, served: Any) -> Figures:
    """Figures of one load; the sizes of the batches that were run are kept in ``served``."""
    before = batches(engine.statistics(load.model))
    figures = generator.must(load)
    sizes = batches(engine.statistics(load.model)) - before
    served[load.model] = sizes
    return {**figures, "mean batch": sum(s * n for s, n in sizes.items()) / sizes.total()}


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
    architectures: Sequence[str],
    crowds: Sequence[int],
    seconds: float,
    settings: Settings,
) -> Part:
    """Ours beside the tutorial's."""
    rows, targets, lines = [], [], []
    for architecture in architectures:
        title = TITLES[architecture]
        for clients in crowds:
            slow, fast = (rate(measured, (o, architecture, clients)) for o in ("tutorial", "ours"))
            stub = ("stub", architecture, clients)
            rows.append({
                "network": title, "clients": clients, "tutorial": slow, "ours": fast,
                "gain": fast.over(slow),
                "p50": rate(measured, ("ours", architecture, clients), "p50 latency").times(1e-3),
                "batch": rate(measured, ("ours", architecture, clients), "mean batch"),
                "stub": rate(measured, stub) if stub in measured else None,
            })  # fmt: skip
        for owner in ("ours", "tutorial"):
            figures = [rate(measured, (owner, architecture, clients)) for clients in crowds]
            lines.append(Line(f"{title}, {owner}", crowds, figures))
    for (architecture, clients), times in GAINS.items():
        name = f"{TITLES[architecture]}, {clients} client{'s' if clients > 1 else ''}: the gain"
        gain, why = None, "Only in a full run."
        if architecture in architectures:
            slow, fast = (rate(measured, (o, architecture, clients)) for o in ("tutorial", "ours"))
            gain, why = fast.over(slow), ""
        targets.append(Target(name, gain, at_least=times, unit=TIMES, why=why))
    return Part(
        name="serving",
        title="Served: a tutorial's model.py and this repository's",
        description=(
            "Images a second from the real tritonserver over HTTP, 224 by 224 by 3 float32, one "
            "image a request, random weights. The tutorial's makes the parameters in every "
            "request, compiles nothing ahead, and serves one request at a time; this repository's "
            f"is as its config.pbtxt has it. Closed loop, {seconds:g} s each. The last column is "
            "this repository's on the stub, with the newer JAX of its environment."
        ),
        columns={
            "network": "network",
            "clients": "Concurrency",
            "tutorial": "tutorial, Inferences/Second",
            "ours": "ours, Inferences/Second",
            "gain": "gain",
            "p50": "ours, p50 latency, ms",
            "batch": "mean batch",
            "stub": "ours on the stub, Inferences/Second",
        },
        rows=rows,
        targets=targets,
        plots=[
            Plot(
                name="serving",
                title="Images a second from the real tritonserver",
                x_label="clients",
                y_label="images a second",
                lines=lines,
                log_x=True,
                log_y=True,
            )
        ],
        absent=settings.pick([], ["ResNet50, 4 clients, the stub: only in a full run"]),
    )


def loss(measured: Measured, architectures: Sequence[str], instances: Mapping[str, int]) -> Part:
    """Served beside the same batches without a server."""
    rows, targets = [], []
    for architecture, title in TITLES.items():
        name = f"{title}, {MOST} clients: served beside called directly"
        if architecture not in architectures:
            why = "Only in a full run."
            targets.append(Target(name, None, at_least=KEPT, unit=TIMES, why=why))
            continue
        served, direct = (rate(measured, (o, architecture, MOST)) for o in ("ours", "direct"))
        rows.append({
            "network": title, "instances": instances[architecture], "served": served,
            "direct": direct, "kept": served.over(direct),
        })  # fmt: skip
        targets.append(Target(name, served.over(direct), at_least=KEPT, unit=TIMES))
    return Part(
        name="loss",
        title="What serving loses",
        description=(
            f"Images a second through the server with {MOST} clients, beside the model's own "
            "classify called without one: in as many processes as it has instances, with the same "
            "packages, and with batches of the sizes that the server had just made."
        ),
        columns={
            "network": "network",
            "instances": "instances",
            "served": "served, images/s",
            "direct": "called directly, images/s",
            "kept": "served / direct",
        },
        rows=rows,
        targets=targets,
    )
