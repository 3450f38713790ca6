"""Measures what this project claims of its speed, and writes it down.

Each benchmark runs in a process of its own, one after the other. Each leaves a ``.json``, a ``.md``
and its plots in the folder of results. One that fails fails the run, after the others.

    python tests/bench/bench.py                     # all of them: a quarter of an hour
    python tests/bench/bench.py --quick             # fewer cells, shorter: under three minutes
    python tests/bench/bench.py overhead costs
    python tests/bench/bench.py --update-results    # and write tests/bench/RESULTS.md
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import multiprocessing
import re
import sys
import time
import traceback
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import page
import plots
from machine import machine
from parts import Part, Settings

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
PAGE = HERE / "RESULTS.md"

# Every benchmark, in the order of the page: its module has ``run(settings)``.
BENCHMARKS = {
    "network": "the ResNets alone, each way of JAX beside its peers",
    "serving": "the ResNets on the real server beside a tutorial's, the loss in serving, latency",
    "start": "from a server's start until its model is ready",
    "overhead": "what a request costs beyond the model's own time",
    "tensors": "what each further tensor of a request costs",
    "costs": "importing the stub, loading a model, memory, copies of large tensors",
    "endpoints": "requests a second over HTTP and gRPC, beside the real server",
}

NO_GPU = (
    "GPU: no result is there. `python tests/bench/gpu.py --output bench-results` measures ResNet50 "
    "on one, JAX beside PyTorch and the roofline; until then nothing is known of the speed there"
)


def main() -> int:
    given = arguments()
    settings = Settings(given.quick, given.rounds or (2 if given.quick else 3), given.output)
    settings.output.mkdir(parents=True, exist_ok=True)
    where = machine()
    failed = []
    for name in given.names or BENCHMARKS:
        print(f"{name}: {BENCHMARKS[name]}", flush=True)
        start = time.perf_counter()
        try:
            parts = measure(name, settings)
        except Exception:  # noqa: BLE001 - the others are to be measured
            traceback.print_exc()
            failed.append(name)
            continue
        took = time.perf_counter() - start
        for file in results(settings.output, name):  # of an earlier run, perhaps by other names
            forget(file)
        for number, part in enumerate(parts):
            part.measured = {
                "date": f"{datetime.now(UTC):%Y-%m-%d}", "took": took, "quick": settings.quick,
                "benchmark": name, "number": number, "machine": where,
            }  # fmt: skip
            write(part, settings.output)
            print(page.section(part), flush=True)
    if given.update_results and not failed:
        update(settings.output, where)
    for name in failed:
        print(f"{name} failed; see above", file=sys.stderr)
    if given.update_results and failed:
        print(f"{PAGE} is left as it was", file=sys.stderr)
    return 1 if failed else 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bench.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="\n".join(f"{name:10} {what}" for name, what in BENCHMARKS.items()),
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="those only; all unless given")
    parser.add_argument("--quick", action="store_true", help="fewer cells and shorter times")
    parser.add_argument("--rounds", type=int, help="of each figure; 3 unless given, 2 if quick")
    parser.add_argument("--output", type=Path, default=ROOT / "bench-results", metavar="DIR")
    parser.add_argument(
        "--torch",
        action="store_true",
        help="with nox: install PyTorch before (several GB), one more of the network's peers",
    )
    parser.add_argument(
        "--update-results",
        action="store_true",
        help="write tests/bench/RESULTS.md and its plots from all that is in the folder of results",
    )
    given = parser.parse_args()
    if wrong := sorted(set(given.names) - set(BENCHMARKS)):
        parser.error(f"no benchmark is called {wrong[0]!r}; expected {', '.join(BENCHMARKS)}")
    if given.torch and importlib.util.find_spec("torch") is None:
        parser.error("--torch: PyTorch is not installed; `nox -s bench -- --torch` does that")
    if given.rounds is not None and given.rounds < 1:
        parser.error(f"--rounds {given.rounds}: expected 1 or more")
    return given


def measure(name: str, settings: Settings) -> list[Part]:
    """Run a benchmark in a new process: what one leaves behind must not slow down the next."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as process:
        return process.submit(run, name, settings).result()


def run(name: str, settings: Settings) -> list[Part]:
    """What a benchmark tells, in this process."""
    told: Any = importlib.import_module(name).run(settings)
    return [told] if isinstance(told, Part) else list(told)


def write(part: Part, folder: Path) -> None:
    """A part as JSON, as Markdown, and its plots."""
    (folder / f"{part.name}.json").write_text(part.to_json())
    (folder / f"{part.name}.md").write_text(page.section(part))
    for plot in part.plots:
        plots.draw(plot, folder / "plots")


def forget(file: Path) -> None:
    """Delete a part's JSON, its Markdown and its plots."""
    for plot in json.loads(file.read_text())["plots"]:
        for suffix in plots.SUFFIXES:
            (file.parent / "plots" / f"{plot['name']}.{suffix}").unlink(missing_ok=True)
    file.with_suffix(".md").unlink(missing_ok=True)
    file.unlink()


def results(folder: Path, name: str) -> list[Path]:
    """The files that a benchmark has left in a folder of results, in the order of its parts."""
    measured = {
        file: json.loads(file.read_text()).get("measured", {}) for file in folder.glob("*.json")
    }
    files = [file for file, how in measured.items() if how.get("benchmark") == name]
    return sorted(files, key=lambda file: measured[file]["number"])


def update(folder: Path, where: dict[str, str]) -> None:
    """Write the page from all results of a folder, and the plots that it shows."""
    parts, absent = [], []
    for name, what in BENCHMARKS.items():
        files = results(folder, name)
        parts += [Part.from_json(file.read_text()) for file in files]
        if not files:
            absent.append(f"{name} ({what}): no result is there")
    for old in (PAGE.parent / "plots").glob("*.svg"):
        old.unlink()
    for plot in (plot for part in parts for plot in part.plots):
        plots.draw(plot, PAGE.parent / "plots", ["svg"])
    gpu = folder / "gpu.md"
    if gpu.exists():
        # A page of its own, from a machine of its own: here one section.
        after = re.sub(r"(?m)^(#+ )", r"#\1", gpu.read_text())
    else:
        after = ""
        absent.append(NO_GPU)
    PAGE.write_text(page.page(parts, where, absent) + (f"\n{after}" if after else ""))
    print(f"{PAGE} is written")


if __name__ == "__main__":
    sys.exit(main())
