"""A case in which the real server dies by itself is run once more, and no other."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

HERE = Path(__file__).parent
CONFTEST = """
from lives import Lives

def pytest_configure(config):
    config.pluginmanager.register(Lives())
"""
# How often the server dies is in a file: it is asked by both runs of the case.
CASES = f"""
import os, signal, time
from pathlib import Path
import numpy as np
import pytest
from triton_stub.engines.native import NativeEngine
from triton_stub.engines.process import ServerProcess

MODELS = {str(HERE / "models")!r}

@pytest.fixture(scope="module")
def engine():
    with NativeEngine(MODELS, models=["add"]) as engine:
        yield engine

def server(engine):
    return int((engine._process._folder / "pid").read_text())

def asks(engine):
    ones = np.ones((1, 4), np.float32)
    assert engine.infer("add", A=ones, B=ones)

def test_before(engine):
    asks(engine)

def test_dies(engine):
    left = Path("deaths.txt")
    deaths = int(left.read_text())
    if deaths:
        left.write_text(str(deaths - 1))
        os.kill(server(engine), signal.SIGSEGV)
        while engine.status is None:
            time.sleep(0.01)
    asks(engine)

def test_after(engine):
    asks(engine)

def test_dies_before_it_is_ready(monkeypatch):
    lives = Path("lives.txt")
    if not lives.exists():
        lives.touch()
        monkeypatch.setattr(ServerProcess, "_await_ready", _killed)
    with NativeEngine(MODELS, models=["add"]) as engine:
        asks(engine)

def _killed(process, *_):
    while not (pid := process._folder / "pid").exists() or not pid.read_text():
        time.sleep(0.01)
    os.kill(int(pid.read_text()), signal.SIGSEGV)
    process._guard.wait()
    status = process._guard.returncode
    raise process._failure(f"tritonserver ended with status {{status}} before it was ready")

def test_fails():
    with Path("runs.txt").open("a") as runs:
        runs.write("run ")
    raise ValueError("not of the server")
"""


@pytest.mark.parametrize(
    ("deaths", "passed", "failed"),
    [(1, 4, 1), (2, 3, 2)],
    ids=["once", "twice"],
)
def test_a_server_that_dies(
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    deaths: int,
    passed: int,
    failed: int,
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(CASES)
    pytester.path.joinpath("deaths.txt").write_text(str(deaths))
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=passed, failed=failed)
    result.stdout.fnmatch_lines(
        ["run once more, the real server died: *::test_dies: tritonserver ended with status 139"]
    )
    assert pytester.path.joinpath("runs.txt").read_text() == "run "
