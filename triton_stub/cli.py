"""The command line: ``triton-stub serve REPOSITORY…``.

Flags have tritonserver's names where they mean the same.
"""

from __future__ import annotations

import argparse
import signal
import sys
import textwrap
import threading
from typing import TYPE_CHECKING

from triton_stub.errors import ServerError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from triton_stub.server import Server

_FALSE = frozenset({"false", "0", "no", "off"})
_TRUE = frozenset({"true", "1", "yes", "on"})


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    arguments = _parser().parse_args(argv)
    try:
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
    serve.add_argument("--http-port", type=int, default=8000, help="0 takes a free port")
    serve.add_argument("--model-control-mode", choices=("none", "explicit"), default="none")
    serve.add_argument("--load-model", action="append", default=[], metavar="NAME")
    serve.add_argument(
        "--exit-on-error", type=_boolean, default=False, metavar="true|false",
        help="stop when a model fails to load (default: false, unlike tritonserver)",
    )  # fmt: skip
    serve.add_argument("--strict-readiness", type=_boolean, default=True, metavar="true|false")
    serve.add_argument("--log-verbose", type=int, default=0, metavar="LEVEL")
    return parser


def _boolean(text: str) -> bool:
    if text.lower() not in _TRUE | _FALSE:
        raise argparse.ArgumentTypeError(f"expected true or false, got {text!r}")
    return text.lower() in _TRUE


def _serve(arguments: argparse.Namespace) -> int:
    from triton_stub.server import Server  # noqa: PLC0415 - `--help` need not load numpy

    repositories = [*arguments.repository, *arguments.model_repository]
    if not repositories:
        raise ValueError("no model repository given; for example: triton-stub serve models")
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    server = Server(
        repositories,
        model_control_mode=arguments.model_control_mode,
        startup_models=arguments.load_model,
        exit_on_error=arguments.exit_on_error,
        strict_readiness=arguments.strict_readiness,
        log_verbose=arguments.log_verbose > 0,
        echo_log=sys.stderr,
    )
    print("loading models, Ctrl-C stops the server", flush=True)
    with server:
        print(_table(server), flush=True)
        for name, error in server.load_errors.items():
            print(_explain(name, error), file=sys.stderr, flush=True)
        endpoint = server.serve(http_port=arguments.http_port, host=arguments.http_address)
        print(f"Started HTTPService at {endpoint.http_url}", flush=True)
        stop.wait()
        print("stopping: requests in flight are answered first", flush=True)
    return 0


def _table(server: Server) -> str:
    """The start-up table, as the server draws it."""
    # A model whose configuration cannot be read has no version to show.
    rows = [("Model", "Version", "Status")] + [
        (state.name, state.version or "-", state.state)
        for state in server.models().values()
        if state.version or state.name in server.load_errors
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rule = "+" + "+".join("-" * (width + 2) for width in widths) + "+"
    header, *body = (_row(cells, widths) for cells in rows)
    return "\n".join([rule, header, rule, *body, rule])


def _row(cells: Iterable[str], widths: Iterable[int]) -> str:
    padded = (f" {cell:<{width}} " for cell, width in zip(cells, widths, strict=True))
    return "|" + "|".join(padded) + "|"


def _explain(name: str, error: ServerError) -> str:
    """Which model, which file, what is wrong, what to do."""
    what = textwrap.indent(error.message.rstrip("; \n"), "  ")
    return f"\nmodel '{name}' is not served:\n{what}\n  what to do: {_advice(error)}\n"


def _advice(error: ServerError) -> str:
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    if isinstance(cause, ModuleNotFoundError):
        return (
            f"install the package that has the module {cause.name!r} into the environment of "
            f"this command ({sys.executable}), or correct the import"
        )
    if isinstance(cause, SyntaxError):
        return f"correct {cause.filename}, line {cause.lineno}"
    if isinstance(cause, ServerError):
        return "correct what the text above names and start again"
    return (
        "the exception comes out of the model's own code, at the first line under 'At:'; "
        "correct it there and start again"
    )


if __name__ == "__main__":
    sys.exit(main())
