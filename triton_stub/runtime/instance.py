"""One instance of a model: the life of a ``TritonPythonModel`` object."""

from __future__ import annotations

import asyncio
import inspect
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from triton_stub.errors import InferenceError, LoadError, UnsupportedFeatureError
from triton_stub.pb_utils.logger import LogLevel
from triton_stub.pb_utils.modules import C_PB_UTILS, PB_UTILS, BackendModules
from triton_stub.runtime.contract import checked_responses
from triton_stub.runtime.describe import describe
from triton_stub.runtime.scope import ImportScope

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from pathlib import Path

    from triton_stub.pb_utils.logger import LogSink
    from triton_stub.pb_utils.request import InferenceRequest
    from triton_stub.pb_utils.response import InferenceResponse


# For tasks that a model has left behind and that do not let themselves be cancelled.
_LOOP_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class InstanceSpec:
    """Where an instance runs and what its model is told: the ``args`` of ``initialize``."""

    model_name: str
    model_version: str
    model_file: Path
    model_config: str
    instance_name: str
    kind: str = "CPU"
    device_id: int = 0

    def args(self) -> dict[str, str]:
        """The dict of ``initialize``; ``model_repository`` is the *model's* directory."""
        return {
            "model_config": self.model_config,
            "model_instance_kind": self.kind,
            "model_instance_name": self.instance_name,
            "model_instance_device_id": str(self.device_id),
            "model_repository": str(self.model_file.parent.parent),
            "model_version": self.model_version,
            "model_name": self.model_name,
        }


class Instance:
    """Imports ``model.py`` in a scope of its own and calls the model's methods.

    All calls come from one thread, as on the server, where it is the process's main thread.
    """

    def __init__(self, spec: InstanceSpec, sink: LogSink) -> None:
        self.spec = spec
        self._sink = sink
        self._model: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_thread = threading.Thread()

    def load(self) -> None:
        """Import the model and run ``initialize``; LoadError with the server's text if it fails."""
        if not self.spec.model_file.is_file():
            raise LoadError(
                f"Python model file not found in '{self.spec.model_file}'. Expected the model's "
                "code there; add it, or name another file with default_model_filename."
            )
        if self.spec.model_file.suffix != ".py":
            raise LoadError(
                f"Model name must end with '.py'. Model name is \"{self.spec.model_file.name}\"."
            )
        version_directory = self.spec.model_file.parent
        modules = BackendModules(version_directory, self._sink)
        scope = ImportScope(
            version_directory, {PB_UTILS: modules.pb_utils, C_PB_UTILS: modules.c_pb_utils}
        )
        try:
            # For initialize too: there are models that unpickle, or import by a name they compute.
            with scope.active():
                module = scope.import_module(
                    f"{version_directory.name}.{self.spec.model_file.stem}"
                )
                modules.reveal_classes()
                self._model = self._new_model(module.TritonPythonModel)
                if _has(self._model, "initialize"):
                    self._model.initialize(self.spec.args())
        except UnsupportedFeatureError:
            raise
        except BaseException as error:
            self._model = None
            # SystemExit too: the process of a real instance survives it and reports it.
            raise LoadError(describe(error)) from error

    def execute(self, requests: list[InferenceRequest]) -> list[InferenceResponse]:
        """Run one batch; one response for each request.

        Raises InferenceError, with the server's text, when the whole batch fails.
        """
        try:
            if not _has(self._model, "execute"):
                # The blanks and quotes are the server's.
                raise InferenceError(
                    f"Python model {self.spec.model_file} does not implement `execute` method."
                )
            try:
                # Of the list that it gets, a model may do what it likes.
                returned = self._model.execute(list(requests))
                if inspect.iscoroutine(returned):
                    returned = self._run(returned)
            except BaseException as error:
                raise InferenceError(describe(error)) from error
            return checked_responses(requests, returned)
        except InferenceError as error:
            message = (
                f"Failed to process the request(s) for model '{self.spec.instance_name}', "
                f"message: {error.message}"
            )
            self._sink.note(LogLevel.ERROR, message)
            raise InferenceError(message) from error.__cause__

    def unload(self) -> None:
        """Run ``finalize``; what it raises is logged and swallowed, as on the server."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._loop_thread.join(_LOOP_SECONDS)
            self._loop = None
        model, self._model = self._model, None
        if _has(model, "finalize"):
            try:
                model.finalize()
            except BaseException as error:  # noqa: BLE001
                self._sink.note(LogLevel.INFO, describe(error))

    def _new_model(self, model_class: Any) -> Any:
        if _has(model_class, "auto_complete_config"):
            raise UnsupportedFeatureError(
                f"{self.spec.model_file}: this release of triton_stub does not imitate "
                "auto_complete_config: write what it would add into config.pbtxt and start "
                "the real server with --disable-auto-complete-config, or test this model "
                "with --triton-engine=native"
            )
        return model_class()

    def _run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Wait for an ``async def execute`` on the instance's own loop, in a thread of its own."""
        if self._loop is None:
            # A factory, so that it does not become the event loop of this thread.
            runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
            self._loop = runner.get_loop()
            self._loop_thread = threading.Thread(
                target=_run_loop,
                args=(runner,),
                name=f"{self.spec.instance_name} loop",
                daemon=True,
            )
            self._loop_thread.start()
        return asyncio.run_coroutine_threadsafe(_contained(coroutine), self._loop).result()


def _has(model: Any, method: str) -> bool:
    """As the backend asks it: whatever goes wrong means no."""
    try:
        getattr(model, method)
    except Exception:  # noqa: BLE001
        return False
    return True


async def _contained(coroutine: Coroutine[Any, Any, Any]) -> Any:
    try:
        return await coroutine
    except (SystemExit, KeyboardInterrupt) as error:
        # These would end the event loop. The server's client then waits for ever; a test must not.
        raise RuntimeError(
            f"an async execute raised {error!r}, which the real server does not survive. "
            "Return an InferenceResponse with an error, or raise another exception."
        ) from error


def _run_loop(runner: asyncio.Runner) -> None:
    # Leaving the runner cancels what the model has left behind.
    with runner:
        runner.get_loop().run_forever()
