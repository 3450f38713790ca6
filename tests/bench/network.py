"""Images per second of the network alone, without a server: JAX's ways beside its peers.

Every engine is a process of its own and gets the same weights and the same images. Their logits are
compared before anything is measured.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import h5py
import numpy as np
from machine import native_variables
from network_worker import CLASSES, SEED, random_images
from parts import Line, Part, Plot, Settings, Spread, Target, interleaved

from triton_stub.engines.environment import NativeEnvironment

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent))  # where paper.py is

WORKER = HERE / "network_worker.py"


@dataclass(frozen=True)
class Way:
    """How the network is run: whose engine, and in which Python."""

    label: str
    engine: str  # of network_worker.py
    served: bool = True  # with what is installed beside the real server; else with what is here


WAYS = {
    "unfolded": Way("flaxmodels' network, jit", "unfolded"),
    "xla": Way("cpu_engine xla", "xla"),
    "newest": Way("cpu_engine xla, newest jax", "xla", served=False),
    "xla bfloat16": Way("cpu_engine xla, bfloat16", "xla bfloat16"),
    "openvino": Way("cpu_engine openvino", "cpu_engine openvino"),
    "openvino bfloat16": Way("cpu_engine openvino, bfloat16", "cpu_engine openvino bfloat16"),
    "ONNX Runtime": Way("peer: ONNX Runtime", "ONNX Runtime", served=False),
    "OpenVINO": Way("peer: OpenVINO", "OpenVINO", served=False),
    "OpenVINO bfloat16": Way("peer: OpenVINO, bfloat16", "OpenVINO bfloat16", served=False),
    "torch.compile": Way("peer: torch.compile", "torch.compile", served=False),
    "torch.compile bfloat16": Way(
        "peer: torch.compile, bfloat16", "torch.compile bfloat16", served=False
    ),
}
TORCH = ("torch.compile", "torch.compile bfloat16")
TARGET_BATCHES = (8, 16)
TIMES = "\N{MULTIPLICATION SIGN}"
PEERS = ("ONNX Runtime", "OpenVINO", "torch.compile")
# Of the largest logit. bfloat16 has 8 bits.
TOLERANCES = {"float32": 1e-4, "bfloat16": 5e-2}


def run(settings: Settings) -> list[Part]:
    """One part for each network."""
    architectures = settings.pick(("resnet18", "resnet50"), quick=("resnet18",))
    return [measure(architecture, settings) for architecture in architectures]


def measure(architecture: str, settings: Settings) -> Part:
    from paper import Paper

    batches = settings.pick((1, 4, 8, 16), quick=(1, 8))
    seconds = settings.pick(0.4, quick=0.2)
    torch = importlib.util.find_spec("torch") is not None and architecture != "resnet18"
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        weights = Path(folder, "weights.h5")
        with h5py.File(weights, "w") as file:
            for name, array in Paper(architecture, classes=CLASSES, seed=SEED).weights.items():
                file[name] = array
        engines = {
            way: stack.enter_context(Engine(way, architecture, weights))
            for way in WAYS
            if torch or way not in TORCH
        }
        for engine in engines.values():  # they start side by side
            engine.wait_until_ready()
        agreed = compare(engines, random_images(batches[1]), Path(folder))  # made once
        cells = {
            (way, batch): (lambda engine=engine, batch=batch: engine.speed(batch, seconds))
            for batch in batches
            for way, engine in engines.items()
        }
        measured = interleaved(cells, settings.rounds)
    speeds = {cell: Spread.of(rounds) for cell, rounds in measured.items()}
    return part(architecture, batches, engines, speeds, agreed, torch=torch)


class Engine:
    """A process that calls one engine when it is told to."""

    def __init__(self, way: str, architecture: str, weights: Path) -> None:
        python, variables = sys.executable, None
        if WAYS[way].served:
            environment = NativeEnvironment.find()
            python, variables = environment.path / "bin/python", native_variables(environment)
        self._process = subprocess.Popen(
            [python, WORKER, WAYS[way].engine, architecture, weights],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=variables,
        )
        self._way = way

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()

    def wait_until_ready(self) -> None:
        self.version = self._hear()["version"]

    def speed(self, batch: int, seconds: float) -> float:
        """Images a second."""
        return self._ask(batch=batch, seconds=seconds)["images_per_second"]

    def logits(self, images: np.ndarray, folder: Path) -> np.ndarray:
        np.save(folder / "images.npy", images)
        self._ask(images=str(folder / "images.npy"), logits=str(folder / "logits.npy"))
        return np.load(folder / "logits.npy")

    def _ask(self, **task):
        self._process.stdin.write(json.dumps(task) + "\n")
        self._process.stdin.flush()
        return self._hear()

    def _hear(self):
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._way} has ended with {self._process.wait()}; see above")
        return json.loads(line)


def compare(engines: dict[str, Engine], images: np.ndarray, folder: Path) -> dict[str, float]:
    """How far each one's logits are from ONNX Runtime's, as a part of the largest."""
    expected = engines["ONNX Runtime"].logits(images, folder)
    far = {}
    for way, engine in engines.items():
        logits = engine.logits(images, folder)
        far[way] = float(np.abs(logits - expected).max() / np.abs(expected).max())
        tolerance = TOLERANCES["bfloat16" if "bfloat16" in way else "float32"]
        if not far[way] <= tolerance:
            raise RuntimeError(f"{way}: logits differ by {far[way]:.2g}, more than {tolerance}")
    return far


def part(architecture, batches, engines, speeds, agreed, *, torch) -> Part:
    """The table, the targets and the plot of one network."""
    name = architecture.replace("resnet", "ResNet")
    absent = "torch.compile: torch is not installed, or has no such network here (gpu_torch.py)"
    labels = {way: WAYS[way].label for way in engines}
    return Part(
        name=f"network-{architecture}",
        title=f"{name} alone, on the CPU",
        description=DESCRIPTION,
        columns={
            "way": "way",
            "version": "version",
            "far": "logits differ by",
            **{f"b{batch}": f"batch {batch}" for batch in batches},
        },
        rows=[
            {
                "way": labels[way],
                "version": engine.version,
                "far": f"{agreed[way]:.0e}",
                **{f"b{batch}": speeds[way, batch] for batch in batches},
            }
            for way, engine in engines.items()
        ],
        targets=[
            target
            for batch in batches
            if batch in TARGET_BATCHES
            for target in targets(f"{name}, batch {batch}", {w: speeds[w, batch] for w in labels})
        ],
        plots=[
            Plot(
                f"network-{architecture}",
                f"{name} alone, on the CPU",
                "images in a batch",
                "images a second",
                [
                    Line(labels[way], batches, [speeds[way, batch] for batch in batches])
                    for way in labels
                ],
                peaks={"best of the float32 peers": max(
                    speeds[way, batch].median for way in labels if way in PEERS for batch in batches
                )},
                log_x=True,
            )
        ],
        absent=[] if torch else [absent],
    )  # fmt: skip


def targets(where: str, speeds: dict[str, Spread]) -> list[Target]:
    """What is wanted of one batch size."""
    best = max((w for w in PEERS if w in speeds), key=lambda way: speeds[way].median)
    wanted = [
        ("xla", best, 0.75, WHY),
        ("openvino", best, 0.75, ""),
        ("openvino", "OpenVINO", 0.9, ""),
        ("openvino bfloat16", "OpenVINO bfloat16", 0.9, ""),
        ("openvino bfloat16", "xla", 1.0, ""),
    ]
    return [
        Target(
            f"{where}: {WAYS[way].label}, beside {WAYS[other].label}",
            speeds[way].over(speeds[other]),
            at_least=bound,
            unit=TIMES,
            why=why,
        )
        for way, other, bound, why in wanted
    ]


DESCRIPTION = """\
Images a second, all cores, float32 images on the host to logits on the host. `cpu_engine` says who
compiles the JAX function that is served, with the model's own functions: XLA has batches of more
than 4 in parts, and the memory of the process is kept from call to call. A peer runs an ONNX or
PyTorch model of the same network that was not made from JAX. Differences of the logits are parts of
the largest one.
"""
WHY = """\
XLA's convolutions on CPUs are slow whatever is done around them: folding BatchNorm, weights as
constants, 1 by 1 convolutions as products of matrices change little, and im2col makes them slower.
Memory that is kept from call to call is in this figure. `cpu_engine` is there for the rest.\
"""
