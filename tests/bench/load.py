"""A load generator: closed loop (so many clients) and open loop (so many requests a second).

In a closed loop each client sends its next request after an answer. In an open loop requests are
due at times of their own, and a latency is counted from when its request was due: a server that
falls behind is not flattered by clients that wait for it. Clients are threads of processes of their
own, so that their Python does not slow down an embedded server. The figures have perf_analyzer's
names: latencies in microseconds.

    python tests/bench/load.py --url localhost:8000 --model resnet50 --clients 1 4 16
    python tests/bench/load.py --url localhost:8000 --model resnet50 --rates 10 20 --clients 32
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

CLIENT = Path(__file__).with_name("load_client.py")
PERCENTILES = (50, 90, 95, 99)
HEAD_START = 0.1  # seconds in which all processes learn when the open loop begins

Figures = dict[str, float]


@dataclass(frozen=True)
class Load:
    """What is to be sent.

    Args:
        url: ``host:port`` of the protocol's endpoint.
        model: gets requests of one row of random numbers for each of its inputs.
        clients: so many in a closed loop; at most so many requests under way in an open one.
        seconds: how long is measured; requests to warm up come before it, stragglers after it.
        protocol: ``http`` or ``grpc``.
        rate: requests a second in an open loop; None for a closed one.
        constant: whether an open loop's requests are due at even distances; else they are as
            independent of each other as people are (a Poisson process).
        shared: whether inputs lie in the system's shared memory.
        seed: of the times at which requests are due.
    """

    url: str
    model: str
    clients: int = 1
    seconds: float = 5.0
    protocol: str = "http"
    rate: float | None = None
    constant: bool = False
    shared: bool = False
    seed: int = 0

    def schedule(self) -> list[float] | None:
        """When the requests of an open loop are due, in seconds after its begin."""
        if self.rate is None:
            return None
        if self.constant:
            return [number / self.rate for number in range(round(self.rate * self.seconds))]
        generator = np.random.default_rng(self.seed)
        due: list[float] = []
        now = generator.exponential(1 / self.rate)
        while now < self.seconds:
            due.append(float(now))
            now += generator.exponential(1 / self.rate)
        return due


class LoadError(RuntimeError):
    """A request of a benchmark failed: its figures would tell nothing."""


class Generator:
    """Processes that send requests. They stay from one load to the next: Python starts slowly.

    Args:
        processes: as many as the machine has processors unless given.
    """

    def __init__(self, processes: int | None = None) -> None:
        self._stack = ExitStack()
        self._processes: list[subprocess.Popen[str]] = []
        try:
            for _ in range(processes or os.cpu_count() or 1):
                self._processes.append(self._stack.enter_context(_process()))
            for process in self._processes:
                _hear(process, "ready")
        except BaseException:
            self.close()
            raise

    def run(self, load: Load, look: Callable[[], object] = lambda: None) -> Figures:
        """Send the load; its figures, errors among them.

        ``look`` is called before the measurement, after the requests that warm up, and when its
        time is over, while the last requests may be under way.
        """
        clients, schedule = range(load.clients), load.schedule()
        busy = self._processes[: load.clients]
        for number, process in enumerate(busy):
            task = {
                "url": load.url, "model": load.model, "protocol": load.protocol,
                "shared": load.shared, "numbers": list(clients[number :: len(busy)]),
                "schedule": None if schedule is None else schedule[number :: len(busy)],
            }  # fmt: skip
            _tell(process, task)
        for process in busy:
            _hear(process, "warm")
        look()
        begin = time.perf_counter()
        if schedule is not None:  # in an open loop they are told when to begin, else when to end
            begin += HEAD_START
            for process in busy:
                _tell(process, begin)
        time.sleep(max(0.0, begin + load.seconds - time.perf_counter()))
        end = time.perf_counter()
        look()
        if schedule is None:
            for process in busy:
                _tell(process, None)
        told = [_hear(process) for process in busy]
        spans = [tuple(span) for each in told for span in each["spans"]]
        errors = [error for each in told for error in each["errors"]]
        if schedule is None:
            figures: Figures = {"Concurrency": load.clients, **closed(spans, begin, end)}
        else:
            figures = {"Request Rate": float(load.rate), **opened(spans, begin)}
        if errors:
            print(f"{load}: {len(errors)} errors, the first: {errors[0]}", file=sys.stderr)
        return {**figures, "Errors": len(errors)}

    def must(self, load: Load, look: Callable[[], object] = lambda: None) -> Figures:
        """As :meth:`run`; an error of any request, or no answer, raises ``LoadError``."""
        figures = self.run(load, look)
        if figures["Errors"]:
            raise LoadError(f"{figures['Errors']} requests failed (see above) with {load}")
        if not figures["Request Count"]:
            raise LoadError(
                f"nothing was answered in time with {load}; expected more; make it longer"
            )
        return figures

    def close(self) -> None:
        """End the processes."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


Span = tuple[float, float, bool]  # when it was due, when it was answered, whether well


def closed(spans: Sequence[Span], begin: float, end: float) -> Figures:
    """Figures of what was answered between two times, while every client was busy.

    Answers of one batch come together: the time is counted from an answer to an answer.
    """
    begin = max((span[1] for span in spans if span[1] <= begin), default=begin)
    answered = [span for span in spans if span[2] and begin < span[1] <= end]
    last = max((span[1] for span in answered), default=end)
    return {"Inferences/Second": len(answered) / (last - begin), **latencies(answered)}


def opened(spans: Sequence[Span], begin: float) -> Figures:
    """Figures of what was due from a time on."""
    answered = [span for span in spans if span[2] and span[0] >= begin]
    last = max((span[1] for span in answered), default=begin + 1)
    return {"Inferences/Second": len(answered) / (last - begin), **latencies(answered)}


def latencies(spans: Sequence[Span]) -> Figures:
    """Percentiles and mean in microseconds; not a number where nothing was answered."""
    micros = np.array([end - due for due, end, _ in spans] or [np.nan]) * 1e6
    figures = {f"p{q} latency": float(np.percentile(micros, q)) for q in PERCENTILES}
    return {**figures, "Avg latency": float(micros.mean()), "Request Count": len(spans)}


def _process() -> subprocess.Popen[str]:
    command = [sys.executable, str(CLIENT)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _tell(process: subprocess.Popen[str], what: Any) -> None:
    assert process.stdin is not None
    process.stdin.write(json.dumps(what) + "\n")
    process.stdin.flush()


def _hear(process: subprocess.Popen[str], expected: str | None = None) -> Any:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise LoadError(f"a client process ended with status {process.wait(60)}; it says why above")
    told = json.loads(line)
    if expected is not None and told != expected:
        raise LoadError(f"a client process says {told!r}; expected {expected!r}")
    return told


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", required=True, help="host:port")
    parser.add_argument("--model", required=True)
    parser.add_argument("--protocol", choices=("http", "grpc"), default="http")
    parser.add_argument("--clients", type=int, nargs="+", default=[1])
    parser.add_argument("--rates", type=float, nargs="+", help="requests a second: an open loop")
    parser.add_argument("--constant", action="store_true", help="at even distances")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    parser.add_argument("--shared-memory", action="store_true", help="for inputs")
    given = parser.parse_args()
    if given.rates and len(given.clients) > 1:
        parser.error("--rates: expected one number of --clients, at most so many wait at once")
    load = Load(
        given.url, given.model, given.clients[0], given.seconds, given.protocol,
        constant=given.constant, shared=given.shared_memory,
    )  # fmt: skip
    loads = [replace(load, rate=rate) for rate in given.rates or ()]
    loads = loads or [replace(load, clients=clients) for clients in given.clients]
    failed = 0
    with Generator() as generator:
        for number, each in enumerate(loads):
            figures = generator.run(each)
            failed += int(figures["Errors"])
            table = csv.DictWriter(sys.stdout, list(figures), lineterminator="\n")
            if not number:
                table.writeheader()
            table.writerow(
                {k: f"{v:.0f}" if "latency" in k else f"{v:g}" for k, v in figures.items()}
            )
            sys.stdout.flush()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
