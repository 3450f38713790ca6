"""``triton-stub check``: does every model load, and answer as its configuration says?"""

from __future__ import annotations

import contextlib
import sys
import time
from typing import TYPE_CHECKING, Any

from triton_stub.cli import explanation, values
from triton_stub.cli.infer import add_limits
from triton_stub.cli.parser import POSITIONALS, add_command
from triton_stub.cli.table import table
from triton_stub.errors import InferenceError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TextIO

    from triton_stub.core.request import InferenceResponse
    from triton_stub.server import Server

_HELP = """\
Load every model, send each one request with drawn inputs, and compare the answer
with the configuration: names, datatypes, shapes, batch sizes.

Sizes that a configuration leaves open are 1, unless --input says more:
  --input MODEL/NAME=random:3x224x224 (values as for `triton-stub infer`)"""
# The request of a sequence that has no other one.
_START_AND_END = 3


def add_to(commands: Any) -> None:
    """Add the command to a parser's."""
    parser = add_command(
        commands,
        "check",
        run,
        usage="[OPTION ...] REPOSITORY ...",
        about="load every model, send each a request, and check the answers",
        description=_HELP,
    )
    parser.add_argument(POSITIONALS, nargs="*", metavar="REPOSITORY")
    parser.add_argument(
        "--model-repository", action="append", default=[], metavar="PATH",
        help="the same as REPOSITORY",
    )  # fmt: skip
    parser.add_argument(
        "--load-model", action="append", default=[], metavar="NAME", help="check this one alone"
    )
    parser.add_argument("--input", action="append", default=[], metavar="MODEL/NAME=VALUE")
    parser.value(
        parser, "--batch-size", values.integer, default=1, metavar="ROWS",
        help="rows for models that batch, at most as many as they take (default: 1)",
    )  # fmt: skip
    parser.value(
        parser, "--seed", values.integer, default=0, metavar="NUMBER",
        help="of what is drawn (default: 0)",
    )  # fmt: skip
    parser.add_argument("--verbose", action="store_true", help="print the server's log")
    add_limits(parser)


def run(arguments: Any) -> int:
    """Check the models; 0, or 1 if one fails or there is none."""
    from triton_stub.cli import targets, tensors
    from triton_stub.server import Server

    repositories = [*arguments.positionals, *arguments.model_repository]
    if not repositories:
        arguments.parser.error(
            "no model repository given; for example: triton-stub check model_repository"
        )
    try:
        inputs = tensors.split(arguments.input)
    except ValueError as error:
        arguments.parser.error(f"--input {error}")
    for name in inputs:
        if "/" not in name:
            arguments.parser.error(f"--input {name}: expected MODEL/NAME=VALUE")
    server = Server(
        repositories,
        model_control_mode="explicit" if arguments.load_model else "none",
        startup_models=arguments.load_model,
        exit_on_error=False,
        isolation=arguments.isolation,
        load_timeout=arguments.load_timeout_secs,
        response_timeout=arguments.response_timeout_secs,
        echo_log=sys.stderr if arguments.verbose else None,
    )
    out = sys.stdout
    # What models print is no result.
    with contextlib.redirect_stdout(sys.stderr), targets.started(server):
        return _check(server, inputs, arguments, out)


def _check(server: Server, inputs: Mapping[str, str], arguments: Any, out: TextIO) -> int:
    rows: list[tuple[str, str, str, str]] = []
    ready = server.index(only_ready=True)
    names = sorted({state.name for state in ready} | server.load_errors.keys())
    there = ", ".join(names) or "none"
    problems = [
        f"--input {name}: there is no model {model!r} to check (there are: {there})"
        for name in inputs
        if (model := name.partition("/")[0]) not in names
    ]
    for state in ready:
        start = time.perf_counter()
        try:
            _ask(server, state.name, int(state.version), inputs, arguments)
            verdict = "OK"
        except (InferenceError, ValueError, AssertionError) as error:
            verdict = "FAILED"
            problems.append(f"model '{state.name}' version {state.version}: {error}")
        seconds = time.perf_counter() - start
        rows.append((state.name, state.version, verdict, f"{1000 * seconds:.1f} ms"))
    rows += [(name, "-", "NOT LOADED", "") for name in server.load_errors]
    print(table(("Model", "Version", "Check", "Time"), sorted(rows)), file=out, flush=True)
    explanation.print_failures(server.load_errors)
    for problem in problems:
        print(f"\n{problem}", file=sys.stderr, flush=True)
    if not rows:
        print("triton-stub: there is no model to check", file=sys.stderr)
    return int(not rows or bool(problems) or bool(server.load_errors))


def _ask(
    server: Server, name: str, version: int, inputs: Mapping[str, str], arguments: Any
) -> None:
    """One request; AssertionError if an answer breaks the configuration."""
    import numpy as np

    from triton_stub.cli import tensors
    from triton_stub.testing.checks import check_outputs

    model = server.find(name, version)
    config = model.config
    given = {
        key.partition("/")[2]: value
        for key, value in inputs.items()
        if key.partition("/")[0] == name
    }
    in_sequence = config.HasField("sequence_batching")
    # A sequence has one row at a time.
    rows = min(1 if in_sequence else arguments.batch_size, config.max_batch_size) or None
    request = tensors.request(
        config, given, batch_size=rows, rng=np.random.default_rng(arguments.seed)
    )
    responses = server.model(name, version).send(
        request,
        correlation_id=int(in_sequence),
        flags=_START_AND_END if in_sequence else 0,
    )
    try:
        for response in responses:
            response.raise_error()
            if not response.bare:
                check_outputs(
                    config, response, batch_size=rows, outputs=_promised(model.decoupled, response)
                )
    finally:  # also by Ctrl-C: nobody needs the rest
        responses.cancel()


def _promised(decoupled: bool, response: InferenceResponse) -> list[str] | None:  # noqa: FBT001
    """Outputs that have to be there: all, save in one of several responses."""
    return [tensor.name for tensor in response.tensors] if decoupled else None
