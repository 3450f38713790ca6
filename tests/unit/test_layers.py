"""The order of the package: who may import whom, and how long a module may be."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "triton_stub"
MODULES = sorted(PACKAGE.rglob("*.py"))
# From the ground upwards: each imports only those before it, and itself.
LAYERS = [
    *("datatypes", "errors", "deviations", "config", "pb_utils", "runtime", "core"),
    *("server", "endpoints", "engines", "testing", "cli"),
]
# ``Server.serve`` opens ports, which is why it imports these when it is called and not before.
CALLED = {"server/server.py", "server/ports.py"}
MOST_LINES = 400
TABLES = {"deviations.py"}  # one entry after another


def name(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def layer(path: str) -> str:
    return path.partition("/")[0].removesuffix(".py")


def imports(path: Path) -> Iterator[tuple[str, ast.stmt]]:
    """The layers that a module imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports say where from"
            parts = (node.module or "").split(".")
            if parts == ["triton_stub"]:
                yield from ((alias.name, node) for alias in node.names)
            elif parts[0] == "triton_stub":
                yield parts[1], node
        elif isinstance(node, ast.Import):
            names = (alias.name.split(".") for alias in node.names)
            yield from ((parts[1], node) for parts in names if parts[0] == "triton_stub")


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_imports_run_downwards(path: Path) -> None:
    if name(path) == "__init__.py":
        return  # the public face, on top of all
    allowed = LAYERS[: LAYERS.index(layer(name(path))) + 1]
    upwards = [node for imported, node in imports(path) if imported not in allowed]
    if name(path) in CALLED:
        assert upwards
        first = ast.parse(path.read_text()).body
        upwards = [node for node in upwards if ast.dump(node) in map(ast.dump, first)]
    assert not [ast.unparse(node) for node in upwards]


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_no_module_is_too_long(path: Path) -> None:
    lines = len(path.read_text().splitlines())
    assert (lines > MOST_LINES) == (name(path) in TABLES)


def test_imports_have_no_side_effects() -> None:
    """No framework is loaded, no module of the server's name appears, no search path changes."""
    modules = [
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        for path in MODULES
        if path.name != "__init__.py"
    ]
    program = (
        "import importlib, os, sys\n"
        "path, environment = list(sys.path), dict(os.environ)\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        "assert sys.path == path and dict(os.environ) == environment\n"
        "wrong = {'jax', 'torch', 'docker', 'testcontainers', 'triton_python_backend_utils',"
        " 'c_python_backend_utils'} & set(sys.modules)\n"
        "assert not wrong, wrong\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
