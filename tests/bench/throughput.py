"""Images per second of this repository's ResNet and of the tutorial's, on the stub and on Triton.

Every cell is measured ``--rounds`` times, all cells once a round, so that a disturbance of the
machine hits them alike. Writes ``bench-results/throughput.{json,md}``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import jax

from triton_stub.engines.native import NativeEngine
from triton_stub.engines.stub import StubEngine

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
CLIENTS = (1, 4, 16)
MODELS = ("tutorial_resnet18", "resnet18")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8.0, help="length of one measurement")
    parser.add_argument("--output", type=Path, default=ROOT / "bench-results")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cells = measure(make_repository(Path(folder)), arguments)
    arguments.output.mkdir(exist_ok=True)
    (arguments.output / "throughput.json").write_text(json.dumps(cells, indent=1))
    (arguments.output / "throughput.md").write_text(table(cells))
    print(table(cells))


def make_repository(folder: Path) -> Path:
    """The tutorial's model, and ours as it is but for the architecture and seeded weights."""
    shutil.copytree(HERE / "models", folder, dirs_exist_ok=True)
    ours = shutil.copytree(ROOT / "model_repository/resnet50", folder / "resnet18")
    config = ours / "config.pbtxt"
    text = config.read_text()
    for old, new in {
        'name: "resnet50"': 'name: "resnet18"',
        'string_value: "resnet50"': 'string_value: "resnet18"',
        'string_value: "imagenet"': 'string_value: "random"',
    }.items():
        if old not in text:
            raise SystemExit(f"{config} no longer says {old!r}; adapt {__file__}")
        text = text.replace(old, new)
    config.write_text(text)
    return folder


def measure(repository: Path, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """One entry for each engine, model, number of clients and round."""
    cells = []
    with NativeEngine(repository) as native, StubEngine(repository) as stub:
        for number in range(arguments.rounds):
            for clients in CLIENTS:
                for model in MODELS:
                    for engine in (stub, native):
                        before = engine.statistics(model)["model_stats"][0]
                        cell = {
                            "engine": engine.name, "model": model, "clients": clients,
                            "round": number, **load(engine.http_url, model, clients, arguments),
                        }  # fmt: skip
                        after = engine.statistics(model)["model_stats"][0]
                        cell["mean batch"] = (
                            after["inference_count"] - before["inference_count"]
                        ) / (after["execution_count"] - before["execution_count"])
                        cells.append(cell)
                        print(json.dumps(cell), file=sys.stderr, flush=True)
    return cells


def load(url: str, model: str, clients: int, arguments: argparse.Namespace) -> dict[str, float]:
    command = [
        sys.executable, str(HERE / "load.py"), "--url", url, "--model", model,
        "--clients", str(clients), "--seconds", str(arguments.seconds),
    ]  # fmt: skip
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    measured: dict[str, float] = json.loads(done.stdout)
    return measured


def table(cells: list[dict[str, Any]]) -> str:
    """Markdown: median throughput, its spread, median latency and batch, and the gain."""
    lines = [
        f"ResNet18, 224 x 224 x 3 float32, HTTP, one image a request, {os.cpu_count()} CPU cores "
        f"({platform.machine()}); stub: jax {jax.__version__}. Median of the rounds (spread).",
        "",
        "| engine | clients | tutorial, images/s | ours, images/s | gain | p50, ms | mean batch |",
        "|---|---|---|---|---|---|---|",
    ]
    for engine in ("stub", "native"):
        for clients in CLIENTS:
            tutorial, ours = (
                [cell for cell in cells if key == (cell["engine"], cell["clients"], cell["model"])]
                for key in ((engine, clients, model) for model in MODELS)
            )
            slow, fast = _throughputs(tutorial), _throughputs(ours)
            gain = statistics.median(fast) / statistics.median(slow)
            p50 = statistics.median(cell["p50"] for cell in ours) / 1000
            batch = statistics.median(cell["mean batch"] for cell in ours)
            lines.append(
                f"| {engine} | {clients} | {_spread(slow)} | {_spread(fast)} | {gain:.1f} x | "
                f"{p50:.0f} | {batch:.1f} |"
            )
    return "\n".join(lines) + "\n"


def _throughputs(cells: list[dict[str, Any]]) -> list[float]:
    return [cell["throughput"] for cell in cells]


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"


if __name__ == "__main__":
    main()
