"""What was measured as Markdown: a part by itself, and the page of all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from parts import Part, Spread, Target, decimals

INTRODUCTION = """\
# What was measured

Written by `python -m nox -s bench -- --update-results`; no figure, and no verdict on one, is typed
in. Every figure is the median of its rounds, with the least and the greatest of them in
parentheses. What is compared was measured in one run, all sides in every round, and a ratio is the
median of the rounds' own ratios. Machines differ, and others may have worked on this one
meanwhile: trust ratios more than absolute figures.
"""


def section(part: Part, plots: str = "plots") -> str:
    """A part with its heading; ``plots`` is the folder of the pictures, as the text names it."""
    blocks = [f"## {part.title}", part.description.strip()]
    if part.measured:
        took = f"{part.measured['took']:.0f} s"
        kind = "a quick run" if part.measured["quick"] else rounds(part)
        blocks.append(f"Measured on {part.measured['date']}: {kind}, {took}.")
    if part.rows:
        blocks.append(table(part.columns, part.rows))
    if part.targets:
        blocks.append(targets(part.targets))
    blocks += [f"- Not measured: {sentence}" for sentence in part.absent]
    blocks += [f"![{plot.title}]({plots}/{plot.name}.svg)" for plot in part.plots]
    return "\n\n".join(block for block in blocks if block) + "\n"


def rounds(part: Part) -> str:
    """How many each figure is the median of: short ones have more."""
    cells = [cell for row in part.rows for cell in row.values()]
    counts = {len(cell.rounds) for cell in cells if isinstance(cell, Spread)} or {1}
    span = " to ".join(str(count) for count in sorted({min(counts), max(counts)}))
    return f"{span} round{'' if counts == {1} else 's'}"


def page(parts: Sequence[Part], machine: Mapping[str, str], absent: Sequence[str] = ()) -> str:
    """All parts; first the machine, what is not measured at all, and every target at a glance."""
    facts = [{"what": name, "value": value} for name, value in machine.items()]
    blocks = [INTRODUCTION, "## The machine", table({"what": "", "value": ""}, facts)]
    for part in parts:
        if part.measured and part.measured["machine"] != machine:
            other = part.measured["machine"]
            differing = {
                name: other.get(name, "not told")
                for name in {**machine, **other}
                if other.get(name) != machine.get(name)
            }
            told = ", ".join(f"{name}: {value}" for name, value in differing.items())
            blocks.append(f"“{part.title}” was measured where other things were so: {told}.")
    if absent:
        blocks += ["## Not measured", "\n".join(f"- {sentence}" for sentence in absent)]
    if every := [target for part in parts for target in part.targets]:
        met = sum(target.met is True for target in every)
        blocks += ["## All targets", f"{met} of {len(every)} are met.", targets(every)]
    blocks += [section(part) for part in parts]
    return "\n\n".join(block.strip() for block in blocks) + "\n"


def targets(every: Sequence[Target]) -> str:
    """A table of targets, the figure beside each; below it why those are missed that are."""
    columns = {"name": "target", "bound": "wanted", "figure": "measured", "verdict": "verdict"}
    rows = [
        {
            "name": target.name,
            "bound": target.bound,
            "figure": target.figure,
            "verdict": f"**{target.verdict}**" if target.met is False else target.verdict,
        }
        for target in every
    ]
    reasons = [
        f"- {target.name}: {target.verdict}. {target.why}"
        for target in every
        if not target.met and target.why
    ]
    return "\n\n".join(filter(None, [table(columns, rows), "\n".join(reasons)]))


def table(columns: Mapping[str, str], rows: Sequence[Mapping[str, Any]]) -> str:
    """A table of Markdown; a row that lacks a column is empty there."""
    lines = [list(columns.values()), ["---"] * len(columns)]
    lines += [[cell(row.get(key)) for key in columns] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cell(value: Any) -> str:
    """What is in a cell: a figure with its spread, a number, text, or nothing."""
    if value is None:
        return ""
    if isinstance(value, bool | int | str | Spread):
        return str(value).replace("|", "\\|").replace("\n", " ")
    return f"{value:,.{decimals(value)}f}"
