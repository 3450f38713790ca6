"""``Options``: everything that can be chosen for a server, checked when it starts.

Names and defaults are those of NVIDIA's in-process API (core,
``python/tritonserver/_api/_server.py``); what only this library has follows at the end.
"""

from __future__ import annotations

import difflib
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import IntEnum
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

from triton_stub.core.clock import Clock
from triton_stub.core.host import Isolation
from triton_stub.core.log import LogSettings
from triton_stub.errors import InvalidArgumentError, UnsupportedFeatureError
from triton_stub.server.enums import InstanceGroupKind, LogFormat, ModelControlMode, RateLimitMode

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TextIO

    Folder = str | os.PathLike[str]

_Mode = TypeVar("_Mode", bound=IntEnum)

BACKENDS = "/opt/tritonserver/backends"
ISOLATIONS = get_args(Isolation)


@dataclass(slots=True)
class RateLimiterResource:
    """How much there is of a resource that instances take while they execute."""

    name: str
    count: int
    device: int


@dataclass(slots=True)
class ModelLoadDeviceLimit:
    """How much of a device's memory models may take, as a fraction."""

    kind: InstanceGroupKind
    device: int
    fraction: float


@dataclass(slots=True)
class Options:
    """The options of a server.

    Of ``startup_models`` the server takes notice with ``ModelControlMode.EXPLICIT`` alone.
    With ``exit_on_error=False`` models that fail to load are left out, and ``Server.load_errors``
    tells why; a repository that cannot be read is an error all the same, where the real server
    starts and never gets live. With ``strict_model_config`` models do not complete their
    configuration (``--disable-auto-complete-config``). ``cache_config`` turns response caches on,
    such as ``{"local": {"size": 1_000_000}}`` (bytes). ``backend_directory`` has backends that are
    written in Python, a folder each.

    The log goes to ``log_file``, or else to the standard error stream, as far as ``log_info``,
    ``log_warn``, ``log_error`` and ``log_verbose`` ask for it; ``Server.log()`` has it in any
    case. Modes may also be written as text: ``model_control_mode="explicit"``,
    ``rate_limiter_mode="execution_count"``.

    No effect have: what is for GPUs and for memory pools, the numbers of threads,
    ``model_load_retry_count``, ``cache_directory``, ``repo_agent_directory``, ``host_policies``,
    ``backend_configuration``, ``rate_limiter_resources``, how often metrics are read (whenever
    somebody looks), and of their configuration all but ``{"": {…}}`` with ``counter_latencies``,
    ``summary_latencies`` and ``summary_quantiles``.

    ``trace_config`` has the settings of ``--trace-config``, by their names: ``level`` (or several
    of them), ``rate``, ``count``, ``file`` and ``log-frequency``. Requests over a port are traced.

    ``allow_client_shm=False`` refuses regions of shared memory, as the real server since 26.04 does
    without ``--allow-client-shm=true``; before, it took them.

    No model keeps a program from going on, or from ending. In seconds: ``load_timeout`` for a model
    to load, ``response_timeout`` for each response to a request, both with None for ever, as on the
    server; ``exit_timeout`` for all models to finish what they do when they are unloaded. What
    takes longer is an error, or in the end a line of the log, that says where the model blocks.

    ``isolation="process"`` runs each instance in a process of its own; ``clock`` is a
    ``ManualClock`` if a test drives the time. ``echo_log`` prints all of the log as it grows.
    """

    model_repository: Folder | Sequence[Folder] = field(default_factory=list)
    server_id: str = "triton"
    model_control_mode: ModelControlMode | str = ModelControlMode.NONE
    startup_models: Sequence[str] = field(default_factory=list)
    strict_model_config: bool = False
    rate_limiter_mode: RateLimitMode | Literal["off", "execution_count"] = RateLimitMode.OFF
    rate_limiter_resources: Sequence[RateLimiterResource] = field(default_factory=list)
    pinned_memory_pool_size: int = 1 << 28
    cuda_memory_pool_sizes: Mapping[int, int] = field(default_factory=dict)
    cache_config: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    cache_directory: str = "/opt/tritonserver/caches"
    min_supported_compute_capability: float = 6.0
    exit_on_error: bool = True
    strict_readiness: bool = True
    exit_timeout: float = 30
    buffer_manager_thread_count: int = 0
    model_load_thread_count: int = 4
    model_load_retry_count: int = 0
    model_namespacing: bool = False
    enable_peer_access: bool = True
    log_file: str | None = None
    log_info: bool = False
    log_warn: bool = False
    log_error: bool = False
    log_format: LogFormat = LogFormat.DEFAULT
    log_verbose: int = 0
    metrics: bool = True
    gpu_metrics: bool = True
    cpu_metrics: bool = True
    metrics_interval: int = 2000
    backend_directory: Folder = BACKENDS
    repo_agent_directory: str = "/opt/tritonserver/repoagents"
    model_load_device_limits: Sequence[ModelLoadDeviceLimit] = field(default_factory=list)
    backend_configuration: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    host_policies: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    metrics_configuration: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    # Of this library alone.
    load_timeout: float | None = 600.0
    response_timeout: float | None = 300.0
    isolation: Isolation = "thread"
    clock: Clock | None = None
    echo_log: TextIO | None = None
    trace_config: Mapping[str, Any] = field(default_factory=dict)
    allow_client_shm: bool = True

    def check(self) -> None:
        """TypeError or InvalidArgumentError for what no server starts with."""
        if not isinstance(self.server_id, str):
            raise TypeError(f"server_id: expected a str, got {self.server_id!r}")
        self.repositories()
        _ = self.control_mode, self.rate_limited
        if isinstance(self.startup_models, str):
            raise TypeError(
                f"startup_models: expected a list of names, got the text {self.startup_models!r}"
            )
        if self.isolation not in ISOLATIONS:
            names = ", ".join(map(repr, ISOLATIONS))
            raise TypeError(f"isolation: expected one of {names}; got {self.isolation!r}")
        if self.clock is not None and not isinstance(self.clock, Clock):
            raise TypeError(
                "clock: expected a ManualClock, such as triton_stub.ManualClock(), or None; got "
                f"{self.clock!r}"
            )
        for name, config in {"": self.cache_config, **_items(self.cache_config)}.items():
            if not isinstance(config, Mapping):
                of = f" of '{name}'" if name else ""
                raise TypeError(
                    f"cache_config{of}: expected a mapping, such as "
                    f'{{"local": {{"size": 1_000_000}}}}; got {self.cache_config!r}'
                )
        for option in ("load_timeout", "response_timeout", "exit_timeout"):
            _check_seconds(option, getattr(self, option), for_ever=option != "exit_timeout")
        if self.model_namespacing:
            raise UnsupportedFeatureError(
                "model_namespacing: models of one name in several repositories are not imitated "
                "by triton_stub; rename them, or test with --triton-engine=native"
            )

    def repositories(self) -> list[Path]:
        """The model repositories, at least one."""
        given: Any = self.model_repository
        if given is None:
            raise InvalidArgumentError("Model repository must be specified.")
        if isinstance(given, str | os.PathLike) or not isinstance(given, Sequence):
            given = [given]
        for path in given:
            if not isinstance(path, str | os.PathLike):
                raise TypeError(f"model_repository: expected a str or a path, got {path!r}")
        if not given:
            raise InvalidArgumentError("--model-repository must be specified")
        return [Path(path) for path in given]

    @property
    def control_mode(self) -> ModelControlMode:
        """``model_control_mode`` as a member of the enumeration."""
        return _member(ModelControlMode, "model_control_mode", self.model_control_mode)

    @property
    def rate_limited(self) -> bool:
        """Whether ``rate_limiter_mode`` asks for limits."""
        given = self.rate_limiter_mode
        if given == "execution_count":  # as the command line spells it
            given = RateLimitMode.EXEC_COUNT
        return _member(RateLimitMode, "rate_limiter_mode", given) is RateLimitMode.EXEC_COUNT

    @property
    def log_settings(self) -> LogSettings:
        """What the logging extension tells at first."""
        return LogSettings(
            file=self.log_file or "",
            verbose_level=int(self.log_verbose),
            format="ISO8601" if self.log_format is LogFormat.ISO8601 else "default",
        )

    @property
    def log_severity(self) -> str:
        """The first letters of the lines that go to ``log_file``; the higher have the lower ones.

        Source: ``Options._cascade_log_levels``.
        """
        verbose = self.log_verbose > 0
        info = verbose or self.log_info
        warn = info or self.log_warn
        return "I" * info + "W" * warn + "E" * (warn or self.log_error)


def unknown(names: Iterable[str]) -> str:
    """What is wrong with options of these names; an empty text if nothing is."""
    known = [field.name for field in fields(Options)]
    told = []
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            told.append(f"{name!r} (did you mean {near[0]!r}?)" if near else repr(name))
    return f"a server has no option {', '.join(told)}; see triton_stub.Options" if told else ""


def _items(given: Any) -> dict[str, Any]:
    return dict(given) if isinstance(given, Mapping) else {}


def _check_seconds(option: str, given: object, *, for_ever: bool) -> None:
    if given is None and for_ever:
        return
    is_number = isinstance(given, Real) and not isinstance(given, bool)
    if not (is_number and 0 <= given <= threading.TIMEOUT_MAX):  # type: ignore[operator]
        none = ", or None for ever" if for_ever else ""
        raise TypeError(
            f"{option}: expected seconds, from 0 to {threading.TIMEOUT_MAX:g}{none}; got {given!r}"
        )


def _member(kind: type[_Mode], option: str, given: object) -> _Mode:
    if isinstance(given, kind):
        return given
    if isinstance(given, str) and given.upper() in kind.__members__:
        return kind[given.upper()]
    names = ", ".join(repr(name.lower()) for name in kind.__members__)
    raise TypeError(f"{option}: expected a {kind.__name__}, or one of {names}; got {given!r}")
