"""Draws plots as files; needs matplotlib, and no screen."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

from parts import Plot

SUFFIXES = ("svg", "png")
MARKERS = "osD^vP*X"
FEW = 4  # lines that leave room for a legend


def draw(plot: Plot, folder: Path, suffixes: Sequence[str] = SUFFIXES) -> list[Path]:
    """Write a plot into a folder; the files. A bar at each point spans its rounds."""
    import matplotlib as mpl

    mpl.use("Agg")
    # The same figures make the same file: no random names of what is in it, no date.
    mpl.rcParams.update({"svg.hashsalt": plot.name, "svg.fonttype": "none"})
    from matplotlib import pyplot as plt
    from matplotlib import ticker

    folder.mkdir(parents=True, exist_ok=True)
    is_crowded = len(plot.lines) > FEW
    figure, axes = plt.subplots(figsize=(9.5 if is_crowded else 7, 4.2), layout="constrained")
    for line, marker in zip(plot.lines, itertools.cycle(MARKERS), strict=False):
        medians = [each.median for each in line.y]
        below = [each.median - each.least for each in line.y]
        above = [each.greatest - each.median for each in line.y]
        axes.errorbar(
            line.x, medians, yerr=[below, above], label=line.label, marker=marker, capsize=3
        )
    for (label, height), style in zip(plot.peaks.items(), itertools.cycle(("--", ":", "-."))):
        axes.axhline(height, label=label, color="black", linestyle=style, linewidth=1)
    if plot.log_x:
        axes.set_xscale("log", base=2)
    if plot.log_y:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(ticker.FuncFormatter(lambda y, _: f"{y:g}"))
        axes.yaxis.set_minor_locator(ticker.NullLocator())
    else:
        axes.set_ylim(bottom=0)
    ticks = sorted({x for line in plot.lines for x in line.x})
    axes.set_xticks(ticks, [f"{x:.3g}" for x in ticks], minor=False)
    axes.set(title=plot.title, xlabel=plot.x_label, ylabel=plot.y_label)
    axes.grid(visible=True, alpha=0.3)
    if is_crowded:  # beside the lines, not over them
        figure.legend(fontsize="small", loc="outside right upper")
    else:
        axes.legend(fontsize="small")
    files = [folder / f"{plot.name}.{suffix}" for suffix in suffixes]
    for file in files:
        figure.savefig(file, dpi=120, metadata={"Date": None} if file.suffix == ".svg" else None)
    plt.close(figure)
    return files
