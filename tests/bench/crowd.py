"""Many clients at once over HTTP and gRPC: nothing is lost or doubled, and how fast it is.

Each client is a process of its own, so that Python's clients are not the limit, and sends its next
request after an answer. Every request carries numbers that nobody else has, every answer must have
the same, and in the end the server must have counted as many as were sent. The stub and the real
server are asked in turns, so that a disturbance of the machine hits them alike. The exit code is 1
if anything is lost, doubled or mixed up.

    python tests/bench/crowd.py --seconds 120 --clients 16
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from triton_stub.engines.engine import Engine
from triton_stub.engines.native import NativeEngine
from triton_stub.engines.stub import StubEngine

CLIENT = Path(__file__).with_name("crowd_client.py")
PROTOCOLS = ("http", "grpc")
PERCENTILES = (50, 90, 95, 99)
MODEL = "same"
CONFIG = """
backend: "python"
input [ { name: "IN" data_type: TYPE_INT64 dims: [ 2 ] } ]
output [ { name: "OUT" data_type: TYPE_INT64 dims: [ 2 ] } ]
"""
CODE = """
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        numbers = pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()
        return pb_utils.InferenceResponse([pb_utils.Tensor("OUT", numbers)])
"""
# Servers answer before they count.
PATIENCE = 30.0

Cell = tuple[str, str]  # engine and protocol


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=120.0, help="for each way, all rounds")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES))
    arguments = parser.parse_args()
    wrong: list[str] = []
    spent: dict[Cell, list[float]] = {}
    took: Counter[Cell] = Counter()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        write(Path(folder))
        engines = [stack.enter_context(ENGINES[name](folder)) for name in arguments.engines]
        crowd = stack.enter_context(clients(arguments.clients))
        for _ in range(arguments.rounds):
            for engine in engines:
                for protocol in PROTOCOLS:
                    cell = engine.name, protocol
                    start = time.perf_counter()
                    told = ask(crowd, engine, protocol, arguments.seconds / arguments.rounds)
                    took[cell] += time.perf_counter() - start
                    spent.setdefault(cell, []).extend(
                        each for client in told for each in client["seconds"]
                    )
                    wrong += [f"{cell}: {text}" for client in told for text in client["wrong"]]
        for engine in engines:
            sent = sum(len(spent[engine.name, protocol]) for protocol in PROTOCOLS)
            wrong += counted(engine, sent)
    print(table(spent, took, arguments))
    for text in wrong[:50]:
        print(f"WRONG: {text}")
    print(f"{len(wrong)} things are wrong" if wrong else "nothing is lost")
    return 1 if wrong else 0


ENGINES: dict[str, Any] = {"stub": StubEngine, "native": NativeEngine}


def write(folder: Path) -> None:
    """The model: it gives back what it gets."""
    (folder / MODEL / "1").mkdir(parents=True)
    (folder / MODEL / "config.pbtxt").write_text(CONFIG)
    (folder / MODEL / "1/model.py").write_text(CODE)


@contextmanager
def clients(count: int) -> Iterator[list[subprocess.Popen[str]]]:
    """So many processes, ready to ask."""
    crowd = [
        subprocess.Popen(
            [sys.executable, str(CLIENT), MODEL, str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(count)
    ]
    try:
        for client in crowd:
            if client.stdout.readline() != "ready\n":
                raise SystemExit("a client does not start")
        yield crowd
    finally:
        for client in crowd:
            client.stdin.close()
        for client in crowd:
            client.wait(60)
            client.stdout.close()


def ask(
    crowd: list[subprocess.Popen[str]], engine: Engine, protocol: str, seconds: float
) -> list[dict[str, Any]]:
    """Have everybody ask for so long; what each of them tells."""
    task = {"protocol": protocol, "url": getattr(engine, f"{protocol}_url"), "seconds": seconds}
    for client in crowd:
        client.stdin.write(json.dumps(task) + "\n")
        client.stdin.flush()
    return [json.loads(client.stdout.readline()) for client in crowd]


def counted(engine: Engine, sent: int) -> list[str]:
    """Complaints if the server has counted more or fewer requests."""
    deadline = time.monotonic() + PATIENCE
    while True:
        (row,) = engine.statistics(MODEL)["model_stats"]
        found = {
            "success": row["inference_stats"]["success"]["count"],
            "fail": row["inference_stats"]["fail"]["count"],
            "executions": row["execution_count"],
        }
        if found == {"success": sent, "fail": 0, "executions": sent}:
            return []
        if time.monotonic() > deadline:
            return [f"{engine.name}: {sent} requests were sent, counted are {found}"]
        time.sleep(0.1)


def table(
    spent: dict[Cell, list[float]], took: Counter[Cell], arguments: argparse.Namespace
) -> str:
    """Markdown: requests a second, and percentiles of what each client has waited."""
    lines = [
        f"{arguments.clients} clients, each a process, {arguments.seconds:g} s for each way in "
        f"{arguments.rounds} rounds, {os.cpu_count()} CPU cores ({platform.machine()}), Python "
        f"{platform.python_version()}; milliseconds.",
        "",
        "| engine | protocol | requests | a second | p50 | p90 | p95 | p99 |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (engine, protocol), seconds in spent.items():
        rate = len(seconds) / took[engine, protocol]
        percentiles = np.percentile(seconds, PERCENTILES) * 1000 if seconds else [np.nan] * 4
        waits = " | ".join(f"{each:.2f}" for each in percentiles)
        lines.append(f"| {engine} | {protocol} | {len(seconds)} | {rate:.0f} | {waits} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
