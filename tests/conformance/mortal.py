"""Both engines, for cases that the real server does not always survive.

A failed call of a metric or of model control races with its answer inside the real server, which
dies of it now and then (see ``deviations.CONTROL_ERROR``). Its answer is always the same; so a
server that has died is started anew, and asked again.
"""

from __future__ import annotations

import os
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import pytest
from comparing import outcome
from patience import wait_until
from tritonclient.utils import InferenceServerException

from triton_stub.engines.engine import Engine
from triton_stub.engines.native import NativeEngine
from triton_stub.engines.stub import StubEngine
from triton_stub.errors import LoadError, ServerError

_LIVES = 20


class MortalEngines:
    """The same repository, twice, under explicit model control unless ``models`` is None.

    ``native`` is the real server in its present life. With a ``stub_repository`` each has its own.
    ``strict``: models do not complete their configuration, which is faster on the real server.
    """

    def __init__(
        self,
        repository: Path,
        models: Sequence[str] | None,
        *,
        stub_repository: Path | None = None,
        strict: bool = False,
    ) -> None:
        self.repository = repository
        self._models = models
        # It waits in vain for a version that was loaded beside one that failed.
        self._options = ["--exit-timeout-secs=3"]
        if strict:
            self._options.append("--disable-auto-complete-config")
        self.native = self._born()
        self.stub = StubEngine(
            stub_repository or repository, models=models, strict_model_config=strict
        )

    def same(self, body: Callable[[Engine], Any]) -> Any:
        """Run ``body`` on both engines, compare what comes out, and return it.

        On the real server it may run again, from the start: it must not build on other cases.
        """
        stub, native = outcome(body, self.stub), self._outcome(body)
        assert stub == native, f"stub: {stub}\nnative: {native}"
        return stub

    def _outcome(self, body: Callable[[Engine], Any]) -> Any:
        for _ in range(_LIVES):
            try:
                told = outcome(body, self.native)
            except Exception:  # of another client, in the middle of whatever
                if is_live(self.native):
                    raise
                told = None
            gone = isinstance(told, dict) and "no answer" in told.get("error", "")
            if not gone and is_live(self.native):
                return told
            self.native.stop()
            self.native = self._born()
        return pytest.fail(f"the real server died {_LIVES} times in a row of this case")

    def _born(self) -> NativeEngine:
        for _ in range(_LIVES):
            try:
                return NativeEngine(self.repository, models=self._models, options=self._options)
            except LoadError as error:
                if "ended with status 134" not in str(error):
                    raise
        return pytest.fail(f"the real server did not survive its start {_LIVES} times")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.native.stop()
        self.stub.stop()


def custom_metrics(engine: Engine) -> str:
    """What the page of metrics says of the models' own; the server's begin with ``nv_``."""
    if isinstance(engine, StubEngine):
        page = engine.server.metrics()
    else:
        assert isinstance(engine, NativeEngine)
        with urllib.request.urlopen(f"http://{engine.metrics_url}/metrics", timeout=60) as answer:
            page = answer.read().decode()
    kept: list[str] = []
    own = True
    for line in page.splitlines(keepends=True):
        words = line.split()
        if words[:1] == ["#"]:
            own = not words[2].startswith("nv_")
        if own:
            kept.append(line)
    return "".join(kept)


def control(engine: Engine, action: str, name: str, *, replaces: bool = False) -> str:
    """Load or unload a model, and wait until what is unloaded or ``replaces`` is gone.

    What the server says against it, "" if nothing.
    """
    if isinstance(engine, StubEngine):
        try:
            if action == "unload":
                engine.server.unload(name, wait_until_unloaded=True)
            else:
                engine.server.load(name)
        except ServerError as error:
            return error.message
        return ""
    before = unloaded(engine, name)
    with engine.client() as client:
        served = client.is_model_ready(name)
        try:
            getattr(client, f"{action}_model")(name)
        except InferenceServerException as error:
            return str(error.message())
    if replaces or (served and action == "unload"):
        wait_until(lambda: unloaded(engine, name) > before)
    return ""


def is_live(engine: Engine) -> bool:
    """True if a server is there at all, whatever it says of its models."""
    try:
        engine.server_metadata()
    except ServerError:
        return False
    return True


def unloaded(engine: Engine, name: str) -> int:
    """How often a version of a model has been unloaded so far."""
    return engine.log().count(f"successfully unloaded '{name}' version")


def touch(path: Path) -> None:
    """Let a file be newer than it has ever been; the clock of the file system may be coarse."""
    changed = path.stat().st_mtime_ns + 1_000_000
    os.utime(path, ns=(changed, max(changed, time.time_ns())))
