"""The engines of one test run: each started once, when first needed, all stopped at the end."""

from __future__ import annotations

import math
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from triton_stub.testing.complaints import complaints

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from triton_stub.engines.engine import Engine
    from triton_stub.testing.spec import ContainerOptions, EngineSpec

#: What the reason of a skipped test starts with.
SKIPPED = "no real tritonserver for --triton-engine="
_IMPATIENCE = 1.0  # seconds for models that are busy when somebody interrupts the run
_NO_ANSWER = 10.0  # seconds after which nobody is behind a URL


class _MissingError(Exception):
    """An engine cannot be had here, for this reason."""


class EnginePool:
    """Starts and keeps engines.

    ``require`` fails a test where it would be skipped; ``timeout`` is the number of seconds for
    each wait for a model, the engines' own unless given. ``grpc_url`` is that of a server behind a
    URL.
    """

    def __init__(
        self,
        root: Path,
        *,
        require: bool,
        timeout: float | None = None,
        container: ContainerOptions | None = None,
        grpc_url: str | None = None,
    ) -> None:
        self._root = root
        self._require = require
        self._timeout = timeout
        self._container_options = container
        self._grpc_url = grpc_url
        #: Warnings and errors in the logs of engines while they were stopped.
        self.said: list[str] = []
        self._engines: dict[EngineSpec, Engine] = {}
        self._failed: dict[EngineSpec, tuple[Exception, TracebackType | None]] = {}

    def get(self, spec: EngineSpec) -> Engine:
        """The engine for ``spec``; an engine that did not start is not tried again."""
        if spec in self._failed:
            error, trace = self._failed[spec]
            raise error.with_traceback(trace)
        if spec not in self._engines:
            _check_repository(spec)
            try:
                engine = self._start(spec)
            except Exception as error:
                self._failed[spec] = (error, error.__traceback__)
                raise
            self._engines[spec] = engine
        return self._engines[spec]

    def log(self, spec: EngineSpec) -> str:
        """What the engine for ``spec`` has logged so far; empty if it does not run."""
        return self._engines[spec].log() if spec in self._engines else ""

    def stop(self, *, interrupted: bool = False) -> None:
        """Stop every engine, the last one first; also those after one that fails to stop.

        Somebody who has ``interrupted`` the run does not wait for a model that blocks.
        """

        def stop(engine: Engine) -> None:
            before = len(engine.log())
            try:
                if interrupted and engine.name == "stub":
                    engine.stop(timeout=_IMPATIENCE)  # type: ignore[call-arg]
                else:
                    engine.stop()
            finally:
                self.said += complaints(engine.log()[before:])

        with ExitStack() as stack:
            for engine in self._engines.values():
                stack.callback(stop, engine)
            self._engines.clear()

    def _start(self, spec: EngineSpec) -> Engine:
        starts = {"stub": self._stub, "native": self._native, "container": self._container}
        try:
            return starts.get(spec.engine, self._server_there)(spec)
        except _MissingError as error:
            reason = f"{SKIPPED}{spec.engine}: {error}"
        if self._require:
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)

    def _stub(self, spec: EngineSpec) -> Engine:
        from triton_stub.engines.stub import StubEngine

        return StubEngine(
            spec.repository, models=spec.models, timeout=self._timeout, isolation=spec.isolation
        )

    def _native(self, spec: EngineSpec) -> Engine:
        from triton_stub.engines.environment import NativeEnvironment, NativeEnvironmentError
        from triton_stub.engines.native import NativeEngine

        try:
            environment = NativeEnvironment.find(self._root)
        except NativeEnvironmentError as error:
            raise _MissingError(error) from error
        return NativeEngine(
            spec.repository, environment=environment, models=spec.models, **self._limits()
        )

    def _container(self, spec: EngineSpec) -> Engine:
        from triton_stub.engines.container import ContainerEngine
        from triton_stub.engines.server_container import ContainerUnavailableError

        options = {} if self._container_options is None else self._container_options.given()
        try:
            return ContainerEngine(spec.repository, models=spec.models, **options, **self._limits())
        except ContainerUnavailableError as error:
            raise _MissingError(error) from error

    def _server_there(self, spec: EngineSpec) -> Engine:
        """A server that others have started: its models are those that it has."""
        from triton_stub.engines.http import HttpEngine
        from triton_stub.errors import ServerError

        with HttpEngine(spec.engine, timeout=_NO_ANSWER) as asked:
            try:
                asked.server_metadata()
            except ServerError as error:
                raise _MissingError(error) from error
            missing = [model for model in spec.models or () if not asked.ready(model)]
        if missing:
            pytest.fail(
                f"the server at {spec.engine} does not have ready what the test wants: "
                f"{', '.join(missing)}. Tests load no models there: load them, or start the "
                "server with them",
                pytrace=False,
            )
        timeout: dict[str, Any] = {} if self._timeout is None else {"timeout": self._timeout}
        return HttpEngine(spec.engine, grpc_url=self._grpc_url, **timeout)

    def _limits(self) -> dict[str, Any]:
        """The time limits of a real server that we start."""
        if self._timeout is None:
            return {}
        return {
            "startup_timeout": self._timeout,
            "timeout": self._timeout,
            "options": [f"--exit-timeout-secs={math.ceil(self._timeout)}"],
        }


def _check_repository(spec: EngineSpec) -> None:
    if spec.repository.is_dir() or "://" in spec.engine:
        return
    if spec.source:
        pytest.fail(
            f"model repository {spec.repository}, from {spec.source}, is no folder; expected one "
            "with a folder for each model",
            pytrace=False,
        )
    pytest.fail(
        f"no model repository for the fixture `triton`: looked for {spec.repository}, which is no "
        "folder. Name another one in one of three ways:\n"
        "  pytest --triton-repository=PATH            relative to the working directory\n"
        "  triton_repository = PATH                   in pytest's ini file, relative to it\n"
        "  @pytest.mark.triton(repository=PATH)       on the test, relative to its file",
        pytrace=False,
    )
