"""Ways to run a network, checked against the same logits and timed in interleaved rounds."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import NamedTuple

import numpy as np

# Greatest difference from float32's logits, as a share of their standard deviation. TF32 has
# float16's 11 bits in each product, bfloat16 has 8 bits in every sum that is stored.
TOLERANCE = {"float32": 1e-4, "tf32": 5e-3, "bfloat16": 5e-2}


class Runner(NamedTuple):
    """What one way has made ready."""

    run: Callable[[int], object]  # so many batches; returns when the last one is done
    logits: Callable[[], np.ndarray]  # of one batch


@dataclass
class Way:
    """One way to run the network; `make` compiles it and may fail."""

    side: str  # JAX or PyTorch
    name: str
    feed: str  # where the images come from, and whether logits are fetched
    make: Callable[[], Runner]


@dataclass
class Row:
    """Images/s of one way at one batch size, or why there are none."""

    dtype: str
    batch: int
    side: str
    name: str
    feed: str
    rounds: list[float] = field(default_factory=list)
    difference: float | None = None  # greatest, from the reference logits' standard deviation
    seconds_to_make: float | None = None
    reason: str = ""

    @property
    def images_per_second(self) -> float | None:
        return statistics.median(self.rounds) if self.rounds else None

    def as_dict(self) -> dict[str, object]:
        return {**asdict(self), "images_per_second": self.images_per_second}


def difference(logits: np.ndarray, reference: np.ndarray) -> float:
    """Greatest difference as a share of the reference's standard deviation; NaN is infinite."""
    if logits.shape != reference.shape:
        raise ValueError(f"logits are {logits.shape}; expected {reference.shape}; same network?")
    greatest = float(np.max(np.abs(np.asarray(logits, np.float32) - reference)))
    return math.inf if math.isnan(greatest) else greatest / float(np.std(reference))


def checked(way: Way, dtype: str, reference: np.ndarray) -> tuple[Runner, float]:
    """A way that is ready, and its difference from the reference.

    Raises ValueError where that is beyond the dtype's tolerance: it does other work.
    """
    runner = way.make()
    found = difference(runner.logits(), reference)
    if not found <= TOLERANCE[dtype]:
        raise ValueError(
            f"logits differ from the reference by {found:.2g} standard deviations; expected at "
            f"most {TOLERANCE[dtype]:.2g}; it is not timed"
        )
    return runner, found


def measure(
    ways: Iterator[Way], dtype: str, reference: np.ndarray, *, rounds: int, seconds: float
) -> Iterator[Row]:
    """Rows of all ways; each is timed once a round, for about so many seconds."""
    ready: list[tuple[Row, Runner, int]] = []
    batch = len(reference)
    for way in ways:
        row = Row(dtype, batch, way.side, way.name, way.feed)
        start = time.perf_counter()
        try:
            runner, row.difference = checked(way, dtype, reference)
            row.seconds_to_make = time.perf_counter() - start
            ready.append((row, runner, calls_for(runner, seconds)))
        except Exception as error:  # noqa: BLE001 (compilers raise what they like; the row tells it)
            row.reason = reason(error)
            yield row
    for number in range(rounds):
        # Every second round backwards: a clock that sinks in a round hits no way more than others.
        for row, runner, calls in ready[:: -1 if number % 2 else 1]:
            row.rounds.append(batch / seconds_per_call(runner, calls))
    yield from (row for row, _, _ in ready)


def reason(error: Exception) -> str:
    """An exception as one line of a table."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}".replace("|", "/")


def calls_for(runner: Runner, seconds: float) -> int:
    """Calls that take so long, after a warm-up: autotuners and allocators settle in it."""
    runner.run(2)
    each = seconds_per_call(runner, 2)
    runner.run(max(1, int(seconds / each / 4)))
    return max(1, round(seconds / seconds_per_call(runner, max(1, int(seconds / each / 4)))))


def seconds_per_call(runner: Runner, calls: int) -> float:
    start = time.perf_counter()
    runner.run(calls)
    return (time.perf_counter() - start) / calls
