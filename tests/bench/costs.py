"""What the stub costs before and beside requests: import, loading, memory, copies of tensors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import tracemalloc
from functools import partial
from pathlib import Path

import numpy as np
from echo import write_echo
from parts import Part, Settings, Spread, Target, interleaved

from triton_stub.engines.stub import StubEngine

HERE = Path(__file__).parent
MODELS = HERE / "small_models"
LARGE = 64 * 2**20  # bytes

# One large tensor alone, so that what is held for it is seen: the output is the model's own.
CONFIG = """
backend: "python"
input [ { name: "IN" data_type: TYPE_FP32 dims: [ -1 ] } ]
output [ { name: "OUT" data_type: TYPE_FP32 dims: [ -1 ] } ]
"""
ANSWERING = """
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        self.answer = pb_utils.Tensor("OUT", np.ones({size}, np.float32))

    def execute(self, requests):
        for request in requests:  # an input that is not looked at need not be copied
            pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()
        return [pb_utils.InferenceResponse([self.answer]) for request in requests]
"""

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
COPY = "one copy"
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
    """What is held of large tensors on their way through the stub, and what that takes."""
    large, small = np.ones(LARGE // 4, np.float32), np.ones(1, np.float32)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_echo(folder, "both", [-1])
        write_answering(folder, "input", small.size)
        write_answering(folder, "output", large.size)
        with StubEngine(folder) as engine:
            requests = {
                "a large input, a small output": partial(engine.model("input"), IN=large),
                "a small input, a large output": partial(engine.model("output"), IN=small),
                "both large, a model that gives back what it gets": partial(
                    engine.model("both"), IN=large
                ),
            }
            ways = {COPY: partial(seconds, large.copy)}
            ways |= {what: partial(seconds, ask) for what, ask in requests.items()}
            for way in ways.values():
                way()  # the system gives out memory slowly that nobody has had before
            measured = {
                what: Spread.of(each)
                for what, each in interleaved(ways, settings.rounds * settings.pick(5, 3)).items()
            }
            held = {
                what: Spread.of([buffers(ask) for _ in range(settings.rounds)])
                for what, ask in requests.items()
            }
    alone, other, _ = held.values()
    return Part(
        name="copies",
        title="Large tensors in process",
        description=(
            f"Float32 tensors of {LARGE // 2**20} MiB, beside numpy's own copy of one into fresh "
            "memory. Buffers held at once: the most memory that Python and numpy had allocated at "
            "any time of a request beyond what was there before it, by tracemalloc, in "
            "tensors. A copy that is let go before the next is made is not counted there; it "
            "shows in the time, which is given in copies."
        ),
        columns={
            "what": "what",
            "ms": "ms",
            "ratio": "time / one copy's",
            "held": "buffers held at once",
        },
        rows=[
            {
                "what": what,
                "ms": spent.times(1e3),
                "ratio": spent.over(measured[COPY]),
                "held": held.get(what),
            }
            for what, spent in measured.items()
        ],
        targets=[
            Target("buffers held for a large input in process", alone, at_most=1),
            Target("buffers held for a large output in process", other, at_most=1),
        ],
    )


def write_answering(repository: Path, name: str, size: int) -> None:
    """A model whose answer is always the same float32 tensor of that size."""
    folder = repository / name
    (folder / "1").mkdir(parents=True)
    (folder / "config.pbtxt").write_text(CONFIG)
    (folder / "1/model.py").write_text(ANSWERING.format(size=size))


def seconds(what) -> float:
    """How long a call takes; what it returns is let go after the clock has stopped."""
    start = time.perf_counter()
    result = what()
    spent = time.perf_counter() - start
    del result
    return spent


def buffers(what) -> float:
    """The most that a call holds at once of the large tensor's memory; small things round away."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        what()
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return round((most - before) / LARGE, 2)


def wall(code: str) -> float:
    """Seconds from the start of a process that runs some code to its end."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, env=environment())
    return time.perf_counter() - start


def printed(code: str) -> list[float]:
    """The line of JSON that code prints in a new process."""
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True,
        env=environment(),
    )  # fmt: skip
    told: list[float] = json.loads(done.stdout)
    return told


def environment() -> dict[str, str]:
    """This process's, but that Python writes the bytecode of what it imports, as it does."""
    return {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
