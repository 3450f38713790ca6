"""From the start of the real server until its model is ready, beside the least that this takes."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import resnets
from echo import write_echo
from machine import native_variables
from parts import TIMES, Part, Settings, Spread, Target, interleaved

from triton_stub.engines.environment import NativeEnvironment
from triton_stub.engines.native import NativeEngine

PLAIN = Path(__file__).with_name("start_plain.py")
LONGER = 1.3  # times the least
WHY = """\
The server takes what the last line of the table says with any Python model, most of it until the
process that completes the configuration has ended; beyond that the model is ready sooner than the
script. Tried: nothing of JAX is imported in that process; BatchNorm is folded, so that programs are
smaller; a program is compiled while the one before runs.\
"""


def run(settings: Settings) -> Part:
    architecture = settings.pick("resnet50", "resnet18")
    sizes = settings.pick(("1", "2", "4", "8", "16"), ("1", "4"))
    title = architecture.replace("resnet", "ResNet")
    environment = NativeEnvironment.find()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cache = folder / "cache"

        def server(*, warm: bool) -> float:
            if not warm:
                shutil.rmtree(cache, ignore_errors=True)
            models = Path(tempfile.mkdtemp(dir=folder))
            resnets.ours(
                models, architecture,
                compilation_cache_dir=str(cache), batch_buckets=",".join(sizes),
            )  # fmt: skip
            return started(models)

        def empty() -> float:
            models = Path(tempfile.mkdtemp(dir=folder))
            write_echo(models, "echo", [1])
            return started(models)

        def started(models: Path) -> float:
            start = time.perf_counter()
            with NativeEngine(models, environment=environment):
                return time.perf_counter() - start

        def plain() -> float:
            python, kept = environment.path / "bin/python", folder / "plain"
            command = [str(python), str(PLAIN), architecture, str(kept)]
            return until_ready([*command, *sizes], native_variables(environment))

        ways = {"warm": partial(server, warm=True), "plain": plain, "empty": empty}
        if settings.quick:
            server(warm=False)
        else:  # it leaves what a warm one finds
            ways = {"cold": partial(server, warm=False), **ways}
        plain()
        measured = {
            way: Spread.of(each) for way, each in interleaved(ways, settings.rounds).items()
        }
    names = {
        "cold": "the server, until ready, no compiled program is kept yet",
        "warm": "the server, until ready, with the programs of an earlier start",
        "plain": "a script: imports, weights, the same programs of an earlier start, one call each",
        "empty": "the server with a model of ten lines instead, which only imports numpy",
    }
    buckets = ", ".join(sizes)
    wanted = "ResNet50: start until ready, warm compilation cache, beside the script"
    ratio = measured["warm"].over(measured["plain"])
    return Part(
        name="start",
        title="From start to ready",
        description=(
            f"Seconds until the real tritonserver with {title} and batch sizes {buckets} is ready, "
            "all processes included: the server, the one that completes the configuration, and "
            "one for each instance. The batch sizes are told to the model (batch_buckets). The "
            "script has the same Python and the same packages, makes the weights as numbers, and "
            "is ready after the last call. No end of a process is counted. What the last line "
            "says is waiting more than work: on a faster machine it is more of the whole."
        ),
        columns={"way": "what", "seconds": "s", "ratio": "beside the script"},
        rows=[
            {"way": names[way], "seconds": each, "ratio": each.over(measured["plain"])}
            for way, each in measured.items()
        ],
        targets=[
            Target(wanted, ratio, at_most=LONGER, unit=TIMES, why=WHY)
            if architecture == "resnet50"
            else Target(wanted, None, at_most=LONGER, unit=TIMES, why="Only in a full run.")
        ],
        absent=settings.pick([], ["a start without compiled programs: only in a full run"]),
    )


def until_ready(command: Sequence[str], variables: Mapping[str, str]) -> float:
    """Seconds until a process says that it is ready; then its end is waited for."""
    start = time.perf_counter()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=dict(variables),
        start_new_session=True,  # as the server (see direct.py)
    ) as process:  # fmt: skip
        assert process.stdout is not None
        told = process.stdout.readline().strip()
        spent = time.perf_counter() - start
    if told != "ready" or process.returncode:
        raise RuntimeError(
            f"the script said {told!r} and ended with status {process.returncode}; "
            "expected 'ready' and 0; it says why above"
        )
    return spent
