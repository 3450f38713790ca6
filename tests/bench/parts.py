"""What every benchmark shares: figures with their spread, targets, and the part of a page.

A benchmark is a module with ``run(settings) -> Part`` or a list of them; ``bench.py`` knows them
all, runs them and writes what they return.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
TIMES = "\N{MULTIPLICATION SIGN}"  # the unit of a ratio


@dataclass(frozen=True)
class Settings:
    """How thoroughly to measure, and where the results go."""

    quick: bool = False
    rounds: int = 3
    output: Path = Path("bench-results")

    def pick(self, full: T, quick: T) -> T:
        """What a full run uses, and what a quick one does instead."""
        return quick if self.quick else full


@dataclass(frozen=True)
class Spread:
    """A figure that was measured in several rounds: its median, and how far the rounds differ."""

    rounds: tuple[float, ...]

    @classmethod
    def of(cls, rounds: Sequence[float]) -> Spread:
        return cls(tuple(float(each) for each in rounds))

    def __post_init__(self) -> None:
        if not self.rounds:
            raise ValueError("a spread of no rounds; expected at least one figure; measure one")

    @property
    def median(self) -> float:
        return statistics.median(self.rounds)

    @property
    def least(self) -> float:
        return min(self.rounds)

    @property
    def greatest(self) -> float:
        return max(self.rounds)

    def over(self, other: Spread) -> Spread:
        """Ratios of one round each: what disturbs a round disturbs both sides of its ratio."""
        return Spread(tuple(a / b for a, b in zip(self.rounds, other.rounds, strict=True)))

    def times(self, factor: float) -> Spread:
        return Spread(tuple(each * factor for each in self.rounds))

    def __str__(self) -> str:
        digits = decimals(self.median)
        median, least, greatest = (
            f"{each:,.{digits}f}" for each in (self.median, self.least, self.greatest)
        )
        return median if len(self.rounds) == 1 else f"{median} ({least} to {greatest})"


def decimals(value: float) -> int:
    """So many of them that three figures of the value are seen; none from 100 on."""
    size = abs(value)
    return 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 0.1 or not size else 4


def interleaved(ways: Mapping[str, Callable[[], T]], rounds: int) -> dict[str, list[T]]:
    """What each way gives in each round. All ways are measured in a round, before the next.

    Every second round goes backwards, so that a machine which warms up or slows down favours
    nobody.
    """
    measured: dict[str, list[T]] = {name: [] for name in ways}
    for number in range(rounds):
        for name in reversed(ways) if number % 2 else ways:
            measured[name].append(ways[name]())
    return measured


@dataclass(frozen=True)
class Target:
    """What a figure should reach. Whether it does is computed from its median.

    Args:
        name: what is to be reached, in words.
        figure: what was measured; None if it was not.
        at_least: the bound from below; else ``at_most`` is the one from above.
        unit: of both, such as ``"ms"``; ``TIMES`` for a ratio.
        why: with no figure: why there is none. With one that misses the target: what was tried.
    """

    name: str
    figure: Spread | None
    at_least: float | None = None
    at_most: float | None = None
    unit: str = ""
    why: str = ""

    def __post_init__(self) -> None:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError(f"target {self.name!r}: expected one of at_least and at_most")
        if self.figure is None and not self.why:
            raise ValueError(f"target {self.name!r} has no figure; expected why; say so")

    @property
    def met(self) -> bool | None:
        """None if it was not measured."""
        if self.figure is None:
            return None
        if self.at_least is not None:
            return self.figure.median >= self.at_least
        return self.figure.median <= self.at_most

    @property
    def bound(self) -> str:
        """The bound in words."""
        if self.at_least is not None:
            return f"at least {self.at_least:g} {self.unit}".strip()
        return f"at most {self.at_most:g} {self.unit}".strip()

    @property
    def verdict(self) -> str:
        return {None: "not measured", True: "met", False: "missed"}[self.met]


@dataclass(frozen=True)
class Line:
    """One line of a plot: a figure for each ``x``."""

    label: str
    x: Sequence[float]
    y: Sequence[Spread]


@dataclass(frozen=True)
class Plot:
    """A plot by its data; ``plots.py`` draws it. ``name`` is the file's, without a suffix."""

    name: str
    title: str
    x_label: str
    y_label: str
    lines: Sequence[Line]
    # Horizontal lines that bound what can be had: label and height.
    peaks: Mapping[str, float] = field(default_factory=dict)
    log_x: bool = False
    log_y: bool = False


@dataclass
class Part:
    """What a benchmark tells: one table with its targets, its plots, and what is missing.

    Args:
        name: of its files: letters, digits, hyphens.
        title: the heading on the page.
        description: Markdown above the table: what was measured, and how.
        columns: heading of each column by its key in the rows.
        rows: what is in them: text, numbers, ``Spread`` or None. A row may have more than columns.
        targets: what the figures should reach.
        plots: as the word says.
        absent: sentences: what was not measured, and why.
        measured: when, where and how thoroughly; ``bench.py`` fills it in.
    """

    name: str
    title: str
    description: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)
    plots: list[Plot] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    measured: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """All of it, for :meth:`from_json`; a Spread also with its median."""
        return json.dumps(_plain(self), indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Part:
        told = json.loads(text, object_hook=_spread)
        told["targets"] = [
            Target(**{key: value for key, value in each.items() if key != "verdict"})
            for each in told["targets"]
        ]
        told["plots"] = [
            Plot(**{**each, "lines": [Line(**line) for line in each["lines"]]})
            for each in told["plots"]
        ]
        return cls(**told)


def _plain(value: Any) -> Any:
    if isinstance(value, Spread):
        return {"median": value.median, "rounds": list(value.rounds)}
    if isinstance(value, Target):
        return {**{k: _plain(v) for k, v in vars(value).items()}, "verdict": value.verdict}
    if isinstance(value, Part | Plot | Line):
        return {key: _plain(each) for key, each in vars(value).items()}
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value.item() if hasattr(value, "item") else value  # a number of numpy's


def _spread(value: dict[str, Any]) -> Any:
    return Spread.of(value["rounds"]) if set(value) == {"median", "rounds"} else value
