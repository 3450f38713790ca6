"""The options of ``triton-stub serve``, and the server that they ask for.

Names and words are tritonserver's (server ``src/command_line_parser.cc``, 26.08).
"""

from __future__ import annotations

import argparse
import functools
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from triton_stub.cli import flags, values
from triton_stub.cli.parser import POSITIONALS
from triton_stub.cli.ports import PROTOCOLS
from triton_stub.endpoints.http.bodies import MAX_INPUT_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from triton_stub.cli.parser import Parser
    from triton_stub.server import Server

_BOOLEAN = "true|false"
_DEFAULT_PORTS = {"http": 8000, "grpc": 8001, "metrics": 8002}
# What the server reads with a mode before it, and what without (``SetGlobalTraceArgs``).
_OF_TRACES = frozenset({"rate", "level", "mode", "count"})
_OF_TRITON_TRACES = frozenset({"file", "log-frequency"})
# As ``GrpcOptions`` has them.
_OF_GRPC = {
    "infer-response-compression-level": values.choice(
        "--grpc_infer_response_compression_level", "none", "low", "medium", "high"
    ),
    "keepalive-time": values.integer,
    "keepalive-timeout": values.integer,
    "keepalive-permit-without-calls": values.boolean,
    "http2-max-pings-without-data": values.integer,
    "http2-min-recv-ping-interval-without-data": values.integer,
    "http2-max-ping-strikes": values.integer,
    "max-connection-age": values.integer,
    "max-connection-age-grace": values.integer,
    "header-forward-pattern": values.pattern,
}
# Deprecated flag → mode and setting of --trace-config.
_OLD_TRACE_FLAGS = {
    "--trace-file": ("triton", "file"),
    "--trace-level": ("", "level"),
    "--trace-rate": ("", "rate"),
    "--trace-count": ("", "count"),
    "--trace-log-frequency": ("triton", "log-frequency"),
}


def add_options(parser: Parser) -> None:
    """Add all options of ``serve`` to its parser."""
    parser.add_argument(
        POSITIONALS, nargs="*", metavar="REPOSITORY", help="folder of models, or several of them"
    )
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors and the log")
    _add_models(parser)
    _add_ports(parser)
    _add_log(parser)
    _add_settings(parser)
    _add_limits(parser)
    flags.add_flags(parser)


def _add_models(parser: Parser) -> None:
    models = parser.add_argument_group("models")
    models.add_argument(
        *("--model-repository", "--model-store"), action="append", default=[], metavar="PATH",
        help="the same as REPOSITORY; may be repeated",
    )  # fmt: skip
    parser.value(
        models, "--model-control-mode",
        values.choice("--model-control-mode", "none", "poll", "explicit"),
        default="none", metavar="none|poll|explicit",
    )  # fmt: skip
    models.add_argument(
        "--load-model", action="append", default=[], metavar="NAME",
        help="with --model-control-mode=explicit: load this at the start; '*' are all models",
    )  # fmt: skip
    parser.value(
        models, "--repository-poll-secs", values.seconds, default=15.0, metavar="SECONDS",
        help="how often to look for changes with --model-control-mode=poll (default: 15)",
    )  # fmt: skip
    parser.value(
        models, "--exit-on-error", values.boolean, default=False, metavar=_BOOLEAN,
        help="stop when a model fails to load (default: false, unlike tritonserver)",
    )  # fmt: skip
    parser.value(
        models, "--strict-readiness", values.boolean, default=True, metavar=_BOOLEAN,
        help="ready only if all models are (default: true)",
    )  # fmt: skip
    models.add_argument(
        "--disable-auto-complete-config", action="store_true",
        help="config.pbtxt is all there is: auto_complete_config is not called",
    )  # fmt: skip
    parser.value(models, "--strict-model-config", values.boolean, help=argparse.SUPPRESS)
    models.add_argument(
        "--isolation", choices=("thread", "process"), default="thread",
        help="where instances of models run (default: thread; tritonserver has processes)",
    )  # fmt: skip
    models.add_argument(
        "--backend-directory", default="/opt/tritonserver/backends", metavar="PATH",
        help="where backends that are written in Python are, a folder each",
    )  # fmt: skip


def _add_ports(parser: Parser) -> None:
    ports = parser.add_argument_group(
        "ports", "Only this machine is served, unless an address says more, such as 0.0.0.0."
    )
    for name, title in PROTOCOLS.items():
        parser.value(
            ports, f"--{name}-port", values.port, default=_DEFAULT_PORTS[name], metavar="PORT",
            help=f"of {title}; 0 takes a free one (default: {_DEFAULT_PORTS[name]})",
        )  # fmt: skip
        like = ": that of --http-address" if name == "metrics" else ": 127.0.0.1"
        ports.add_argument(
            f"--{name}-address", default=None if name == "metrics" else "127.0.0.1",
            metavar="ADDRESS", help=f"(default{like})",
        )  # fmt: skip
        parser.value(
            ports, f"--allow-{name}", values.boolean, default=True, metavar=_BOOLEAN,
            help=f"serve {title} (default: true)",
        )  # fmt: skip
    parser.value(ports, "--allow-cpu-metrics", values.boolean, default=True, metavar=_BOOLEAN)
    parser.value(
        ports, "--allow-client-shm", values.boolean, default=True, metavar=_BOOLEAN,
        help="clients may register shared memory (default: true; tritonserver since 26.04: false)",
    )  # fmt: skip
    parser.value(
        ports, "--http-max-input-size", values.size, default=MAX_INPUT_SIZE, metavar="BYTES",
        help="of a request, also when it is decompressed (default: 67108864)",
    )  # fmt: skip
    parser.value(
        ports, "--http-header-forward-pattern", values.pattern, default="", metavar="REGEX",
        help="headers of such names become parameters of requests; there is a --grpc-… as well",
    )  # fmt: skip
    for name, convert in _OF_GRPC.items():
        parser.value(ports, f"--grpc-{name}", convert, help=argparse.SUPPRESS)


def _add_log(parser: Parser) -> None:
    log = parser.add_argument_group("log")
    parser.value(log, "--log-verbose", values.verbosity, default=0, metavar="LEVEL")
    for level in ("info", "warning", "error"):
        parser.value(log, f"--log-{level}", values.boolean, default=True, metavar=_BOOLEAN)
    parser.value(
        log, "--log-format", values.choice("--log-format", "default", "ISO8601", fold=False),
        default="default", metavar="default|ISO8601",
    )  # fmt: skip
    log.add_argument(
        "--log-file", metavar="PATH", help="where the log goes (default: the error stream)"
    )


def _add_settings(parser: Parser) -> None:
    settings = parser.add_argument_group("settings")
    settings.add_argument("--id", default="triton", metavar="NAME", help="name of this server")
    parser.value(
        settings, "--cache-config", values.cache_setting, action="append", default=[],
        metavar="CACHE,SETTING=VALUE", help="for example local,size=1048576 (bytes)",
    )  # fmt: skip
    parser.value(
        settings, "--response-cache-byte-size", values.integer, help=argparse.SUPPRESS
    )  # fmt: skip
    parser.value(
        settings, "--metrics-config", values.metrics_setting, action="append", default=[],
        metavar="SETTING=VALUE", help="for example summary_latencies=true",
    )  # fmt: skip
    parser.value(
        settings, "--trace-config", values.trace_setting, action="append", default=[],
        metavar="[triton,]SETTING=VALUE", help="for example triton,file=traces, or rate=10",
    )  # fmt: skip
    for flag, (mode, name) in _OLD_TRACE_FLAGS.items():
        settings.add_argument(
            flag, dest="old_trace_config", action="append", default=[], help=argparse.SUPPRESS,
            type=functools.partial(_old_trace_setting, mode, name),
        )  # fmt: skip
    parser.value(
        settings, "--rate-limit", values.choice("--rate-limit", "execution_count", "off"),
        default="off", metavar="execution_count|off",
    )  # fmt: skip


def _add_limits(parser: Parser) -> None:
    limits = parser.add_argument_group("limits")
    parser.value(
        limits, "--load-timeout-secs", values.seconds, default=600.0, metavar="SECONDS",
        help="how long a model may take to load (default: 600; tritonserver has no limit)",
    )  # fmt: skip
    parser.value(
        limits, "--response-timeout-secs", values.seconds, default=300.0, metavar="SECONDS",
        help="how long a response may take (default: 300; tritonserver has no limit)",
    )  # fmt: skip
    parser.value(
        limits, "--exit-timeout-secs", values.seconds, default=30.0, metavar="SECONDS",
        help="how long models may take to finish their work when the server stops (default: 30)",
    )  # fmt: skip


def check(arguments: Any) -> None:
    """Complete the arguments; exits with code 2 and what is wrong with them together."""
    error = arguments.parser.error
    arguments.notes = [*arguments.notes]
    arguments.repositories = [*arguments.positionals, *arguments.model_repository]
    if not arguments.repositories:
        error("no model repository given; for example: triton-stub serve models")
    if arguments.load_model and arguments.model_control_mode != "explicit":
        error(
            "Error: Use of '--load-model' requires setting '--model-control-mode=explicit' as well."
        )
    if arguments.response_cache_byte_size is not None and arguments.cache_config:
        error(
            "Error: Incompatible flags --response-cache-byte-size and --cache-config both "
            "provided. Please provide one or the other."
        )
    arguments.notes.extend(_deprecated(arguments))
    if arguments.metrics_address is None:
        arguments.metrics_address = arguments.http_address
    try:
        arguments.traces = _traces(arguments)
    except ValueError as wrong:
        error(str(wrong))


def server_of(arguments: Any) -> Server:
    """The server that was asked for, not started; its log is not printed yet."""
    from triton_stub.server import LogFormat, Server  # `--help` need not load numpy

    caches: dict[str, dict[str, str]] = {}
    if (byte_size := arguments.response_cache_byte_size) is not None:
        caches["local"] = {"size": str(byte_size)}
    for cache, setting, value in arguments.cache_config:
        caches.setdefault(cache, {})[setting] = value
    server = Server(
        arguments.repositories,
        server_id=arguments.id,
        model_control_mode=arguments.model_control_mode,
        startup_models=arguments.load_model,
        exit_on_error=arguments.exit_on_error,
        strict_model_config=(
            arguments.disable_auto_complete_config or bool(arguments.strict_model_config)
        ),
        strict_readiness=arguments.strict_readiness,
        load_timeout=arguments.load_timeout_secs,
        response_timeout=arguments.response_timeout_secs,
        exit_timeout=arguments.exit_timeout_secs,
        isolation=arguments.isolation,
        cache_config=caches,
        rate_limiter_mode=arguments.rate_limit,
        trace_config=arguments.traces,
        metrics=arguments.allow_metrics,
        cpu_metrics=arguments.allow_cpu_metrics,
        metrics_configuration={"": dict(arguments.metrics_config)},
        backend_directory=arguments.backend_directory,
        allow_client_shm=arguments.allow_client_shm,
        log_verbose=arguments.log_verbose,
        log_format=LogFormat[arguments.log_format.upper()],
    )
    log = server.log()
    log.settings = replace(
        log.settings,
        file=arguments.log_file or "",
        info=arguments.log_info,
        warning=arguments.log_warning,
        error=arguments.log_error,
    )
    return server


def grpc_options_of(arguments: Any) -> dict[str, Any]:
    """Keywords of ``GrpcOptions``, as far as flags say something."""
    names = [name.replace("-", "_") for name in _OF_GRPC]
    given = {name: getattr(arguments, f"grpc_{name}") for name in names}
    return {name: value for name, value in given.items() if value is not None}


def _deprecated(arguments: Any) -> Iterator[str]:
    """A note for each flag that is, and what to use."""
    if arguments.strict_model_config is not None:
        yield "--strict-model-config is deprecated; use --disable-auto-complete-config"
    if (size := arguments.response_cache_byte_size) is not None:
        yield f"--response-cache-byte-size is deprecated; use --cache-config=local,size={size}"
    for mode, name, value in arguments.old_trace_config:
        setting = f"{mode},{name}" if mode else name
        yield f"--trace-{name} is deprecated; use --trace-config {setting}={value}"


def _traces(arguments: Any) -> dict[str, Any]:
    """Each setting of traces; what --trace-config says counts more than the deprecated flags."""
    given = [*arguments.old_trace_config, *arguments.trace_config]
    read: dict[str, Any] = {}
    levels: list[str] = []
    for mode, name, value in given:
        spelled = f"{mode},{name}" if mode else name
        if name not in (_OF_TRITON_TRACES if mode else _OF_TRACES) or mode == "opentelemetry":
            arguments.notes.append(f"--trace-config {spelled}={value} has no effect on traces")
            continue
        try:
            read[name] = _trace_value(name, value)
        except ValueError as error:
            raise ValueError(f'Bad option: "--trace-config {spelled}".\n{error}') from None
        if name == "level":
            levels.append(read[name])
    if read.get("mode") == "opentelemetry":
        raise ValueError(
            "--trace-config mode=opentelemetry is refused: traces are written to a file, with "
            "--trace-config triton,file=PATH"
        )
    if levels:
        read["level"] = "OFF" if "OFF" in levels else levels
    return read


def _old_trace_setting(mode: str, name: str, value: str) -> tuple[str, str, str]:
    return mode, name, value


def _trace_value(name: str, value: str) -> Any:
    if name == "level":
        return values.trace_level(value)
    if name == "mode":
        return values.trace_mode(value)
    return value if name == "file" else values.integer(value)
