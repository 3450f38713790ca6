"""The machine that figures come from, and the versions of what was measured."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from triton_stub.engines.environment import NativeEnvironment, NativeEnvironmentError
from triton_stub.engines.native import NativeEngine

PACKAGES = ("jax", "flax", "flaxmodels", "numpy", "onnxruntime", "openvino", "torch")
NATIVE_PACKAGES = ("jax", "flax", "flaxmodels", "numpy")
# What decides over the speed of matrix products.
INSTRUCTIONS = ("avx2", "avx512f", "avx512_bf16", "amx_tile", "amx_bf16", "amx_int8")

_PROBE = """
import json, platform, sys
from importlib.metadata import version
found = {"Python": platform.python_version()}
print(json.dumps(found | {name: version(name) for name in sys.argv[1:]}))
"""


def machine() -> dict[str, str]:
    """What to know of this machine, by its name on the page."""
    facts = {
        "CPU": f"{_cpu()}, {os.cpu_count()} logical processors",
        "Instructions": " ".join(_instructions()) or "not known",
        "Memory": _memory(),
        "System": f"{platform.system()} {_release()} {platform.machine()}",
        "Python": platform.python_version(),
    }
    for name in PACKAGES:
        try:
            facts[name] = version(name)
        except PackageNotFoundError:
            facts[name] = "not installed"
    return facts | _native()


def _native() -> dict[str, str]:
    """The real server, and what its models import."""
    try:
        environment = NativeEnvironment.find()
    except NativeEnvironmentError as error:
        return {"tritonserver": f"none: {error}"}
    # The wheel knows its own version alone.
    with (
        tempfile.TemporaryDirectory() as empty,
        NativeEngine(empty, environment=environment, models=[]) as engine,
    ):
        server = engine.server_metadata()["version"]
    told = subprocess.run(
        [environment.path / "bin/python", "-c", _PROBE, *NATIVE_PACKAGES],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env=native_variables(environment),
    )
    packages = {f"{name} beside it": each for name, each in json.loads(told.stdout).items()}
    return {"tritonserver": server} | packages


def native_variables(environment: NativeEnvironment) -> dict[str, str]:
    """Environment variables for that environment's own Python, without a server."""
    variables = environment.variables()
    variables.pop("LD_LIBRARY_PATH")  # the server's alone
    return variables


def _cpu() -> str:
    names = _field("/proc/cpuinfo", "model name")
    return names or platform.processor() or "unknown"


def _instructions() -> list[str]:
    flags = (_field("/proc/cpuinfo", "flags") or "").split()
    return [name for name in INSTRUCTIONS if name in flags]


def _release() -> str:
    """The kernel's version, without what its builder has added."""
    number = re.match(r"[\d.]*\d", platform.release())
    return number[0] if number else "of unknown version"


def _memory() -> str:
    kib = (_field("/proc/meminfo", "MemTotal") or "0").split()[0]
    return f"{int(kib) / 2**20:.0f} GiB"


def _field(path: str, name: str) -> str | None:
    """The first value of a line ``name : value`` of one of the kernel's files."""
    file = Path(path)
    if not file.exists():  # another system
        return None
    found = re.search(rf"^{name}\s*:\s*(.*)$", file.read_text(), re.MULTILINE)
    return found[1] if found else None
