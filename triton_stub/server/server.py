"""``Server``: the face that tests, endpoints and the command line use.

Names follow NVIDIA's own in-process Python API (core ``python/tritonserver``).
"""

from __future__ import annotations

import contextlib
import math
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from triton_stub.core import trace_settings
from triton_stub.core.host import ServerHost
from triton_stub.core.log import Log
from triton_stub.core.repository.repository import (
    NEWEST,
    ModelState,
    Repository,
    describe_failures,
)
from triton_stub.errors import InferenceError, LoadError, ServerError, StatusCode
from triton_stub.server import about
from triton_stub.server.enums import MetricFormat, ModelControlMode
from triton_stub.server.index import ModelDictionary, names_of_models
from triton_stub.server.metrics import REGISTRY
from triton_stub.server.model import Model
from triton_stub.server.options import Options, unknown
from triton_stub.server.ports import Ports
from triton_stub.server.shared_memory import SharedMemory

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from triton_stub.core.model import ServedModel
    from triton_stub.core.repository.source import LoadParameters
    from triton_stub.core.scheduling.hold import Hold
    from triton_stub.endpoints.clients import ClientMaker
    from triton_stub.endpoints.grpc.endpoint import GrpcOptions
    from triton_stub.endpoints.serving import Serving


class Server:
    """Runs the models of one or more repositories in this process.

    ``with Server(model_repository="models") as server`` starts and stops it. It takes
    :class:`Options`, or their fields as keywords; a repository may also come first. What is wrong
    with the options is said at the start.
    """

    def __init__(
        self,
        options: Options | str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None,
        **keywords: Any,
    ) -> None:
        if wrong := unknown(keywords):
            raise TypeError(wrong)
        if isinstance(options, Options):
            if keywords:
                raise TypeError(f"got Options, and {', '.join(keywords)} besides; set them there")
        elif options is None:
            options = Options(**keywords)
        else:
            options = Options(options, **keywords)
        self.options = options
        self.load_errors: dict[str, ServerError] = {}
        self._log = Log(options.log_settings, echo=options.echo_log)
        self._closing = contextlib.ExitStack()
        self._ports = Ports(self)
        #: The regions that clients have registered, for their tensors.
        self.shared_memory = SharedMemory(allowed=options.allow_client_shm)
        # From the start to the end of stop; live only until stop begins.
        self._started = self._live = False

    def start(
        self,
        wait_until_ready: bool = False,  # noqa: FBT001, FBT002 - NVIDIA's signature
        polling_interval: float = 0.1,
        timeout: float | None = None,
    ) -> Self:
        """Load the models; LoadError, with every failing model named, if ``exit_on_error``.

        Models are loaded when this returns. ``wait_until_ready`` is for models that are not ready
        by their own ``is_ready``: UnavailableError after ``timeout`` seconds.
        """
        if self._started:
            raise ServerError("Server already started", StatusCode.INVALID_ARG)
        self.options.check()
        try:
            self._build()
        except BaseException:
            self._closing.close()
            raise
        try:
            self._load_first()
        except BaseException:
            self._unload_all(self.options.exit_timeout)
            raise
        self._started = self._live = self._host.ready = True
        deadline = None if timeout is None else time.monotonic() + timeout
        while wait_until_ready and not self.ready():
            if deadline is not None and time.monotonic() >= deadline:
                raise ServerError("Timeout before ready", StatusCode.UNAVAILABLE)
            time.sleep(polling_interval)
        return self

    def _build(self) -> None:
        options = self.options
        if options.echo_log is None and (severity := options.log_severity):
            echo = sys.stderr
            if options.log_file:
                file = Path(options.log_file).open("a", encoding="utf-8")  # noqa: SIM115
                echo = self._closing.enter_context(file)
            self._log.echo(echo, severity)
        self._host = ServerHost(
            self._log,
            load_timeout=options.load_timeout,
            response_timeout=options.response_timeout,
            exit_timeout=options.exit_timeout,
            explicit=options.control_mode is ModelControlMode.EXPLICIT,
            strict_model_config=options.strict_model_config,
            isolation=options.isolation,
            clock=options.clock,
            cache_config=options.cache_config,
            backend_directory=Path(options.backend_directory),
            rate_limited=options.rate_limited,
            metrics=options.metrics,
            cpu_metrics=options.cpu_metrics,
            metrics_config=options.metrics_configuration.get(""),
            trace_settings=trace_settings.from_config(options.trace_config),
        )
        mode: Any = options.control_mode.name.lower()
        self._repository = Repository(options.repositories(), self._host, mode=mode)

    def _load_first(self) -> None:
        self._repository.open()
        self._host.door.watch()
        explicit = self.options.control_mode is ModelControlMode.EXPLICIT
        self.load_errors = self._repository.start(self.options.startup_models if explicit else None)
        if self.load_errors and self.options.exit_on_error:
            raise LoadError(describe_failures(self.load_errors)) from (
                next(iter(self.load_errors.values())).__cause__
            )

    def stop(self, timeout: float | None = None) -> None:
        """Answer what is queued, finalize every model, close the ports; may be called twice.

        ``timeout`` is in place of ``exit_timeout``, if given. As on the server, the ports go last:
        whoever is connected still gets an answer.
        """
        if not self._started:
            return
        self._live = self._host.ready = False
        try:
            self._unload_all(self.options.exit_timeout if timeout is None else timeout)
        finally:
            self._ports.close()
            self.shared_memory.close()
            self._host.tracer.close()
            self._started = False

    def _unload_all(self, timeout: float) -> None:
        with self._closing:
            try:
                self._repository.unload_all(timeout)
            finally:
                self._host.door.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def live(self) -> bool:
        """True until the server stops; InvalidArgumentError unless it has started."""
        self._check_started()
        return self._live

    def ready(self) -> bool:
        """True if requests can be served; with ``strict_readiness`` only if all models can.

        A model whose configuration cannot be read does not count, as on the server.
        """
        self._check_started()
        return self._live and (not self.options.strict_readiness or self._repository.all_ready())

    def metadata(self) -> dict[str, Any]:
        """Name, version and extensions, as ``GET /v2`` prints them."""
        self._check_started()
        return about.metadata(self.options.server_id)

    def log(self) -> Log:
        """The server's log so far; ``str()`` prints it, ``records()`` lists it."""
        return self._log

    def metrics(self, metric_format: MetricFormat = MetricFormat.PROMETHEUS) -> str:
        """The metrics of the models, in Prometheus' text format, as the server prints them.

        ``prometheus_client.parser.text_string_to_metric_families`` reads it. Without
        ``Options.metrics`` no executions count, and nothing is told of the machine.
        """
        self._check_started()
        if metric_format is not MetricFormat.PROMETHEUS:
            raise TypeError(f"metric_format: expected MetricFormat, got {metric_format!r}")
        return self._host.own_metrics.text() + REGISTRY.text()

    def model(self, model_name: str, model_version: int = NEWEST) -> Model:
        """A handle of a model; nothing is looked up before it is used."""
        self._check_started()
        return Model(self, model_name, model_version)

    def hold(self, model_name: str, model_version: int = NEWEST) -> Hold:
        """Collect the requests to a model in its queue, and let them go all at once.

            with server.hold("model") as held:
                answers = [model.infer(inputs={"IN": array}) for array in arrays]
                held.wait(len(arrays))

        At the end of the block, or at ``held.release()``, they are executed as the server does with
        requests that are all in the queue at that moment. InferenceError if the model is held
        already, or is an ensemble, which has no queue.
        """
        return self.find(model_name, model_version).hold()

    def models(self, exclude_not_ready: bool = False) -> ModelDictionary:  # noqa: FBT001, FBT002
        """Every model of the repositories and its state, by name and version.

        A name alone is a key as well, of a handle without version. -1 is the version of a model
        of which no version was tried.
        """
        return ModelDictionary(self, self.index(only_ready=exclude_not_ready))

    def index(self, *, only_ready: bool = False) -> list[ModelState]:
        """The rows of the index, as ``POST /v2/repository/index`` prints them."""
        self._check_started()
        return self._repository.index(only_ready=only_ready)

    def progress(self) -> list[ModelState]:
        """The rows of the index, also while ``start`` loads the models; none before that."""
        repository: Repository | None = getattr(self, "_repository", None)
        return [] if repository is None else repository.index()

    def load(self, model_name: str, parameters: LoadParameters | None = None) -> Model:
        """Load a model, or load it again if it has changed on disk.

        ``parameters`` are ``"config"``, another configuration as JSON, and files by their paths,
        such as ``"file:1/model.py"``, as bytes: then all files, none is taken from the repository.
        Needs ``model_control_mode="explicit"``. LoadError if it fails, and then what served before
        still serves.
        """
        self._check_explicit()
        try:
            self._repository.load(model_name, parameters)
        except ServerError as error:
            self.load_errors[model_name] = error
            raise
        self.load_errors.pop(model_name, None)
        return self.model(model_name)

    def unload(
        self,
        model: str | Model,
        unload_dependents: bool = False,  # noqa: FBT001, FBT002 - NVIDIA's signature
        wait_until_unloaded: bool = False,  # noqa: FBT001, FBT002
        polling_interval: float = 0.1,
        timeout: float | None = None,
    ) -> None:
        """Unload a model; needs ``model_control_mode="explicit"``.

        It takes no more requests when this returns, but may still be at work, or in ``finalize``:
        ``wait_until_unloaded`` waits for that, ``timeout`` seconds at most.

        The ensembles that need it go with it. With ``unload_dependents`` an ensemble takes its
        steps along, save those that were loaded by name, or that another ensemble needs.
        """
        self._check_explicit()
        name = model if isinstance(model, str) else model.name
        waits = wait_until_unloaded and timeout is None
        self._repository.unload(name, unload_dependents=unload_dependents, wait=waits)
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        while wait_until_unloaded and time.monotonic() < deadline:
            states = {row.state for row in self.index() if row.name == name}
            if states <= {"UNAVAILABLE"}:
                break
            time.sleep(polling_interval)

    def poll_model_repository(self) -> None:
        """Load what is new or has changed on disk, and unload what is gone.

        Needs ``model_control_mode="poll"``. What fails is in ``load_errors``.
        """
        self._check_live()
        self.load_errors |= self._repository.poll()

    def register_model_repository(
        self,
        repository_path: str | os.PathLike[str],
        name_mapping: Mapping[str, str] | None = None,
    ) -> None:
        """Add a repository; needs ``model_control_mode="explicit"``.

        ``name_mapping`` gives models other names than those of their folders, which come first.
        """
        self._check_live()
        names = names_of_models(repository_path, name_mapping or {})
        self._repository.register(Path(repository_path), names)

    def unregister_model_repository(self, repository_path: str | os.PathLike[str]) -> None:
        """Forget a repository; what is loaded from it goes on."""
        self._check_live()
        self._repository.unregister(Path(repository_path))

    @property
    def tracer(self) -> trace_settings.Tracer:
        """Which requests are traced, and where to: of those that come over a port."""
        return self._host.tracer

    def serve(
        self,
        *,
        http_port: int | None = 8000,
        grpc_port: int | None = None,
        metrics_port: int | None = None,
        host: str = "127.0.0.1",
        grpc_options: GrpcOptions | None = None,
        http_max_input_size: int = 1 << 26,
        http_header_forward_pattern: str = "",
    ) -> Serving:
        """Open ports for KServe v2 over HTTP and gRPC, and for Prometheus to read the metrics.

        0 takes a free port, and None opens none; ``.http_url``, ``.grpc_url`` and ``.metrics_url``
        say which. They close with the server, or with their own ``stop()``. The size is how many
        bytes of JSON or decompressed data a request over HTTP may have. Headers in whose name the
        pattern is found become parameters of inference requests; ``grpc_options`` have their own.
        """
        self._check_live()
        return self._ports.open(
            host=host,
            http_port=http_port,
            grpc_port=grpc_port,
            metrics_port=metrics_port,
            grpc_options=grpc_options,
            http_max_input_size=http_max_input_size,
            http_header_forward_pattern=http_header_forward_pattern,
        )

    @property
    def http_url(self) -> str:
        """``"host:port"`` of an HTTP port of the server's own, opened at the first asking."""
        return self._ports.own("http").http_url

    @property
    def grpc_url(self) -> str:
        """``"host:port"`` of a gRPC port of the server's own, opened at the first asking."""
        return self._ports.own("grpc").grpc_url

    @property
    def client(self) -> ClientMaker:
        """``client("http" | "grpc" | "http.aio" | "grpc.aio")``: a real client of tritonclient.

        It talks to this server without a network port; close it after use.
        """
        return self._ports.client

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
        return about.statistics(self._repository, name, version)

    def _check_started(self) -> None:
        if not self._started:
            raise about.not_started()

    def _check_live(self) -> None:
        if not self._live:
            self._check_started()
            raise InferenceError("the server is stopping", StatusCode.UNAVAILABLE)

    def _check_explicit(self) -> None:
        self._check_live()
        self._host.check_explicit()
