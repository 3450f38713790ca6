"""ResNet50's images/s in JAX and in PyTorch on this machine's GPU, beside what it can reach.

    python gpu.py [--batches 64 256] [--dtypes bfloat16] [--output FOLDER]

Needs this file and the gpu_*.py beside it, jax, flax, flaxmodels and torch; without torch JAX is
measured alone. Runs on a CPU too, where --quick takes minutes. No network is needed: the weights
are random, and the same on both sides. Writes gpu.json and gpu.md after every batch size, so that
a run that is broken off leaves what it has.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

DTYPES = ("float32", "tf32", "bfloat16")
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
DETAIL = (1, 64, 256)
NETWORKS = tuple(f"ResNet{depth}" for depth in (18, 34, 50, 101, 152))


def main(arguments: list[str] | None = None) -> None:
    """Measure, and write the page."""
    options = read_options(arguments)
    if not {"XLA_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_MEM_FRACTION"} & set(os.environ):
        os.environ["XLA_CLIENT_MEM_FRACTION"] = "0.45"  # else JAX leaves PyTorch a quarter
    import jax

    on_gpu = jax.default_backend() == "gpu"
    complete(options, on_gpu=on_gpu)
    run = Run(options, on_gpu=on_gpu)
    for dtype in options.dtypes:
        run.measure(dtype)
    print(run.write())


def read_options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--batches", type=int, nargs="+", help="default: 1, 2, 4 and so on to 256")
    add("--detail", type=int, nargs="+", help="batches with steps, transfers and profiles too")
    add("--dtypes", choices=DTYPES, nargs="+", help="default: all; on a CPU TF32 is float32")
    add("--rounds", type=int, default=5)
    add("--seconds", type=float, default=0.5, help="of each way in each round")
    add("--image-size", type=int, default=224)
    add("--architecture", choices=NETWORKS, default="ResNet50", help="PyTorch: ResNet50 and deeper")
    modes = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")
    add("--compile-modes", choices=modes, nargs="*", help="of torch.compile; nothing: none")
    add(
        "--xla-flags",
        nargs="*",
        metavar="NAME=VALUE,NAME=VALUE",
        help="a further way for each set; nothing: none; for the whole run set XLA_FLAGS",
    )
    add("--no-torch", action="store_true", help="JAX alone")
    add("--quick", action="store_true", help="batch 1 and 4 of 64x64, two short rounds")
    add("--output", type=Path, default=Path("bench-results"))
    options = parser.parse_args(arguments)
    if options.quick:
        options.batches = options.batches or [1, 4]
        options.rounds, options.seconds, options.image_size = 2, 0.1, min(options.image_size, 64)
    numbers = [*(options.batches or []), *(options.detail or []), options.rounds]
    if min(numbers) < 1 or options.seconds <= 0 or options.image_size < 32:
        parser.error("expected batches and rounds from 1, seconds above 0, images of 32 or more")
    return options


def complete(options: argparse.Namespace, *, on_gpu: bool) -> None:
    """What was not asked for, as this device makes sense of it."""
    from gpu_jax import GPU_FLAGS, read_flags

    options.batches = sorted(set(options.batches or BATCHES))
    detail = set(options.detail or DETAIL) & set(options.batches)
    options.detail = sorted(detail or {options.batches[-1]})
    options.dtypes = options.dtypes or [each for each in DTYPES if on_gpu or each != "tf32"]
    if options.compile_modes is None:
        options.compile_modes = ["reduce-overhead", "max-autotune"] if on_gpu else ["default"]
    if options.xla_flags is None:
        options.xla_flags = list(GPU_FLAGS) if on_gpu else []
    try:
        for flags in options.xla_flags:
            read_flags(flags)
    except ValueError as error:
        raise SystemExit(f"gpu.py: {error}") from None


class Run:
    """One run of the benchmark, and what it has found so far."""

    def __init__(self, options: argparse.Namespace, *, on_gpu: bool) -> None:
        import jax
        from gpu_jax import make_network, random_images, random_variables
        from gpu_report import page, verdict

        self.options, self.on_gpu = options, on_gpu
        self.page, self.verdict = page, verdict
        options.output.mkdir(parents=True, exist_ok=True)
        self.arrays = random_variables(make_network(options.architecture, "float32"))
        self.images = random_images(options.batches[-1], options.image_size)
        self.result: dict[str, Any] = {
            "date": datetime.now(UTC).strftime("%Y-%m-%d"),
            "device": device_name(jax.devices()[0]),
            "platform": jax.default_backend(),
            "versions": versions(),
            "network": {"architecture": options.architecture, "size": options.image_size},
            "options": {**vars(options), "output": str(options.output)},
            "notes": [],
        }
        for part in ("rows", "limits", "roofline", "costs", "profiles"):
            self.result[part] = []
        self.torch = self.find_torch()
        if not on_gpu:
            self.note("JAX has no GPU here (for one: jax[cuda13]): all figures are a CPU's.")
        self.reference = self.reference_logits()

    def note(self, text: str) -> None:
        print(text, flush=True)
        self.result["notes"].append(text)

    def find_torch(self) -> bool:
        if self.options.no_torch:
            self.note("PyTorch: left out, as --no-torch asks for.")
            return False
        if not importlib.util.find_spec("torch"):
            self.note("PyTorch: torch is not installed; JAX is measured alone.")
            return False
        return True

    def reference_logits(self) -> Any:
        """JAX's in float32, which every way of every dtype is held against."""
        import numpy as np
        from gpu_jax import JaxSide, as_floats, classify

        side, step = JaxSide(self.options.architecture, "float32", self.arrays), 8
        step = min(step, len(self.images))
        padded = np.concatenate([self.images, self.images[: -len(self.images) % step]])
        images = as_floats(padded)
        program = side.compile(classify, side.plain, images[:step])
        parts = [program(side.plain, part) for part in np.split(images, len(images) // step)]
        return np.concatenate(parts)[: len(self.images)]

    def measure(self, dtype: str) -> None:
        """All batch sizes of one dtype, and what the device can do in it."""
        from gpu_jax import JaxSide
        from gpu_roofline import Limits, jax_limits, torch_limits

        sizes, megabytes = matrix_sizes(self.options, on_gpu=self.on_gpu)
        ours = JaxSide(self.options.architecture, dtype, self.arrays)
        found = {"JAX": jax_limits(dtype, sizes, megabytes)}
        if self.torch and (peer := self.torch_side(dtype)):
            found["PyTorch"] = torch_limits(dtype, sizes, megabytes, gpu=self.on_gpu)
        else:
            peer = None
        for side, (operations, bandwidth) in found.items():
            row = {"dtype": dtype, "side": side, "operations": operations, "bandwidth": bandwidth}
            self.result["limits"].append(row)
        limits = Limits(*(max(each[n]["rate"] for each in found.values()) for n in (0, 1)))
        for number, batch in enumerate(self.options.batches):
            if peer and number:
                peer = self.torch_side(dtype)  # its compiler starts afresh
            rows = self.measure_batch(ours, peer, batch)
            self.roofline(dtype, batch, limits, rows)
            if batch in self.options.detail:
                self.look_inside(ours, peer, batch)
            self.write()

    def torch_side(self, dtype: str) -> Any:
        try:
            from gpu_torch import TorchSide

            return TorchSide(dtype, self.arrays, gpu=self.on_gpu)
        except Exception as error:  # noqa: BLE001 (JAX is measured all the same, the page tells why)
            from gpu_timing import reason

            self.torch = False
            self.note(f"PyTorch: {reason(error)}.")

    def measure_batch(self, ours: Any, peer: Any, batch: int) -> list[dict[str, Any]]:
        """All ways at one batch size, interleaved."""
        from itertools import chain

        from gpu_timing import measure

        images, detail = self.images[:batch], batch in self.options.detail
        ways = ours.ways(images, detail=detail, flag_sets=tuple(self.options.xla_flags))
        if peer:
            modes = tuple(self.options.compile_modes)
            ways = chain(ways, peer.ways(images, detail=detail, modes=modes))
        rounds, seconds = self.options.rounds, self.options.seconds
        reference, rows = self.reference[:batch], []
        for row in measure(ways, ours.dtype, reference, rounds=rounds, seconds=seconds):
            said = row.reason or f"{row.images_per_second:.1f} images/s"
            print(f"{row.dtype}, {batch}, {row.side}, {row.name}, {row.feed}: {said}", flush=True)
            rows.append(row.as_dict())
        self.result["rows"] += rows
        return rows

    def roofline(self, dtype: str, batch: int, limits: Any, rows: list[dict[str, Any]]) -> None:
        from gpu_report import ON_DEVICE, fastest
        from gpu_roofline import attainable, network_work

        network = self.options.architecture
        works = network_work(network, dtype, self.arrays, batch, self.options.image_size)
        overlapped, in_turn = attainable(works, limits, batch)
        found = {"dtype": dtype, "batch": batch, "overlapped": overlapped, "in_turn": in_turn}
        found["operations"] = sum(each.operations for each in works)
        found["traffic"] = sum(each.traffic for each in works)
        for key, side in (("jax", "JAX"), ("torch", "PyTorch")):
            best = fastest(row for row in rows if (row["side"], row["feed"]) == (side, ON_DEVICE))
            found[key] = best and best["images_per_second"]
        self.result["roofline"].append(found)

    def look_inside(self, ours: Any, peer: Any, batch: int) -> None:
        """XLA's cost analysis, and both sides' profiles."""
        from functools import partial

        import gpu_jax
        from gpu_timing import reason

        floats = gpu_jax.as_floats(self.images[:batch])
        at = {"dtype": ours.dtype, "batch": batch}
        costs = ours.compile(gpu_jax.classify_folded, ours.folded, floats).cost_analysis() or {}
        amounts = (costs.get("flops", 0) / batch, costs.get("bytes accessed", 0) / batch)
        self.result["costs"].append({**at, "flops": amounts[0], "bytes": amounts[1]})
        sides = [("JAX", "folded", partial(ours.folded_jit, floats), gpu_jax.profile)]
        if peer:
            from gpu_torch import profile

            make, name = partial(peer.resident, lambda: peer.folded, floats), "folded, eager"
            if modes := self.options.compile_modes:
                name = f"folded, compile, {modes[0]}, frozen"
                network = partial(peer.compiled, peer.folded, modes[0], frozen=True)
                make = partial(peer.resident, network, floats)
            sides.append(("PyTorch", name, make, partial(profile, gpu=self.on_gpu)))
        for side, name, make, profiler in sides:
            found = {**at, "side": side, "name": name, "kernels": {}, "reason": ""}
            try:
                runner = make()
                runner.run(3)
                found["kernels"] = dict(profiler(runner.run, 3))
            except Exception as error:  # noqa: BLE001 (the figures are there without a profile)
                found["reason"] = reason(error)
            self.result["profiles"].append(found)

    def write(self) -> str:
        """gpu.json and gpu.md of what has been found so far; the text of the page."""
        self.result["verdict"] = self.verdict(self.result)
        (self.options.output / "gpu.json").write_text(json.dumps(self.result, indent=1) + "\n")
        text = self.page(self.result)
        (self.options.output / "gpu.md").write_text(text)
        return text


def matrix_sizes(options: argparse.Namespace, *, on_gpu: bool) -> tuple[list[int], int]:
    """Sides of the square matrices, and megabytes of the copy: beyond every cache."""
    if on_gpu:
        return [2048, 4096, 8192, 16384], 4096
    return ([512, 1024], 512) if options.quick else ([1024, 2048, 4096], 2048)


def device_name(device: Any) -> str:
    if device.platform == "gpu":
        return str(device.device_kind)
    return f"{os.cpu_count()} CPU cores ({platform.machine()})"


def versions() -> dict[str, str]:
    found = {"Python": platform.python_version()}
    for name in ("jax", "jaxlib", "flax", "flaxmodels", "torch", "triton", "numpy"):
        if importlib.util.find_spec(name):
            found[name] = importlib.metadata.version(name)
    return found


if __name__ == "__main__":
    main()
