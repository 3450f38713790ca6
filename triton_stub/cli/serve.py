"""``triton-stub serve``: a server that runs until a signal comes."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from triton_stub.cli import explanation, options, ports, summary
from triton_stub.cli.parser import add_command
from triton_stub.cli.progress import Progress
from triton_stub.errors import LoadError, ServerError, StatusCode

if TYPE_CHECKING:
    from typing import TextIO

    from triton_stub.server import Server

_SERVICES = {"grpc": "GRPCInferenceService", "http": "HTTPService", "metrics": "Metrics Service"}


def add_to(commands: Any) -> None:
    """Add the command to a parser's."""
    parser = add_command(
        commands,
        "serve",
        run,
        usage="[OPTION ...] REPOSITORY ...",
        about="serve model repositories over HTTP and gRPC",
        description="Serve model repositories over KServe v2 HTTP and gRPC, as tritonserver does. "
        "A model that\nfails to load is explained, and the others are served.",
    )
    parser.epilog = (
        "tritonserver's other flags are accepted where they only tune it, with a note, and\n"
        "refused where they ask for what is not imitated."
    )
    options.add_options(parser)


def run(arguments: Any) -> int:
    """Serve until a signal; 0, or 1 if it comes while the models load."""
    options.check(arguments)
    ports.check(arguments)
    server = options.server_of(arguments)
    with contextlib.ExitStack() as closing:
        out = sys.stdout
        if arguments.quiet:
            out = closing.enter_context(Path(os.devnull).open("w", encoding="utf-8"))
        for note in arguments.notes:
            print(f"note: {note}", file=out, flush=True)
        progress = Progress(server.progress, out)
        log, letters = _log_output(arguments, closing)
        server.log().echo(progress.over(log), letters)
        return _run(server, arguments, progress, out)


def _log_output(arguments: Any, closing: contextlib.ExitStack) -> tuple[TextIO, str]:
    """Where the log goes, and the first letters of the lines that go there."""
    levels = (arguments.log_info, arguments.log_warning, arguments.log_error)
    letters = "".join(letter for letter, wanted in zip("IWE", levels, strict=True) if wanted)
    if not arguments.log_file:
        return sys.stderr, letters
    try:
        return closing.enter_context(Path(arguments.log_file).open("a", encoding="utf-8")), letters
    except OSError as error:
        text = f"--log-file {arguments.log_file}: {error.strerror}"
        raise ServerError(text, StatusCode.INVALID_ARG) from error


def _run(server: Server, arguments: Any, progress: Progress, out: TextIO) -> int:
    print("loading models, Ctrl-C stops the server", file=out, flush=True)
    try:
        with contextlib.ExitStack() as stopping:
            try:
                with progress.shown():
                    stopping.enter_context(server)
            except LoadError:
                explanation.print_failures(server.load_errors)
                raise
            columns = shutil.get_terminal_size().columns if out.isatty() else 0
            print(summary.models(server, columns), file=out, flush=True)
            print(summary.options(server, columns), file=out, flush=True)
            explanation.print_failures(server.load_errors)
            if not (server.index() or server.load_errors):
                print(_no_model(server), file=out, flush=True)
            # Whoever reads of a port, here or in the log, may send the signal at once.
            with contextlib.suppress(KeyboardInterrupt):
                for service, url in _open(server, arguments).items():
                    print(f"Started {service} at {url}", file=out, flush=True)
                _follow(server, arguments)
            print(
                "stopping: requests in flight are answered first; Ctrl-C ends it at once",
                file=out,
                flush=True,
            )
    except KeyboardInterrupt:
        print("triton-stub: stopped while the models were loading", file=sys.stderr)
        return 1
    return 0


def _no_model(server: Server) -> str:
    where = ", ".join(map(str, server.options.repositories()))
    return (
        f"note: there is no model in {where}; expected a folder for each, such as add_sub with "
        "add_sub/config.pbtxt and add_sub/1/model.py"
    )


def _open(server: Server, arguments: Any) -> dict[str, str]:
    """Open the ports; the URL of each service, in the server's order."""
    numbers: dict[str, dict[str, int]] = {}
    for name, address, port in ports.wanted(arguments):
        numbers.setdefault(address, {})[name] = port
    urls: dict[str, str] = {}
    for address, of_address in numbers.items():
        given: dict[str, Any] = {f"{name}_port": of_address.get(name) for name in ports.PROTOCOLS}
        if "grpc" in of_address and (tuning := options.grpc_options_of(arguments)):
            from triton_stub.endpoints.grpc.endpoint import GrpcOptions

            given["grpc_options"] = GrpcOptions(**tuning)
        endpoint = server.serve(
            host=address,
            http_max_input_size=arguments.http_max_input_size,
            http_header_forward_pattern=arguments.http_header_forward_pattern,
            **given,
        )
        urls |= {name: getattr(endpoint, f"{name}_url") for name in of_address}
    return {service: urls[name] for name, service in _SERVICES.items() if name in urls}


def _follow(server: Server, arguments: Any) -> NoReturn:
    """Until a signal: nothing, or look for changes of the repositories."""
    polls = arguments.model_control_mode == "poll" and arguments.repository_poll_secs > 0
    never = threading.Event()
    while True:
        never.wait(arguments.repository_poll_secs if polls else None)
        server.load_errors.clear()
        serving: set[str] = set()
        try:
            server.poll_model_repository()
            serving = {row.name for row in server.index(only_ready=True)}
        except ServerError as problem:  # such as a repository that is gone for a while
            print(f"triton-stub: {problem}", file=sys.stderr, flush=True)
        explanation.print_failures(server.load_errors, serving)
