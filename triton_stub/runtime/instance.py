"""One instance of a model: the life of a ``TritonPythonModel`` object."""

from __future__ import annotations

import asyncio
import threading
import traceback
import types
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from triton_stub import deviations
from triton_stub.errors import InferenceError, LoadError
from triton_stub.pb_utils.logger import LogLevel
from triton_stub.pb_utils.request import InferenceRequest
from triton_stub.runtime.activity import Activity
from triton_stub.runtime.contract import AlreadyAnsweredError, checked_responses
from triton_stub.runtime.describe import describe
from triton_stub.runtime.module import ModelModule, has
from triton_stub.runtime.readiness import Readiness
from triton_stub.runtime.services import Services

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator
    from concurrent.futures import Future
    from pathlib import Path

    from triton_stub.pb_utils.host import Host
    from triton_stub.pb_utils.response import InferenceResponse


# For tasks that a model has left behind and that do not let themselves be cancelled.
_LOOP_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class InstanceSpec:
    """Where an instance runs and what its model is told: the ``args`` of ``initialize``.

    ``model_directory`` is the folder of the file's folder unless given. ``backend_of`` is the
    folder of the model's version where the file is that of a backend. An instance that
    ``is_passive`` is loaded, and never executes. ``signature`` is what else its group says.
    """

    model_name: str
    model_version: str
    model_file: Path
    model_config: str
    instance_name: str
    kind: str = "CPU"
    device_id: int = 0
    decoupled: bool = False
    model_directory: Path | None = None
    backend_of: Path | None = None
    is_passive: bool = False
    signature: bytes = b""

    def is_like(self, other: InstanceSpec) -> bool:
        """True if an instance of the same model may be either, whatever it is called."""
        return (self.signature, self.device_id) == (other.signature, other.device_id)

    def args(self) -> dict[str, str]:
        """The dict of ``initialize``; ``model_repository`` is the *model's* directory."""
        return {
            "model_config": self.model_config,
            "model_instance_kind": self.kind,
            "model_instance_name": self.instance_name,
            "model_instance_device_id": str(self.device_id),
            "model_repository": str(self.model_directory or self.model_file.parent.parent),
            "model_version": self.model_version,
            "model_name": self.model_name,
        }


class Instance:
    """Imports ``model.py`` in a scope of its own and calls the model's methods.

    All calls come from one thread, as on the server, where it is the process's main thread.
    ``is_alone`` says that here, too, the process is this instance's own.
    """

    def __init__(self, spec: InstanceSpec, host: Host, *, is_alone: bool = False) -> None:
        self.spec = spec
        self._log = host.log
        self._services = Services(host)
        self._is_alone = is_alone
        self.request_class = InferenceRequest
        self._model: Any = None
        self._background: set[Future[Any]] = set()
        self._loop_lock = threading.Lock()
        self._readiness: Readiness | None = None
        # What the real server has died of, if it has.
        self._death = ""
        self.activity = Activity(f"Instance '{spec.instance_name}'")

    def load(self) -> None:
        """Import the model and run ``initialize``; LoadError with the server's text if it fails."""
        activity = self.activity
        source = ModelModule(
            self.spec.model_file,
            self._services,
            backend_of=self.spec.backend_of,
            is_alone=self._is_alone,
        )
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
            # SystemExit too: the process of a real instance survives it and reports it.
            raise LoadError(describe(error)) from error
        if has(self._model, "is_ready"):
            self._readiness = Readiness(self.spec.instance_name, self._is_ready)
        self._services.open = True

    @property
    def can_be_asked(self) -> bool:
        """True if the model says itself whether it is ready."""
        return self._readiness is not None

    def check_ready(self) -> None:
        """ServerError, with the server's text, if the model says that it is not ready."""
        if self._readiness is not None:
            self._readiness.check()

    def execute(self, requests: list[InferenceRequest]) -> list[InferenceResponse | None]:
        """Run one batch; the response to each request, None if it is answered otherwise, or later.

        Raises InferenceError, with the server's text, when the whole batch fails.
        """
        if self._death:
            raise InferenceError(self._death)
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
                # On Python 3.11 a generator is a coroutine for asyncio, which the backend asks.
                if type(returned) is not list and asyncio.iscoroutine(returned):
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
            self._close(requests, error)
            raise InferenceError(message) from error.__cause__

    def die(self, text: str) -> None:
        """Refuse every later request: the real server is not there any more."""
        self._death = text
        self._log.note(LogLevel.ERROR, text)

    def _close(self, requests: list[InferenceRequest], error: InferenceError) -> None:
        """Let nothing more be sent after a failed execute."""
        senders = [request._sender for request in requests]
        if not self.spec.decoupled:
            for sender in senders:
                if sender._is_open:
                    text = deviations.FAILED_WHILE_OPEN.text(
                        "execute failed, or returned a response, after the sender of this request "
                        "has sent one without the final flag",
                        f"Send the final flag, and return None. {error.message}",
                    )
                    sender._fail(text)
            known = isinstance(error, AlreadyAnsweredError)
            if not known and any(sender._ended for sender in senders):
                text = deviations.FAILED_AFTER_END.text(
                    "execute failed after a sender of its batch has sent the final flag",
                    f"Do what can fail before that. {error.message}",
                )
                self.die(text)
        for sender in senders:
            sender._close()

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
        loop = self._event_loop()
        if not self.spec.decoupled:
            return asyncio.run_coroutine_threadsafe(_contained(coroutine), loop).result()
        watched = self._in_background(coroutine, requests)
        future = asyncio.run_coroutine_threadsafe(watched, loop)
        self._background.add(future)
        future.add_done_callback(self._background.discard)
        return None

    def _event_loop(self) -> asyncio.AbstractEventLoop:
        with self._loop_lock:
            if self.activity.loop is None:
                # A factory, so that it does not become the event loop of this thread.
                runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
                name = f"{self.spec.instance_name} loop"
                thread = threading.Thread(target=_run_loop, args=(runner,), name=name, daemon=True)
                self.activity.loop = runner.get_loop(), thread
                thread.start()
            return self.activity.loop[0]

    def _is_ready(self) -> Any:
        ready = self._model.is_ready()
        if asyncio.iscoroutine(ready):
            return asyncio.run_coroutine_threadsafe(_contained(ready), self._event_loop()).result()
        return ready

    async def _in_background(
        self, coroutine: Coroutine[Any, Any, Any], requests: list[InferenceRequest]
    ) -> None:
        # Nothing else may keep the requests: a sender that the model drops is to be noticed.
        try:
            await _contained(coroutine)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told
            self._log.note(LogLevel.ERROR, "".join(traceback.format_exception(error)))
            text = deviations.ASYNC_FAILURE.text(
                "the async execute of this decoupled model failed",
                f"Send a response with an error. {describe(error)}",
            )
            for request in requests:
                request._sender._fail(text)


@types.coroutine
def _through(coroutine: Coroutine[Any, Any, Any]) -> Generator[Any, Any, Any]:
    # A generator can be awaited by way of this, too.
    return (yield from coroutine)


async def _contained(coroutine: Coroutine[Any, Any, Any]) -> Any:
    try:
        return await _through(coroutine)
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
