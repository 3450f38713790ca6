"""What all models of one server share, and what one instance sees of it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Literal, Protocol

from triton_stub.core import bls, garbage
from triton_stub.core.cache import ResponseCache
from triton_stub.core.clock import Clock
from triton_stub.core.metrics import Metrics
from triton_stub.core.processes.forked import Door
from triton_stub.core.server_metrics import ServerMetrics
from triton_stub.core.trace_settings import Tracer, TraceSettings
from triton_stub.core.waiting import LocalExchange, Waits
from triton_stub.errors import LoadError, ServerError, StatusCode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from triton_stub.core.log import Log
    from triton_stub.core.model import ServedModel
    from triton_stub.core.repository.source import LoadParameters
    from triton_stub.core.request import InferenceRequest as CoreRequest
    from triton_stub.core.responses import Responses
    from triton_stub.pb_utils import InferenceRequest


# Where instances run: threads of this process, or a process each.
Isolation = Literal["thread", "process"]


class Models(Protocol):
    """The models of a server, as models look for each other: its repository."""

    def find(self, name: str, version: int = -1) -> ServedModel:
        """A ready version of a model, the newest if none is asked for."""

    def load(
        self,
        name: str,
        parameters: LoadParameters | None = None,
        *,
        loading: str | None = None,
        wait: bool = True,
    ) -> None:
        """Load a model, with another configuration or other files if given."""

    def unload(
        self,
        name: str,
        *,
        unload_dependents: bool = False,
        loading: str | None = None,
        wait: bool = True,
    ) -> None:
        """Unload a model, and the steps that only it needs if so wished."""

    def is_ready(self, name: str, version: int) -> bool:
        """True if a model, or the version of it, takes requests; -1 means any version."""


class ServerHost:
    """The log, the metrics and the models of one server.

    Seconds that anybody waits, and None for ever: ``load_timeout`` until a model is loaded,
    ``response_timeout`` for a response, ``exit_timeout`` until a model is unloaded.
    ``explicit`` says whether models may be loaded and unloaded on request,
    ``strict_model_config`` that they do not complete their configuration, ``ready`` whether the
    server has started. ``isolation`` is where instances run, ``clock`` the time by which requests
    wait, ``cache_config`` the response caches (``--cache-config``), ``backend_directory`` where
    backends written in Python are, and ``rate_limited`` whether ``--rate-limit`` asks for limits.
    ``metrics``, ``cpu_metrics`` and ``metrics_config`` are those of ``ServerMetrics``.
    """

    def __init__(
        self,
        log: Log,
        *,
        load_timeout: float | None = 600.0,
        response_timeout: float | None = 300.0,
        exit_timeout: float = 30.0,
        explicit: bool = False,
        strict_model_config: bool = False,
        isolation: Isolation = "thread",
        clock: Clock | None = None,
        cache_config: Mapping[str, Mapping[str, Any]] | None = None,
        backend_directory: Path | None = None,
        rate_limited: bool = False,
        metrics: bool = True,
        cpu_metrics: bool = True,
        metrics_config: Mapping[str, str] | None = None,
        trace_settings: TraceSettings | None = None,
    ) -> None:
        self.log = log
        self.clock = clock or Clock()
        self.isolation = isolation
        self.cache_config = cache_config or {}
        #: Responses that are kept; None if ``cache_config`` has no cache.
        self.cache = ResponseCache.of(self.cache_config)
        self.backend_directory = backend_directory
        self.rate_limited = rate_limited
        self.metrics = Metrics()
        self.own_metrics = ServerMetrics(
            self.metrics, metrics_config, self.cache, log, enabled=metrics, cpu=cpu_metrics
        )
        self.tracer = Tracer(trace_settings or TraceSettings(), log, self.clock)
        self.load_timeout = load_timeout
        self.response_timeout = response_timeout
        self.exit_timeout = exit_timeout
        self.explicit = explicit
        self.strict_model_config = strict_model_config
        self.ready = False
        #: Set by the repository that it belongs to.
        self.models: Models | None = None
        self.door = Door(self.send)
        self._waits = Waits()

    def send(
        self,
        request: CoreRequest,
        decoupled: bool,  # noqa: FBT001
        host: InstanceHost | None = None,
    ) -> LocalExchange:
        """Send a request of a model's own, of ``host`` if that is known."""
        assert self.models is not None, "a host without a repository"
        model, responses = bls.submit(
            self.models.find, request, decoupled=decoupled, ready=self.ready
        )
        return LocalExchange(model, responses, self._waits, host)

    def closes_circle(self, model: ServedModel, responses: Responses) -> str:
        """See ``core.waiting.Waits``."""
        return self._waits.closes_circle(model, responses)

    def check_ready(self) -> None:
        """ServerError, in the server's words, while the server starts or stops."""
        if not self.ready:
            raise ServerError("Server not ready", StatusCode.UNAVAILABLE)

    def check_explicit(self) -> None:
        """ServerError, in the server's words, unless models are loaded on request."""
        if not self.explicit:
            raise ServerError(
                "explicit model load / unload is not allowed if polling is enabled",
                StatusCode.UNAVAILABLE,
            )


class InstanceHost:
    """``pb_utils.host.Host`` for one instance of a model.

    ``loading`` is the model's name until the instance is loaded: who waits for what this instance
    asks for waits for that model.
    """

    #: Only the instance itself knows when its process would be gone.
    ended = False

    def __init__(self, server: ServerHost, instance_name: str, model_name: str) -> None:
        self.instance_name = instance_name
        self.loading: str | None = model_name
        self._thread = 0
        #: True if nothing of the model runs but what is called in the instance's thread.
        self.is_alone: Callable[[], bool] = lambda: False
        #: Finds what the model has dropped in a cycle, such as a response sender. As
        #: ``garbage.Collections.ask``.
        self.collect: Callable[[float, float], float] = garbage.collect
        self.log = server.log
        self.metrics = server.metrics
        self._server = server

    def enter(self) -> None:
        """Say that the instance executes in this thread."""
        self._thread = threading.get_ident()

    def is_here(self) -> bool:
        """True in the thread where the instance executes."""
        return threading.get_ident() == self._thread

    def infer(self, request: InferenceRequest, *, decoupled: bool) -> bls.Call:
        """Send a request of the model's own; see ``pb_utils.host.Host``."""
        door = self._server.door
        send = door.send if door.is_behind else self.send
        return bls.Call(send, request, decoupled=decoupled)

    def send(self, request: CoreRequest, decoupled: bool) -> LocalExchange:  # noqa: FBT001
        """Send a request of this instance's."""
        return self._server.send(request, decoupled, self)

    def load_model(self, name: str, config: str, files: Mapping[str, bytes]) -> None:
        """Load a model of the server."""
        self._server.check_ready()
        self._server.check_explicit()
        # In this order: with a configuration the server looks at nothing that is no file.
        parameters: dict[str, str | bytes] = {"config": config} if config else {}
        parameters |= {path: files[path] for path in files if path not in parameters}
        try:
            self._models.load(name, parameters, loading=self.loading, wait=False)
        except LoadError as error:
            raise ServerError(error.told, error.code) from error

    def unload_model(self, name: str, *, unload_dependents: bool) -> None:
        """Unload a model of the server, and the steps that only it needs if so wished."""
        self._server.check_ready()
        self._server.check_explicit()
        self._models.unload(
            name, unload_dependents=unload_dependents, loading=self.loading, wait=False
        )

    def is_model_ready(self, name: str, version: int) -> bool:
        """True if a model of the server takes requests."""
        self._server.check_ready()
        return self._models.is_ready(name, version)

    @property
    def _models(self) -> Models:
        models = self._server.models
        assert models is not None, "a host without a repository"
        return models
