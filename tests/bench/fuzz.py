"""Malformed requests for hours, or for as many as you like: nothing may break the server.

The server runs in a process of its own. No answer may tell of a defect or be a 500 without a
reason, no request may be without an answer, the server's own log may have no traceback. After each
batch a good request must be answered rightly. Prints the server's resident memory; the exit code
is 1 if anything is wrong, with the bytes of the smallest request that shows it.

    python tests/bench/fuzz.py --http 50000 --grpc 20000
"""

from __future__ import annotations

import argparse
import json
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import fuzz_grpc
import fuzz_http
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

HERE = Path(__file__).parent
BATCH = 500
# What a hundred thousand requests may add: the log, the largest request, allocators' noise.
GROWTH_MB = 600.0
UNFORESEEN = re.compile(rb"Traceback|Exception in ASGI|Exception ignored|never retrieved|defect of")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--http", type=int, default=50_000, help="how many HTTP requests")
    parser.add_argument("--grpc", type=int, default=20_000, help="how many gRPC messages")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}")
    with tempfile.TemporaryDirectory() as folder, Target(Path(folder)) as target:
        wrong = fuzz(
            "HTTP",
            target,
            arguments.http,
            first_seed=arguments.seed,
            examples=fuzz_http.requests(),
            send=lambda request: fuzz_http.send(target.http_url, request),
            still_serves=lambda: fuzz_http.still_serves(target.http_url),
        )
        client = fuzz_grpc.Client(target.grpc_url)
        wrong += fuzz(
            "gRPC",
            target,
            arguments.grpc,
            first_seed=arguments.seed,
            examples=fuzz_grpc.calls(),
            send=client.send,
            still_serves=client.still_serves,
        )
        client.close()
        wrong += target.grown()
    wrong += target.unstopped
    for text in wrong:
        print(f"WRONG: {text}")
    print(f"{len(wrong)} things are wrong" if wrong else "nothing is wrong")
    return 1 if wrong else 0


class Target:
    """The server's process, and what is seen of it from outside."""

    def __init__(self, folder: Path) -> None:
        self._errors = folder / "stderr"
        with self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, str(HERE / "fuzz_server.py"), str(folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
            )
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"the server does not start: {self._errors.read_text()}")
        urls = json.loads(line)
        self.http_url, self.grpc_url = urls["http"], urls["grpc"]
        self.resident = [self._resident()]
        self._read = 0
        self.unstopped: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stdin.close()
        if line := self._process.stdout.readline():
            print(f"the server's log has {json.loads(line)['log'] / 1e6:.1f} million characters")
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.send_signal(signal.SIGABRT)  # faulthandler prints all stacks
            self._process.wait()
            self.unstopped = [f"the server does not stop: {self._errors.read_text()[-20_000:]}"]

    def look(self) -> list[str]:
        """What the log has that nobody has foreseen, and whether the process is there at all."""
        if (code := self._process.poll()) is not None:
            return [f"the server has ended with {code}: {self._errors.read_text()[-3000:]}"]
        self.resident.append(self._resident())
        text = self._errors.read_bytes()[self._read :]
        self._read += len(text)
        found = UNFORESEEN.search(text)
        if found is None:
            return []
        around = text[max(0, found.start() - 500) : found.end() + 2500]
        return [f"in the log: {around.decode(errors='replace')}"]

    def grown(self) -> list[str]:
        """Complaints if memory has grown."""
        first, most, last = self.resident[0], max(self.resident), self.resident[-1]
        print(f"resident MB: {first:.0f} at first, {most:.0f} at most, {last:.0f} in the end")
        return [f"memory has grown by {last - first:.0f} MB"] if last - first > GROWTH_MB else []

    def _resident(self) -> float:
        command = ["ps", "-o", "rss=", "-p", str(self._process.pid)]
        return int(subprocess.run(command, check=False, stdout=subprocess.PIPE).stdout or 0) / 1024


def short(text: str) -> str:
    """A text in which what is there more than 40 times in a row is counted."""
    return re.sub(
        r"(?s)(.{1,8}?)\1{40,}",
        lambda found: f"⟨{len(found[0]) // len(found[1])} x {found[1]}⟩",
        text,
    )


def fuzz(
    name: str,
    target: Target,
    count: int,
    *,
    first_seed: int,
    examples: st.SearchStrategy[Any],
    send: Callable[[Any], str],
    still_serves: Callable[[], str],
) -> list[str]:
    """Send so many examples; what was wrong with the answers, and with the server after a batch."""
    wrong: list[str] = []
    sent, start = 0, time.monotonic()
    while sent < count and len(wrong) < 5:
        size = min(BATCH, count - sent)

        @seed(first_seed + sent)
        @settings(
            max_examples=size,
            deadline=None,
            database=None,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
            print_blob=False,
        )
        @given(examples)
        def batch(example: Any) -> None:
            if complaint := send(example):
                raise AssertionError(f"{complaint}\n  for {short(repr(example))}")

        try:
            batch()
        except AssertionError as error:
            wrong.append(str(error)[:20_000])
        except BaseExceptionGroup as errors:
            wrong += [str(error) for error in errors.exceptions]
        sent += size
        wrong += target.look()
        if complaint := still_serves():
            wrong.append(complaint)
        rate = sent / (time.monotonic() - start)
        print(f"{name}: {sent} sent, {rate:.0f} a second, {target.resident[-1]:.0f} MB", flush=True)
    return wrong


if __name__ == "__main__":
    sys.exit(main())
