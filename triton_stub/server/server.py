"""``Server``: the face that tests, endpoints and the command line use.

Names follow NVIDIA's own in-process Python API (core ``python/tritonserver``).
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from triton_stub.core.host import ServerHost
from triton_stub.core.log import Log
from triton_stub.core.repository import NEWEST, ModelState, Repository, describe_failures
from triton_stub.errors import InferenceError, LoadError, ServerError, StatusCode
from triton_stub.server.model import Model

if TYPE_CHECKING:
    import os
    from typing import TextIO

    import tritonclient.http

    from triton_stub.core.clock import Clock
    from triton_stub.core.host import Isolation
    from triton_stub.core.model import ServedModel
    from triton_stub.core.source import LoadParameters
    from triton_stub.endpoints.http import HttpEndpoint

# The release whose behaviour the conformance suite compares with.
IMITATED_VERSION = "2.51.0"
# What of the protocol's extensions is there; a client may ask before it uses one.
EXTENSIONS = ("model_configuration", "binary_tensor_data", "parameters", "statistics")


class Server:
    """Runs the models of one or more repositories in this process.

    ``with Server(model_repository="models") as server`` starts and stops it. Keywords are those
    of ``tritonserver.Options``: with ``model_control_mode="explicit"`` only ``startup_models``
    are loaded; with ``exit_on_error=False`` models that fail to load are left out, and
    ``load_errors`` tells why. With ``strict_model_config`` models do not complete their
    configuration (``--disable-auto-complete-config``). ``echo_log`` prints the log as it grows.

    No model keeps a program from going on, or from ending. Seconds, and None for ever, as on the
    server: ``load_timeout`` for a model to load, ``response_timeout`` for each response to a
    request, ``exit_timeout`` for all models to finish what they do when they are unloaded. What
    takes longer is an error, or in the end a line of the log, that says where the model blocks.

    ``isolation="process"`` runs each instance in a process of its own; ``clock`` is a
    ``ManualClock`` if a test drives the time. ``cache_config`` turns response caches on, such as
    ``{"local": {"size": 1_000_000}}`` (bytes). ``backend_directory`` has backends that are
    written in Python, a folder each.
    """

    def __init__(
        self,
        model_repository: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        *,
        model_control_mode: Literal["none", "explicit"] = "none",
        startup_models: Sequence[str] = (),
        exit_on_error: bool = True,
        strict_model_config: bool = False,
        strict_readiness: bool = True,
        load_timeout: float | None = 600.0,
        response_timeout: float | None = 300.0,
        exit_timeout: float = 30.0,
        isolation: Isolation = "thread",
        clock: Clock | None = None,
        cache_config: Mapping[str, Mapping[str, Any]] | None = None,
        backend_directory: str | os.PathLike[str] | None = None,
        rate_limiter_mode: Literal["off", "execution_count"] = "off",
        log_verbose: bool = False,
        echo_log: TextIO | None = None,
        server_id: str = "triton",
    ) -> None:
        if isinstance(model_repository, str) or not isinstance(model_repository, Sequence):
            model_repository = [model_repository]
        if model_control_mode not in ("none", "explicit"):
            raise ValueError(
                f"model_control_mode {model_control_mode!r} is not imitated by this release of "
                "triton_stub; expected 'none' or 'explicit'"
            )
        if startup_models and model_control_mode != "explicit":
            raise ValueError(
                f"startup_models {list(startup_models)} need model_control_mode='explicit'; "
                "without it every model of the repository is loaded"
            )
        self.server_id = server_id
        self.load_errors: dict[str, ServerError] = {}
        self._explicit = model_control_mode == "explicit"
        self._startup_models = list(dict.fromkeys(startup_models))
        self._exit_on_error = exit_on_error
        self._strict_readiness = strict_readiness
        self._exit_timeout = exit_timeout
        self._log = Log(verbose=log_verbose, echo=echo_log)
        self._host = ServerHost(
            self._log,
            load_timeout=load_timeout,
            response_timeout=response_timeout,
            exit_timeout=exit_timeout,
            explicit=self._explicit,
            strict_model_config=strict_model_config,
            isolation=isolation,
            clock=clock,
            cache_config=cache_config,
            backend_directory=None if backend_directory is None else Path(backend_directory),
            rate_limited=rate_limiter_mode != "off",
        )
        self._repository = Repository([Path(path) for path in model_repository], self._host)
        self._endpoints: list[HttpEndpoint] = []
        self._own_endpoint: HttpEndpoint | None = None
        self._opening = threading.Lock()
        self._live = False

    def start(self) -> Self:
        """Load the models; LoadError, with every failing model named, if ``exit_on_error``."""
        if self._live:
            raise ServerError("Server already started", StatusCode.INVALID_ARG)
        self.load_errors = {}
        self._host.open_cache()
        self._repository.open()
        self._host.door.watch()
        try:
            names = self._startup_models if self._explicit else self._repository.model_names()
            for name in names:
                try:
                    self._repository.load(name)
                except ServerError as error:
                    self.load_errors[name] = error
            if self.load_errors and self._exit_on_error:
                raise LoadError(describe_failures(self.load_errors), StatusCode.INVALID_ARG) from (
                    next(iter(self.load_errors.values())).__cause__
                )
        except BaseException:
            self._unload_all(self._exit_timeout)
            raise
        self._live = self._host.ready = True
        return self

    def stop(self, timeout: float | None = None) -> None:
        """Answer what is queued, finalize every model, close the ports; may be called twice.

        ``timeout`` is in place of ``exit_timeout``, if given. As on the server, the ports go last:
        whoever is connected still gets an answer.
        """
        self._live = self._host.ready = False
        try:
            self._unload_all(self._exit_timeout if timeout is None else timeout)
        finally:
            while self._endpoints:
                self._endpoints.pop().stop()
            self._own_endpoint = None

    def _unload_all(self, timeout: float) -> None:
        try:
            self._repository.unload_all(timeout)
        finally:
            self._host.door.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def live(self) -> bool:
        """True between ``start`` and ``stop``."""
        return self._live

    def ready(self) -> bool:
        """True if requests can be served; with ``strict_readiness`` only if all models can.

        A model whose configuration cannot be read does not count, as on the server.
        """
        return self._live and (not self._strict_readiness or self._repository.all_ready())

    def metadata(self) -> dict[str, Any]:
        """Name, version and extensions, as ``GET /v2`` prints them."""
        return {
            "name": self.server_id,
            "version": IMITATED_VERSION,
            "extensions": list(EXTENSIONS),
        }

    def log(self) -> Log:
        """The server's log so far; ``str()`` prints it, ``records()`` lists it."""
        return self._log

    def metrics(self) -> str:
        """The metrics of the models, in Prometheus' text format, as the server prints them.

        ``prometheus_client.parser.text_string_to_metric_families`` reads it.
        """
        return self._host.own_metrics.text()

    def model(self, name: str, version: int = NEWEST) -> Model:
        """A handle of a model; nothing is looked up before it is used."""
        return Model(self, name, version)

    def models(self) -> dict[tuple[str, str], ModelState]:
        """Every model of the repositories and its state, by name and version."""
        return {(state.name, state.version): state for state in self._repository.index()}

    def load(self, name: str, parameters: LoadParameters | None = None) -> Model:
        """Load a model, or load it again if it has changed on disk.

        ``parameters`` are ``"config"``, another configuration as JSON, and files by their paths,
        such as ``"file:1/model.py"``, as bytes: then all files, none is taken from the repository.
        Needs ``model_control_mode="explicit"``. LoadError if it fails, and then what served before
        still serves.
        """
        self._check_explicit()
        try:
            self._repository.load(name, parameters)
        except ServerError as error:
            self.load_errors[name] = error
            raise
        self.load_errors.pop(name, None)
        return self.model(name)

    def unload(self, name: str) -> None:
        """Unload a model, and wait until it is gone; needs ``model_control_mode="explicit"``."""
        self._check_explicit()
        self._repository.unload(name)

    def serve(self, *, http_port: int = 8000, host: str = "127.0.0.1") -> HttpEndpoint:
        """Open the KServe v2 HTTP port; 0 takes a free one. ``.http_url`` says which.

        The endpoint closes with the server, or with its own ``stop()``.
        """
        # The one import that runs upwards: the method is part of the pinned face. On first use,
        # because the package must import without the serve extra.
        from triton_stub.endpoints.http import HttpEndpoint

        self._check_live()
        endpoint = HttpEndpoint(self, host=host, port=http_port).start()
        self._endpoints.append(endpoint)
        return endpoint

    @property
    def http_url(self) -> str:
        """``"host:port"`` of an HTTP endpoint of the server's own, opened at the first asking."""
        with self._opening:
            if self._own_endpoint is None:
                self._own_endpoint = self.serve(http_port=0)
            return self._own_endpoint.http_url

    def client(self) -> tritonclient.http.InferenceServerClient:
        """A real ``tritonclient.http`` client that talks to this server; close it after use."""
        from tritonclient.http import InferenceServerClient

        return InferenceServerClient(self.http_url)

    def find(self, name: str, version: int = NEWEST) -> ServedModel:
        """The loaded model behind a name; InferenceError in the server's words if there is none."""
        self._check_live()
        return self._repository.find(name, version)

    def ready_versions(self, name: str) -> list[int]:
        """Versions of a model that serve, in ascending order."""
        return [model.version for model in self._repository.ready(name)]

    def statistics(self, name: str = "", version: int = NEWEST) -> dict[str, Any]:
        """Statistics of one model, or of all: ``{"model_stats": […]}``.

        Without a version, every version that serves.
        """
        self._check_live()
        names = [name] if name else self._repository.loaded_names()
        models = [model for each in names for model in self._repository.ready(each)]
        # Neither the words nor the status are those of other requests for unknown models.
        if name and not models:
            raise InferenceError(
                f"requested model '{name}' is not available", StatusCode.INVALID_ARG
            )
        if version != NEWEST:
            models = [model for model in models if model.version == version]
        if name and not models:
            raise InferenceError(
                f"requested model version is not available for model '{name}'",
                StatusCode.INVALID_ARG,
            )
        return {
            "model_stats": [
                {"name": model.name, "version": str(model.version), **model.statistics.to_dict()}
                for model in models
            ]
        }

    def _check_live(self) -> None:
        if not self._live:
            raise InferenceError(
                "the server is not running; use `with Server(...) as server`, or call start()",
                StatusCode.UNAVAILABLE,
            )

    def _check_explicit(self) -> None:
        self._check_live()
        self._host.check_explicit()
