"""The command line: ``triton-stub serve REPOSITORY…``.

Flags have tritonserver's names where they mean the same.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import textwrap
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from triton_stub.errors import ServerError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import TextIO

    from triton_stub.server import Server

_LAST_PORT = 65535
_FALSE = frozenset({"false", "0", "no", "off"})
_TRUE = frozenset({"true", "1", "yes", "on"})


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    arguments = _parser().parse_args(argv)
    try:
        with _interruptible():
            return _serve(arguments)
    except (ServerError, ValueError) as error:
        print(f"triton-stub: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="triton-stub", description="Run Triton Python-backend models without Triton."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser(
        "serve",
        help="serve model repositories over KServe v2 HTTP",
        description="Serve model repositories over KServe v2 HTTP, as tritonserver does. "
        "A model that fails to load is explained, and the others are served.",
    )
    serve.add_argument("repository", nargs="*", help="model repository (may be repeated)")
    serve.add_argument("--model-repository", action="append", default=[], metavar="PATH")
    serve.add_argument("--http-address", default="127.0.0.1", help="default: loopback only")
    serve.add_argument("--http-port", type=_port, default=8000, help="0 takes a free port")
    serve.add_argument(
        "--metrics-port", type=_port, metavar="PORT",
        help="serve metrics for Prometheus there (default: do not; tritonserver: 8002)",
    )  # fmt: skip
    serve.add_argument("--model-control-mode", choices=("none", "poll", "explicit"), default="none")
    serve.add_argument(
        "--repository-poll-secs", type=float, default=15.0, metavar="SECONDS",
        help="how often to look for changes with --model-control-mode=poll (default: 15)",
    )  # fmt: skip
    serve.add_argument(
        "--load-model", action="append", default=[], metavar="NAME",
        help="with --model-control-mode=explicit: load this at the start; '*' are all models",
    )  # fmt: skip
    serve.add_argument(
        "--exit-on-error", type=_boolean, default=False, metavar="true|false",
        help="stop when a model fails to load (default: false, unlike tritonserver)",
    )  # fmt: skip
    serve.add_argument(
        "--disable-auto-complete-config", action="store_true",
        help="config.pbtxt is all there is: auto_complete_config is not called",
    )  # fmt: skip
    serve.add_argument("--strict-readiness", type=_boolean, default=True, metavar="true|false")
    serve.add_argument(
        "--load-timeout-secs", type=_seconds, default=600.0, metavar="SECONDS",
        help="how long a model may take to load (default: 600; tritonserver has no limit)",
    )  # fmt: skip
    serve.add_argument(
        "--response-timeout-secs", type=_seconds, default=300.0, metavar="SECONDS",
        help="how long a response may take (default: 300; tritonserver has no limit)",
    )  # fmt: skip
    serve.add_argument(
        "--exit-timeout-secs", type=_seconds, default=30.0, metavar="SECONDS",
        help="how long models may take to finish their work when the server stops",
    )  # fmt: skip
    serve.add_argument(
        "--isolation", choices=("thread", "process"), default="thread",
        help="where instances of models run (default: thread; tritonserver has processes)",
    )  # fmt: skip
    serve.add_argument(
        "--cache-config", action="append", default=[], type=_cache_setting,
        metavar="CACHE,SETTING=VALUE", help="for example local,size=1048576 (bytes)",
    )  # fmt: skip
    serve.add_argument("--rate-limit", choices=("execution_count", "off"), default="off")
    serve.add_argument(
        "--backend-directory", default="/opt/tritonserver/backends", metavar="PATH",
        help="where backends that are written in Python are, a folder each",
    )  # fmt: skip
    serve.add_argument(
        "--trace-config", action="append", default=[], type=_trace_setting,
        metavar="[triton,]SETTING=VALUE", help="for example triton,file=traces, or rate=10",
    )  # fmt: skip
    _add_log_options(serve)
    return parser


def _add_log_options(serve: argparse.ArgumentParser) -> None:
    serve.add_argument("--log-verbose", type=int, default=0, metavar="LEVEL")
    for level in ("info", "warning", "error"):
        serve.add_argument(f"--log-{level}", type=_boolean, default=True, metavar="true|false")
    serve.add_argument("--log-format", choices=("default", "ISO8601"), default="default")
    serve.add_argument(
        "--log-file", metavar="PATH", help="where the log goes (default: the error stream)"
    )


def _port(text: str) -> int:
    # Said here, and not when all models are loaded.
    if not text.isdecimal() or int(text) > _LAST_PORT:
        raise argparse.ArgumentTypeError(
            f"expected 1 to {_LAST_PORT}, or 0 for a free port; got {text!r}"
        )
    return int(text)


def _seconds(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 <= (seconds := float(text)) <= threading.TIMEOUT_MAX:
            return seconds
    raise argparse.ArgumentTypeError(f"expected a number of seconds; got {text!r}")


def _cache_setting(text: str) -> tuple[str, str, str]:
    cache, comma, setting = text.partition(",")
    name, equals, value = setting.partition("=")
    if not (cache and comma and name and equals):
        raise argparse.ArgumentTypeError(
            f"expected CACHE,SETTING=VALUE, such as local,size=1048576; got {text!r}"
        )
    return cache, name, value


def _trace_setting(text: str) -> tuple[str, str]:
    mode, comma, rest = text.partition(",")
    name, equals, value = (rest if comma else text).partition("=")
    if not (name and equals and value and (mode == "triton" or not comma)):
        raise argparse.ArgumentTypeError(
            f"expected [triton,]SETTING=VALUE, such as triton,file=traces; got {text!r}"
        )
    return name, value


def _boolean(text: str) -> bool:
    if text.lower() not in _TRUE | _FALSE:
        raise argparse.ArgumentTypeError(f"expected true or false, got {text!r}")
    return text.lower() in _TRUE


def _serve(arguments: argparse.Namespace) -> int:
    from triton_stub.server import LogFormat, Server  # `--help` need not load numpy

    repositories = [*arguments.repository, *arguments.model_repository]
    if not repositories:
        raise ValueError("no model repository given; for example: triton-stub serve models")
    explicit = arguments.model_control_mode == "explicit"
    if arguments.load_model and not explicit:
        raise ValueError(  # in tritonserver's words (server ``src/command_line_parser.cc``)
            "Error: Use of '--load-model' requires setting '--model-control-mode=explicit' as well."
        )
    caches: dict[str, dict[str, str]] = {}
    for cache, setting, value in arguments.cache_config:
        caches.setdefault(cache, {})[setting] = value
    server = Server(
        repositories,
        model_control_mode=arguments.model_control_mode,
        startup_models=arguments.load_model,
        exit_on_error=arguments.exit_on_error,
        strict_model_config=arguments.disable_auto_complete_config,
        strict_readiness=arguments.strict_readiness,
        load_timeout=arguments.load_timeout_secs,
        response_timeout=arguments.response_timeout_secs,
        exit_timeout=arguments.exit_timeout_secs,
        isolation=arguments.isolation,
        cache_config=caches,
        rate_limiter_mode=arguments.rate_limit,
        trace_config=_trace_config(arguments.trace_config),
        backend_directory=arguments.backend_directory,
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
    with contextlib.ExitStack() as closing:
        log.echo(*_log_output(arguments, closing))
        return _run(server, arguments)


def _trace_config(settings: list[tuple[str, str]]) -> dict[str, object]:
    """Each setting that was given, and all levels."""
    config: dict[str, object] = dict(settings)
    if levels := [value for name, value in settings if name == "level"]:
        config["level"] = levels
    return config


def _log_output(arguments: argparse.Namespace, closing: contextlib.ExitStack) -> tuple[TextIO, str]:
    """Where the log goes, and the first letters of the lines that go there."""
    levels = (arguments.log_info, arguments.log_warning, arguments.log_error)
    letters = "".join(letter for letter, wanted in zip("IWE", levels, strict=True) if wanted)
    if not arguments.log_file:
        return sys.stderr, letters
    return closing.enter_context(Path(arguments.log_file).open("a", encoding="utf-8")), letters


def _run(server: Server, arguments: argparse.Namespace) -> int:
    print("loading models, Ctrl-C stops the server", flush=True)
    try:
        with server:
            print(_table(server), flush=True)
            for name, error in server.load_errors.items():
                print(_explain(name, error), file=sys.stderr, flush=True)
            endpoint = server.serve(
                http_port=arguments.http_port,
                metrics_port=arguments.metrics_port,
                host=arguments.http_address,
            )
            if endpoint.metrics_url is not None:
                print(f"Started Metrics Service at {endpoint.metrics_url}", flush=True)
            # Whoever reads this may send the signal at once.
            with contextlib.suppress(KeyboardInterrupt):
                print(f"Started HTTPService at {endpoint.http_url}", flush=True)
                _follow(server, arguments)
            print(
                "stopping: requests in flight are answered first; Ctrl-C ends it at once",
                flush=True,
            )
    except KeyboardInterrupt:
        print("triton-stub: stopped while the models were loading", file=sys.stderr)
        return 1
    return 0


def _follow(server: Server, arguments: argparse.Namespace) -> NoReturn:
    """Until a signal: nothing, or look for changes of the repositories."""
    polls = arguments.model_control_mode == "poll" and arguments.repository_poll_secs > 0
    never = threading.Event()
    while True:
        never.wait(arguments.repository_poll_secs if polls else None)
        server.load_errors.clear()
        try:
            server.poll_model_repository()
        except ServerError as problem:  # such as a repository that is gone for a while
            print(f"triton-stub: {problem}", file=sys.stderr, flush=True)
        for name, error in server.load_errors.items():
            print(_explain(name, error), file=sys.stderr, flush=True)


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """SIGINT and SIGTERM raise KeyboardInterrupt; a second one ends the process at once."""
    numbers = (signal.SIGINT, signal.SIGTERM)

    def interrupt(*_: object) -> NoReturn:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _table(server: Server) -> str:
    """The start-up table, as the server draws it; it also has the models that never got there."""
    rows = [(state.name, state.version, state.state) for state in server.index() if state.version]
    named = {name for name, *_ in rows}
    rows += [(name, "-", "UNAVAILABLE") for name in server.load_errors if name not in named]
    header = ("Model", "Version", "Status")
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    rule = "+" + "+".join("-" * (width + 2) for width in widths) + "+"
    lines = [_row(cells, widths) for cells in (header, *sorted(rows))]
    return "\n".join([rule, lines[0], rule, *lines[1:], rule])


def _row(cells: Iterable[str], widths: Iterable[int]) -> str:
    padded = (f" {cell:<{width}} " for cell, width in zip(cells, widths, strict=True))
    return "|" + "|".join(padded) + "|"


def _explain(name: str, error: ServerError) -> str:
    """Which model, which file, what is wrong, what to do."""
    files = "".join(f"  {note}\n" for note in getattr(error, "__notes__", ()))
    what = textwrap.indent(error.message.rstrip("; \n"), "  ")
    return f"\nmodel '{name}' is not served:\n{files}{what}\n  what to do: {_advice(error)}"


def _advice(error: ServerError) -> str:
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    if isinstance(cause, ServerError):
        return "correct what the text above names and start again"
    if isinstance(cause, ModuleNotFoundError):
        return (
            f"install the package that has the module {cause.name!r} into the environment of "
            f"this command ({sys.executable}), or correct the import"
        )
    if isinstance(cause, SyntaxError):
        return f"correct {cause.filename}, line {cause.lineno}"
    if isinstance(cause, AttributeError) and cause.name == "TritonPythonModel":
        return "define `class TritonPythonModel` in that file"
    if "\nAt:\n" in error.message:
        return (
            "what the error itself says; else correct the model at the first line under 'At:', "
            "and start again"
        )
    return "correct the model's class in that file and start again"


if __name__ == "__main__":
    sys.exit(main())
