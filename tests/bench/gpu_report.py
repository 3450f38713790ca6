"""The page of a GPU benchmark: its tables, and the verdict on its target."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from gpu_jax import ON_DEVICE

# H200, ResNet50: JAX reaches at least what torch.compile reaches in the same run.
TARGET_DEVICE, TARGET_DTYPE, TARGET_BATCHES, TARGET_RATIO = "H200", "bfloat16", (64, 256), 1.0
TARGET_NETWORK = ("ResNet50", 224)

Rows = list[dict[str, Any]]
NOTES = """\
- Both sides compute the same network with the same weights: the logits of every way agree with
  JAX's in float32, or it is not timed. Images are seeded, each of a brightness and a colour of its
  own, so that the logits of one do not pass for another's.
- *folded*: BatchNorm's factors are moved into the kernels when the weights are loaded. *constants*:
  the weights are inside the program. *frozen*: PyTorch's inductor sees the weights as constants.
- *device*: images are on the device and logits stay there; calls queue on a GPU, one at a time on a
  CPU. *host*: images come from numpy, logits go back to it, one batch after the other; *pinned*:
  from page-locked memory; *overlapped*: the next batch travels while the present one is computed.
  JAX has overlapped ways and no pinned ones, PyTorch pinned ones and no overlapped ones: with the
  best of each side, transfers are no comparison of the two.
- Nothing is donated: a batch of images has neither the shape nor the dtype of the logits, so XLA
  has no use for its memory. Images are [n, height, width, 3] (NHWC) on both sides; XLA chooses each
  convolution's layout itself, and `xla_gpu_force_conv_nhwc` or `_nchw` force one.
- Operations: two for each multiply-add of the convolutions and the matrix product. Bytes: inputs,
  kernels and outputs of each of these, of pooling and of the shortcuts, once each; a GPU's cache
  may spare some at small batches. *overlapped*: all operations beside all bytes; *in turn*: layer
  after layer, which is what fractions are of.
"""


def page(result: dict[str, Any]) -> str:
    """Markdown of everything that gpu.json holds."""
    rows, network = result["rows"], result["network"]
    parts = [
        f"# {network['architecture']} on {result['device']}\n\n{heading(result)}",
        f"## Target\n\n{verdict_table(result['verdict'])}",
        "## Images/s, median of rounds (least to greatest)\n",
        *throughput(row for row in rows if row["feed"] == ON_DEVICE),
        "## Transfers included\n",
        *throughput(row for row in rows if row["feed"] != ON_DEVICE),
        f"## Steps\n\n{steps_table(rows)}",
        f"## Roofline\n\n{limits_table(result['limits'])}\n\n{roofline_table(result['roofline'])}",
        f"## Where the time goes\n\n{cost_table(result['costs'])}",
        *(profile_table(profile) for profile in result["profiles"]),
        f"## Not measured\n\n{reasons(rows, result['notes'])}",
        f"## How to read it\n\n{NOTES.rstrip()}",
    ]
    return "\n\n".join(part.rstrip() for part in parts) + "\n"


def heading(result: dict[str, Any]) -> str:
    network, options = result["network"], result["options"]
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    return (
        f"{result['date']}; {versions}. Images of {network['size']} x {network['size']}, "
        f"random weights, {options['rounds']} rounds of {options['seconds']} s, all ways of one "
        "batch size interleaved."
    )


def verdict(result: dict[str, Any]) -> Rows:
    """The target's rows, each reached, missed, or not measured with the reason."""
    rows = []
    for batch in TARGET_BATCHES:
        at = [
            row
            for row in result["rows"]
            if (row["dtype"], row["batch"], row["feed"]) == (TARGET_DTYPE, batch, ON_DEVICE)
        ]
        ours = fastest(row for row in at if row["side"] == "JAX")
        peer = fastest(row for row in at if row["side"] == "PyTorch" and "compile" in row["name"])
        network = result["network"]
        why = ""
        if result["platform"] != "gpu":
            why = f"not measured on a GPU: this is {result['device']}"
        elif (network["architecture"], network["size"]) != TARGET_NETWORK:
            why = f"not measured: this is {network['architecture']} at {network['size']} pixels"
        elif not ours or not peer:
            why = f"not measured: no figure of {'torch.compile' if ours else 'JAX'}"
        row = {"batch": batch, "ours": ours, "peer": peer, "ratio": None, "reached": None}
        row["roofline"] = next(
            (
                each["jax"] / each["in_turn"]
                for each in result["roofline"]
                if (each["dtype"], each["batch"]) == (TARGET_DTYPE, batch) and each["jax"]
            ),
            None,
        )
        if not why:
            row["ratio"] = ours["images_per_second"] / peer["images_per_second"]
            row["reached"] = row["ratio"] >= TARGET_RATIO
            why = "reached" if row["reached"] else "missed"
            if TARGET_DEVICE not in result["device"]:
                why += f", on {result['device']} instead"
        rows.append({**row, "said": why})
    return rows


def fastest(rows: Iterable[dict[str, Any]]) -> dict[str, Any] | None:
    measured = [row for row in rows if row["images_per_second"]]
    return max(measured, key=lambda row: row["images_per_second"], default=None)


def table(titles: Iterable[str], lines: Iterable[Iterable[object]]) -> str:
    titles = list(titles)
    written = [titles, ["---"] * len(titles), *lines]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in written)


def verdict_table(rows: Rows) -> str:
    """The ratios of the same run, and what becomes of the target."""
    lines = []
    for row in rows:
        target = f"{TARGET_DEVICE}, {TARGET_DTYPE}, batch {row['batch']}: ≥ {TARGET_RATIO:.1f} x"
        sides = [
            f"{s['images_per_second']:.1f} ({s['name']})" if s else "-"
            for s in (row["ours"], row["peer"])
        ]
        ratio = "-" if row["ratio"] is None else f"{row['ratio']:.2f} x"
        share = "-" if row["roofline"] is None else f"{row['roofline']:.0%}"
        lines.append([f"{target} torch.compile", *sides, ratio, share, row["said"]])
    titles = ["target", "JAX's best", "torch.compile's best", "ratio"]
    return table([*titles, "JAX's share of the roofline", "verdict"], lines)


def throughput(rows: Iterable[dict[str, Any]]) -> Iterator[str]:
    """A table for each dtype: ways down, batch sizes across."""
    rows = [row for row in rows if row["images_per_second"]]
    for dtype in unique(row["dtype"] for row in rows):
        here = [row for row in rows if row["dtype"] == dtype]
        batches = sorted({row["batch"] for row in here})
        lines = []
        for side, name, feed in unique((r["side"], r["name"], r["feed"]) for r in here):
            cells = {
                row["batch"]: spread(row)
                for row in here
                if (row["side"], row["name"], row["feed"]) == (side, name, feed)
            }
            lines.append([side, name, feed, *(cells.get(batch, "-") for batch in batches)])
        titles = [dtype, "way", "images", *(f"batch {batch}" for batch in batches)]
        yield table(titles, lines)


def unique(values: Iterable[Any]) -> list[Any]:
    return list(dict.fromkeys(values))


def spread(row: dict[str, Any]) -> str:
    rounds = row["rounds"]
    return f"{row['images_per_second']:.1f} ({min(rounds):.1f} to {max(rounds):.1f})"


def steps_table(rows: Rows) -> str:
    """What each step gives over plain jit, in the same rounds: keep it, or drop it."""
    mine = [
        row
        for row in rows
        if row["side"] == "JAX" and row["feed"] == ON_DEVICE and row["images_per_second"]
    ]
    columns = unique((row["dtype"], row["batch"]) for row in mine)
    plain = {
        (row["dtype"], row["batch"]): row["images_per_second"]
        for row in mine
        if row["name"] == "jit"
    }
    lines = []
    for name in unique(row["name"] for row in mine):
        cells = {
            (row["dtype"], row["batch"]): row["images_per_second"]
            for row in mine
            if row["name"] == name
        }
        gains = [
            f"{cells[at] / plain[at]:.2f} x" if at in cells and at in plain else "-"
            for at in columns
        ]
        lines.append([name, *gains])
    return table(["step", *(f"{dtype}, batch {batch}" for dtype, batch in columns)], lines)


def limits_table(rows: Rows) -> str:
    lines = [
        [
            row["dtype"],
            row["side"],
            f"{row['operations']['rate'] / 1e12:.2f} ({row['operations']['size']})",
            f"{row['bandwidth']['rate'] / 1e9:.1f}",
        ]
        for row in rows
    ]
    titles = ["dtype", "measured with", "TFLOP/s of square products (best size)", "GB/s of a copy"]
    return table(titles, lines)


def roofline_table(rows: Rows) -> str:
    """Attainable images/s, and the share of it that each side's best way reaches."""
    lines = []
    for row in rows:
        shares = [
            "-" if value is None else f"{value:.1f} ({value / row['in_turn']:.0%})"
            for value in (row["jax"], row["torch"])
        ]
        lines.append(
            [
                row["dtype"],
                row["batch"],
                f"{row['operations'] / row['batch'] / 1e9:.2f}",
                f"{row['traffic'] / row['batch'] / 1e6:.1f}",
                f"{row['overlapped']:.1f}",
                f"{row['in_turn']:.1f}",
                *shares,
            ]
        )
    titles = ["dtype", "batch", "GFLOP/image", "MB/image", "overlapped", "in turn"]
    return table([*titles, "JAX's best (of in turn)", "PyTorch's best (of in turn)"], lines)


def cost_table(rows: Rows) -> str:
    """What XLA itself says of the folded program."""
    lines = [
        [row["dtype"], row["batch"], f"{row['flops'] / 1e9:.2f}", f"{row['bytes'] / 1e6:.1f}"]
        for row in rows
    ]
    titles = ["dtype", "batch", "GFLOP/image by XLA's cost analysis", "MB/image by it"]
    return table(titles, lines)


def profile_table(profile: dict[str, Any]) -> str:
    """The ten greatest kernels, and all others together."""
    total = sum(profile["kernels"].values())
    title = f"{profile['side']}, {profile['name']}, {profile['dtype']}, batch {profile['batch']}"
    if not total:
        return f"{title}: {profile['reason'] or 'the profiler named no kernel'}."
    greatest = sorted(profile["kernels"].items(), key=lambda item: -item[1])
    others = sum(ms for _, ms in greatest[10:])
    lines = [
        [f"`{name[:90].replace('|', '/')}`", f"{ms:.3f}", f"{ms / total:.1%}"]
        for name, ms in greatest[:10]
    ]
    if others:
        lines.append([f"{len(greatest) - 10} others", f"{others:.3f}", f"{others / total:.1%}"])
    return table([title, "ms a call, all threads or streams", "share"], lines)


def reasons(rows: Rows, notes: list[str]) -> str:
    """Everything that was asked for and not measured, each reason once."""
    lines = list(notes)
    failed = [row for row in rows if row["reason"]]
    for side, name, feed, why in unique(
        (row["side"], row["name"], row["feed"], row["reason"]) for row in failed
    ):
        where = ", ".join(
            f"{row['dtype']} batch {row['batch']}"
            for row in failed
            if (row["side"], row["name"], row["feed"], row["reason"]) == (side, name, feed, why)
        )
        lines.append(f"{side}, {name}, {feed} ({where}): {why}")
    return "\n".join(f"- {line}" for line in lines) or "Everything was."
