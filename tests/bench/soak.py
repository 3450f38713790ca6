"""Many clients for a while, with loads, unloads and cancellations in between.

Nothing may be lost, doubled or mixed up: every request carries a number that nobody else has, and
its answers are accounted for. At the end the statistics, the metrics and the models' own tallies
must add up to what the clients have counted, and memory and threads must not have grown. The exit
code is 1 if anything of this is wrong. Linux only: it reads /proc.

    python tests/bench/soak.py --seconds 60 --clients 64
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from prometheus_client.parser import text_string_to_metric_families
from soak_clients import Account, run_client, run_client_async, run_client_http
from soak_models import MODELS, write

from triton_stub import Server

Count = Counter[tuple[str, str]]  # by model and what is counted

# Of the resident set in the second half of the time: the log, the response cache until it is full,
# and the noise of allocators. 200 bytes lost for each request would be more.
GROWTH_MB_PER_MINUTE = 20.0
# One client in so many talks HTTP, and one lives in an event loop.
OTHERS = 8
PAUSE = 0.05  # seconds between two changes of the repository
UNANSWERED = 30.0  # seconds until a response counts as lost


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--isolation", choices=("thread", "process"), default="thread")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        wrong = soak(folder, arguments.clients, arguments.seconds, arguments.isolation)
    for text in wrong[:50]:
        print(f"WRONG: {text}")
    print(f"{len(wrong)} things are wrong" if wrong else "everything adds up")
    return 1 if wrong else 0


def soak(folder: str, clients: int, seconds: float, isolation: str) -> list[str]:
    """What is wrong after ``seconds``; nothing if all is well."""
    threads = threading.active_count()
    server = Server(
        folder,
        model_control_mode="explicit",
        startup_models=["*"],
        cache_config={"local": {"size": 1 << 20}},
        response_timeout=UNANSWERED,
        isolation=isolation,
    )
    with server:
        _ = server.http_url
        kept = Kept(server)
        accounts = [Account(client) for client in range(clients)]
        with crowd(server, accounts), changes(kept):
            samples = watch(seconds)
        wrong = [text for account in accounts for text in account.wrong]
        wrong += flat(samples)
        kept.keep_all()
        wrong += no_one_waits(server)
    counts: Count = Counter()
    for account in accounts:
        counts += account.counts
    wrong += adds_up(counts, kept.totals, tallies(str(server.log())))
    print(f"changes of the repository: {kept.changes}, threads: {threads} before, ", end="")
    print(f"{threading.active_count()} after")
    if threading.active_count() != threads:
        left = [thread.name for thread in threading.enumerate()]
        wrong.append(f"{threads} threads before, and in the end there are {left}")
    return wrong


# The clients


@contextlib.contextmanager
def crowd(server: Server, accounts: list[Account]) -> Iterator[None]:
    """The clients, all at work."""
    stop = threading.Event()
    kinds: list[Callable[..., None]] = [run_client, run_client_http]
    in_loop = accounts[::OTHERS]
    work = [lambda: asyncio.run(together(server, in_loop, stop))]
    for number, account in enumerate(accounts):
        if number % OTHERS:
            run = kinds[number % OTHERS == 1]
            work.append(lambda run=run, account=account: run(server, account, stop))
    with running(work, stop):
        yield


async def together(server: Server, accounts: list[Account], stop: Any) -> None:
    """The clients that share an event loop."""
    await asyncio.gather(*(run_client_async(server, account, stop) for account in accounts))


@contextlib.contextmanager
def running(work: list[Callable[[], None]], stop: threading.Event) -> Iterator[None]:
    """A thread for each; what one of them raises is raised in the end."""
    errors: list[BaseException] = []

    def guarded(run: Callable[[], None]) -> None:
        try:
            run()
        except BaseException as error:  # noqa: BLE001 - raised in the end
            errors.append(error)
            stop.set()

    threads = [threading.Thread(target=guarded, args=(run,)) for run in work]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    if errors:
        raise errors[0]


# The repository


class Kept:
    """Statistics of models that may be gone: what each life of a model has counted, added up."""

    def __init__(self, server: Server) -> None:
        self.totals: Count = Counter()
        self.changes = 0
        self._server = server

    def change(self, name: str) -> None:
        """Replace a model while it serves, or unload it, and load it a little later."""
        last = self._server.find(name).statistics
        if name.endswith("_replaced"):
            config = self._server.model(name).config()
            config["parameters"]["life"] = {"string_value": str(self.changes)}
            self._server.load(name, {"config": json.dumps(config)})
        else:
            self._server.unload(name, wait_until_unloaded=True, polling_interval=0.001)
            time.sleep(PAUSE)
            self._server.load(name)
        self.changes += 1
        self._add(name, last.to_dict())

    def keep_all(self) -> None:
        """Add what the models have counted that still serve."""
        for row in self._server.statistics()["model_stats"]:
            self._add(row["name"], row)

    def _add(self, name: str, row: dict[str, Any]) -> None:
        self.totals[name, "inferences"] += row["inference_count"]
        self.totals[name, "executions"] += row["execution_count"]
        for what in ("success", "fail", "cache_hit", "cache_miss"):
            self.totals[name, what] += row["inference_stats"][what]["count"]


@contextlib.contextmanager
def changes(kept: Kept) -> Iterator[None]:
    """Change one restless model after the other."""
    stop = threading.Event()

    def keep_changing() -> None:
        while not stop.is_set():
            for name, kind in MODELS.items():
                if kind.restless:
                    kept.change(name)
                    time.sleep(PAUSE)

    with running([keep_changing], stop):
        yield


# What is looked at


def watch(seconds: float) -> list[tuple[float, float, int]]:
    """Every second (or ten times): the time, the resident set in MB, and the threads."""
    samples: list[tuple[float, float, int]] = []
    start = time.monotonic()
    print("seconds  resident MB  threads")
    while (now := time.monotonic() - start) < seconds:
        gc.collect()  # what waits to be collected is no growth
        status = dict(
            line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines()
        )
        samples.append((now, int(status["VmRSS"].split()[0]) / 1024, int(status["Threads"])))
        print("{:7.1f} {:12.1f} {:8}".format(*samples[-1]), flush=True)
        time.sleep(min(1.0, seconds / 10))
    return samples


def flat(samples: list[tuple[float, float, int]]) -> list[str]:
    """Complaints if memory or threads grow in the second half."""
    late = np.array(samples[len(samples) // 2 :])
    per_minute = 60 * np.polyfit(late[:, 0], late[:, 1:], 1)[0]
    print(f"second half: {per_minute[0]:+.1f} MB a minute, {per_minute[1]:+.1f} threads a minute")
    wrong = []
    if len(samples) >= 30 and per_minute[0] > GROWTH_MB_PER_MINUTE:
        wrong.append(f"memory grows by {per_minute[0]:.1f} MB a minute")
    most = [max(threads for *_, threads in half) for half in (samples[: len(late)], samples)]
    if most[1] > most[0] + OTHERS:
        wrong.append(f"at most {most[0]} threads in the first half, {most[1]} in the second")
    return wrong


def no_one_waits(server: Server) -> list[str]:
    """Complaints if a gauge says that requests are still pending."""
    return [
        f"{sample.labels['model']}: {sample.value:g} requests are pending in the end"
        for family in text_string_to_metric_families(server.metrics())
        for sample in family.samples
        if sample.name == "nv_inference_pending_request_count" and sample.value
    ]


def tallies(log: str) -> Count:
    """What the models say that they have done."""
    done: Count = Counter()
    for line in log.splitlines():
        if "TALLY " in line:
            tally = json.loads(json.loads(line.partition("] ")[2]).partition("TALLY ")[2])
            name = tally.pop("model")
            done.update({(name, what): count for what, count in tally.items()})
    return done


def adds_up(counts: Count, totals: Count, done: Count) -> list[str]:
    """Complaints if what clients, statistics and models have counted does not fit together."""
    columns = ("answered", "responses", "raised", "cancelled", "dropped", "refused")
    print("".join(f"{column:>10}" for column in columns) + "  clients of")
    wrong = []
    for name in MODELS:
        # Nobody asks the steps but the ensemble.
        own = {what: counts[name, what] for what in (*columns, "rows")}
        if name.startswith("chain_"):
            own = {what: counts["chain", what] for what in own}
        print("".join(f"{own[column]:10}" for column in columns) + f"  {name}")
        failed = own["raised"] + own["dropped"]
        hits = totals[name, "cache_hit"]
        executed = own["answered"] - own["dropped"] - hits
        expected = {
            "success": own["answered"] - failed,
            "fail": failed,
            "inferences": own["rows"] - hits,
            "cache_miss": executed if name == "cached" else 0,
        }
        counted = {what: totals[name, what] for what in expected}
        if not MODELS[name].is_ensemble:
            expected |= {"executions": done[name, "executions"], "requests": executed}
            expected |= {"responses": own["responses"] - hits}
            counted |= {"executions": totals[name, "executions"]}
            counted |= {what: done[name, what] for what in ("requests", "responses")}
        if counted != expected:
            wrong.append(f"{name}: clients have counted {expected}, server and model {counted}")
    return wrong


if __name__ == "__main__":
    sys.exit(main())
