"""What the stub costs before and beside requests: import, loading, memory, copies of tensors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path

import numpy as np
from echo import write_echo
from parts import Part, Settings, Spread, Target, interleaved

from triton_stub.engines.stub import StubEngine

HERE = Path(__file__).parent
MODELS = HERE / "small_models"
LARGE = 64 * 2**20  # bytes

# Each is run by a Python of its own and prints one line of JSON, or nothing.
BARE = "pass"
NUMPY = "import numpy"
IMPORT = "import triton_stub"
SERVER = "from triton_stub import Server"  # what is imported on first use is imported here
LOAD = f"""
import json, time
import numpy  # the model's own import
from triton_stub import Server
def load():
    start = time.perf_counter()
    server = Server({str(MODELS)!r})
    server.start()
    spent = time.perf_counter() - start
    server.stop()
    return spent
first = load()
print(json.dumps([first, *(load() for _ in range(5))]))
"""
MEMORY = """
import json
def resident():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))
found = [resident()]
import numpy
found.append(resident())
from triton_stub import Server
found.append(resident())
server = Server({models!r})
server.start()
found.append(resident())
server.model("add")(A=numpy.zeros(4, "f"), B=numpy.zeros(4, "f"))
server.http_url
found.append(resident())
server.stop()
print(json.dumps(found))
"""
WHY = """\
The first server of a process imports protobuf and tritonclient's `model_config_pb2`, grpc with it,
without which nothing here reads a `config.pbtxt`: that is most of it. Imported earlier, with
`triton_stub` itself, it would be paid by those too who serve nothing.\
"""
STAGES = (
    "Python alone",
    "and numpy",
    "and triton_stub.Server",
    "and a loaded model",
    "and an HTTP port",
)


def run(settings: Settings) -> list[Part]:
    return [start(settings), memory(settings), copies(settings)]


def start(settings: Settings) -> Part:
    """Importing and loading, each time in a new process."""
    ways = {
        "bare": lambda: wall(BARE),
        "numpy": lambda: wall(NUMPY),
        "import": lambda: wall(IMPORT),
        "server": lambda: wall(SERVER),
        "load": lambda: printed(LOAD),
    }
    for way in ways.values():
        way()  # from here on its files are in the system's memory, and its bytecode is written
    measured = interleaved(ways, settings.pick(15, 5))
    bare = measured["bare"]
    numpy, stub, server = (
        Spread.of([(each - own) * 1e3 for each, own in zip(measured[name], bare, strict=True)])
        for name in ("numpy", "import", "server")
    )
    first = Spread.of([each[0] * 1e3 for each in measured["load"]])
    again = Spread.of([float(np.median(each[1:])) * 1e3 for each in measured["load"]])
    names = {
        "import numpy, which every model needs": numpy,
        "import triton_stub": stub,
        "from triton_stub import Server, with numpy and all else that it needs": server,
        "a folder with one model: a server until it is ready, the first of its process": first,
        "the same, another server in that process": again,
    }
    return Part(
        name="start-costs",
        title="Importing the stub and loading a model",
        description=(
            "Milliseconds in fresh processes; of imports beyond a Python that does nothing. numpy, "
            "which the model imports, and Server are imported before the clock of loading starts."
        ),
        columns={"what": "what", "ms": "ms"},
        rows=[{"what": name, "ms": figure} for name, figure in names.items()],
        targets=[
            Target("import triton_stub", stub, at_most=60, unit="ms"),
            Target(
                "loading a model folder, first of its process",
                first,
                at_most=15,
                unit="ms",
                why=WHY,
            ),
            Target("loading a model folder, any other", again, at_most=15, unit="ms"),
        ],
    )


def memory(settings: Settings) -> Part:
    """What the process holds after each step."""
    if not Path("/proc/self/status").exists():
        return Part("memory", "Memory", absent=["memory: /proc is Linux's"])
    code = MEMORY.format(models=str(MODELS))
    rounds = [printed(code) for _ in range(settings.rounds)]
    stages = [Spread.of([each[i] / 1024 for each in rounds]) for i in range(len(STAGES))]
    return Part(
        name="memory",
        title="Memory",
        description="Resident memory of a fresh process, step by step, in MiB.",
        columns={"stage": "stage", "MiB": "MiB"},
        rows=[
            {"stage": stage, "MiB": figure} for stage, figure in zip(STAGES, stages, strict=True)
        ],
    )


def copies(settings: Settings) -> Part:
    """How often large tensors are copied on their way through the stub, and what that takes."""
    tensor = np.ones(LARGE // 4, np.float32)
    with tempfile.TemporaryDirectory() as folder:
        write_echo(Path(folder), "large", [-1])
        with StubEngine(folder) as engine:
            model = engine.model("large")
            ways = {
                "copy": lambda: seconds(tensor.copy),
                "request": lambda: seconds(lambda: model(IN=tensor)),
            }
            for way in ways.values():
                way()  # the system gives out memory slowly that nobody has had before
            measured = interleaved(ways, settings.rounds * settings.pick(5, 3))
            held = Spread.of([buffers(lambda: model(IN=tensor)) for _ in range(settings.rounds)])
    spent, copy = (Spread.of(measured[name]) for name in ("request", "copy"))
    return Part(
        name="copies",
        title="Large tensors in process",
        description=(
            f"{LARGE // 2**20} MiB through a model that gives back what it gets, beside numpy's "
            "own copy of them into fresh memory. Both the input and the output are a tensor of "
            "that size. Copies are counted by the memory that is allocated for a request, all of "
            "which is held to its end."
        ),
        columns={"what": "what", "ms": "ms", "copies": "copies, input and output together"},
        rows=[
            {"what": "one copy", "ms": copy.times(1e3)},
            {"what": "one request", "ms": spent.times(1e3), "copies": held},
        ],
        targets=[
            Target(
                "copies of a large tensor in process, each of the input and the output",
                held.times(0.5),
                at_most=1,
            )
        ],
    )


def seconds(what) -> float:
    """How long a call takes; what it returns is let go after the clock has stopped."""
    start = time.perf_counter()
    result = what()
    spent = time.perf_counter() - start
    del result
    return spent


def buffers(what) -> int:
    """How many times the large tensor's memory a call allocates and holds at the most."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        what()
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return (most - before) // LARGE


def wall(code: str) -> float:
    """Seconds from the start of a process that runs some code to its end."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, env=dict(os.environ))
    return time.perf_counter() - start


def printed(code: str) -> list[float]:
    """The line of JSON that code prints in a new process."""
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True
    )
    told: list[float] = json.loads(done.stdout)
    return told
