"""What a model leaves running, and where it blocks: the real server waits, the stub has limits."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from broken_models import write_models
from instances import execute, model_class

from triton_stub import LoadError
from triton_stub.engines.engine import Engine
from triton_stub.engines.native import NativeEngine
from triton_stub.engines.stub import StubEngine

pytestmark = [
    # Of Python 3.12 and later, in a process that has threads; and of JAX, which other tests load.
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*fork:RuntimeWarning"),
]
BEFORE = """
import asyncio
import multiprocessing
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
"""
ANSWER = "[pb_utils.InferenceResponse([pb_utils.Tensor('OUT', r.inputs()[0].as_numpy())])" + (
    " for r in requests]"
)
EXECUTE = f"def execute(self, requests):\n    return {ANSWER}\n"


def starts(statements: str) -> str:
    """A model that starts something in ``initialize``."""
    return model_class(f"def initialize(self, args):\n    {statements}\n{EXECUTE}", BEFORE)


def ends(statement: str) -> str:
    """A model with this ``finalize``."""
    return model_class(f"def finalize(self):\n    {statement}\n{EXECUTE}", BEFORE)


def awaits(statement: str) -> str:
    """A model that starts something in an async ``execute``."""
    return execute(f"{statement}\nreturn {ANSWER}", BEFORE, is_async=True)


MODELS = {
    # Of these the real server waits for the end.
    "thread": starts("threading.Thread(target=time.sleep, args=[1e6]).start()"),
    "timer": starts("threading.Timer(1e6, print).start()"),
    "pool": starts("self.p = ThreadPoolExecutor(1); self.p.submit(time.sleep, 1e6)"),
    "daemon_process": starts(
        "multiprocessing.Process(target=time.sleep, args=[1e6], daemon=True).start()"
    ),
    "process": starts("multiprocessing.Process(target=time.sleep, args=[1e6]).start()"),
    "processes": starts("self.p = ProcessPoolExecutor(1); self.p.submit(time.sleep, 1e6)"),
    "pool_of_loop": awaits("asyncio.get_running_loop().run_in_executor(None, time.sleep, 1e6)"),
    "finalize": ends("time.sleep(1e6)"),
    # Of these it does not.
    "daemon": starts("threading.Thread(target=time.sleep, args=[1e6], daemon=True).start()"),
    "spawned_daemon": starts(
        "multiprocessing.get_context('spawn').Process("
        "target=time.sleep, args=[1e6], daemon=True).start()"
    ),
    "idle_pool": starts("self.p = ThreadPoolExecutor(1); self.p.submit(int).result()"),
    "idle_processes": starts("self.p = ProcessPoolExecutor(1); self.p.submit(int).result()"),
    "task": awaits("self.task = asyncio.create_task(asyncio.sleep(1e6))"),
    "raises": ends("raise ValueError('no')"),
}


def log_of(start: Callable[[], Engine]) -> str:
    """The log of an engine that was asked once for each model, and stopped."""
    engine = start()
    try:
        for name in MODELS:
            engine.infer(name, IN=np.ones(1, np.float32))
    finally:
        engine.stop()
    return engine.log()


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """What the stub and the real server say of the models, with time for all that can end."""
    repository = tmp_path_factory.mktemp("models")
    write_models(repository, MODELS)
    return (
        log_of(lambda: StubEngine(repository, timeout=10)),
        log_of(lambda: NativeEngine(repository, options=["--exit-timeout-secs=15"])),
    )


@pytest.mark.rule("3.5-left-running")
def test_what_keeps_a_model_from_being_unloaded(logs: tuple[str, str]) -> None:
    stub, native = (set(re.findall(r"successfully unloaded '(\w+)'", log)) for log in logs)
    assert stub == native
    assert stub == set(list(MODELS)[8:])
    assert "Exit timeout expired" in logs[1]


@pytest.mark.threads
@pytest.mark.deviation("exit-limit", "daemons")
def test_what_is_left_running_is_told(logs: tuple[str, str]) -> None:
    log = logs[0]
    assert set(re.findall(r"model '(\w+)' did not stop within 10 s", log)) == set(list(MODELS)[:8])
    assert "Instance 'daemon_0' is done and has left the daemon thread 'Thread-" in log


@pytest.mark.deviation("load-limit")
@pytest.mark.parametrize("kind", ["initialize", "left by the import"])
def test_a_model_that_never_loads(tmp_path: Path, kind: str) -> None:
    models = {
        "initialize": starts("time.sleep(1e6)"),
        "left by the import": model_class(
            EXECUTE, BEFORE + "threading.Thread(target=time.sleep, args=[1e6]).start()"
        ),
    }
    write_models(tmp_path, {"model": models[kind]})
    with pytest.raises(LoadError, match="was not ready within 5 s"):
        NativeEngine(tmp_path, startup_timeout=5)
    with pytest.raises(LoadError, match=r"the model was not loaded within 0\.5 s"):
        StubEngine(tmp_path, timeout=0.5)
