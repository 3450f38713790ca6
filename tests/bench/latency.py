"""Latencies of requests that come at times of their own, at parts of what a server can do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from load import PERCENTILES, Figures, Generator, Load
from parts import Line, Part, Plot, Settings, Spread, interleaved

WAITING = 32  # requests under way at most; more are late, which counts as latency


def measure(
    generator: Generator, url: str, model: str, capacity: float, settings: Settings
) -> dict[float, list[Figures]]:
    """Figures of each round by the part of the capacity (requests a second) that is offered."""
    parts = settings.pick((0.3, 0.5, 0.7, 0.8, 0.9), (0.5, 0.8))
    seconds = settings.pick(3.0, 1.0)
    seeds = dict.fromkeys(parts, 0)

    def offer(part: float) -> Figures:
        seeds[part] += 1  # each round's requests come at other times, the same for all parts
        load = Load(url, model, WAITING, seconds, rate=part * capacity)
        return generator.must(replace(load, seed=seeds[part]))

    return interleaved({part: lambda part=part: offer(part) for part in parts}, settings.rounds)


def part(offered: Mapping[float, list[Figures]], capacity: float) -> Part:
    """Percentiles over the load."""
    names = [f"p{q} latency" for q in PERCENTILES]
    rows = [
        {
            "part": f"{part:.0%}",
            **{
                name: Spread.of([each[name] for each in rounds])
                for name in ("Request Rate", "Inferences/Second", "Request Count")
            },
            **{f"p{q} latency": percentile(rounds, q) for q in PERCENTILES},
        }
        for part, rounds in offered.items()
    ]
    return Part(
        name="latency",
        title="Latency over load",
        description=(
            "This repository's ResNet18 on the real tritonserver over HTTP. Requests come "
            "independently of each other and of the answers (an open loop with the intervals of a "
            "Poisson process) at parts of the "
            f"{capacity:.0f} images a second that 16 clients got in the same run. A latency is "
            "counted from when its request was due. Milliseconds; a percentile is empty where a "
            "round had too few answers for one beyond it."
        ),
        columns={
            "part": "load",
            "Request Rate": "Request Rate",
            "Inferences/Second": "Inferences/Second",
            "Request Count": "Request Count",
            **{name: name for name in names},
        },
        rows=rows,
        plots=[
            Plot(
                name="latency",
                title="Latency of ResNet18 on the real tritonserver, open loop",
                x_label="offered requests a second",
                y_label="milliseconds",
                lines=[
                    Line(
                        name,
                        [row["Request Rate"].median for row in there],
                        [row[name] for row in there],
                    )
                    for name in names
                    if (there := [row for row in rows if row[name]])
                ],
                log_y=True,
            )
        ],
    )


def percentile(rounds: Sequence[Figures], q: int) -> Spread | None:
    """Milliseconds that so many in a hundred answers took; None if a round has none beyond it.

    That is the 99th from 100 answers on, the 95th from 20.
    """
    if min(each["Request Count"] for each in rounds) * (100 - q) < 100:
        return None
    return Spread.of([each[f"p{q} latency"] / 1000 for each in rounds])
