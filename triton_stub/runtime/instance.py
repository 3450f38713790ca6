"""One instance of a model: the life of a ``TritonPythonModel`` object."""

from __future__ import annotations

import asyncio
import inspect
import threading
import traceback
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from triton_stub import deviations
from triton_stub.errors import InferenceError, LoadError, UnsupportedFeatureError
from triton_stub.pb_utils.logger import LogLevel
from triton_stub.pb_utils.request import InferenceRequest
from triton_stub.runtime.activity import Activity
from triton_stub.runtime.contract import checked_responses
from triton_stub.runtime.describe import describe
from triton_stub.runtime.module import ModelModule, has
from triton_stub.runtime.services import Services

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from concurrent.futures import Future
    from pathlib import Path

    from triton_stub.pb_utils.host import Host
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
    decoupled: bool = False

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

    def __init__(self, spec: InstanceSpec, host: Host) -> None:
        self.spec = spec
        self._log = host.log
        self._services = Services(host)
        self.request_class = InferenceRequest
        self._model: Any = None
        self._background: set[Future[Any]] = set()
        self.activity = Activity(f"Instance '{spec.instance_name}'")

    def load(self) -> None:
        """Import the model and run ``initialize``; LoadError with the server's text if it fails."""
        activity = self.activity
        source = ModelModule(self.spec.model_file, self._services)
        self.request_class = source.request_class
        activity.begin(source)
        try:
            # For initialize too: there are models that unpickle, or import by a name they compute.
            with source.scope.active():
                activity.method = "import"
                model_class = source.import_class()
                activity.method = "__init__"
                self._model = model_class()
                self._services.started = True
                activity.method = "initialize"
                if has(self._model, "initialize"):
                    self._model.initialize(self.spec.args())
                activity.method = ""
        except BaseException as error:
            self._services.ended = True
            self._model = None
            activity.method = ""
            if isinstance(error, UnsupportedFeatureError):
                raise
            # SystemExit too: the process of a real instance survives it and reports it.
            raise LoadError(describe(error)) from error
        self._services.open = True

    def execute(self, requests: list[InferenceRequest]) -> list[InferenceResponse | None]:
        """Run one batch; the response to each request, None if it is answered otherwise, or later.

        Raises InferenceError, with the server's text, when the whole batch fails.
        """
        try:
            if not has(self._model, "execute"):
                # The blanks and quotes are the server's.
                raise InferenceError(
                    f"Python model {self.spec.model_file} does not implement `execute` method."
                )
            try:
                self.activity.method = "execute"
                # Of the list that it gets, a model may do what it likes.
                returned = self._model.execute(list(requests))
                if inspect.iscoroutine(returned):
                    returned = self._run(returned, requests)
            except BaseException as error:
                raise InferenceError(describe(error)) from error
            finally:
                self.activity.method = ""
            decoupled_instance = self.spec.instance_name if self.spec.decoupled else ""
            return checked_responses(requests, returned, decoupled_instance=decoupled_instance)
        except InferenceError as error:
            message = (
                f"Failed to process the request(s) for model '{self.spec.instance_name}', "
                f"message: {error.message}"
            )
            self._log.note(LogLevel.ERROR, message)
            for request in requests:
                request._sender._close()
            raise InferenceError(message) from error.__cause__

    def unload(self) -> None:
        """Run ``finalize``; what it raises is logged and swallowed, as on the server."""
        self._services.open = False
        if self.activity.loop is not None:
            loop, thread = self.activity.loop
            loop.call_soon_threadsafe(loop.stop)
            thread.join(_LOOP_SECONDS)
        if has(self._model, "finalize"):
            self.activity.method = "finalize"
            try:
                self._model.finalize()
            except BaseException as error:  # noqa: BLE001
                self._log.note(LogLevel.INFO, describe(error))
            self.activity.method = ""
        self._services.ended = True
        self._model = None

    def _run(self, coroutine: Coroutine[Any, Any, Any], requests: list[InferenceRequest]) -> Any:
        """Run an ``async def execute`` on the instance's own loop, in a thread of its own.

        That of a decoupled model runs beside the next ones; any other is waited for.
        """
        if self.activity.loop is None:
            # A factory, so that it does not become the event loop of this thread.
            runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
            name = f"{self.spec.instance_name} loop"
            thread = threading.Thread(target=_run_loop, args=(runner,), name=name, daemon=True)
            self.activity.loop = runner.get_loop(), thread
            thread.start()
        future = asyncio.run_coroutine_threadsafe(_contained(coroutine), self.activity.loop[0])
        if not self.spec.decoupled:
            return future.result()
        self._background.add(future)
        future.add_done_callback(partial(self._background_done, list(requests)))
        return None

    def _background_done(self, requests: list[InferenceRequest], future: Future[Any]) -> None:
        self._background.discard(future)
        error = None if future.cancelled() else future.exception()
        if error is None:
            return
        self._log.note(LogLevel.ERROR, "".join(traceback.format_exception(error)))
        text = deviations.ASYNC_FAILURE.text(
            "the async execute of this decoupled model failed",
            f"Send a response with an error. {describe(error)}",
        )
        for request in requests:
            request._sender._fail(text)


async def _contained(coroutine: Coroutine[Any, Any, Any]) -> Any:
    try:
        return await coroutine
    except (SystemExit, KeyboardInterrupt) as error:
        raise RuntimeError(
            deviations.ASYNC_EXIT.text(
                f"an async execute raised {error!r}",
                "Return an InferenceResponse with an error, or raise another exception.",
            )
        ) from error


def _run_loop(runner: asyncio.Runner) -> None:
    # Leaving the runner cancels what the model has left behind.
    with runner:
        runner.get_loop().run_forever()
