"""``triton-stub infer``: one request to one model, for a quick look."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from typing import TYPE_CHECKING, Any

from triton_stub.cli import values
from triton_stub.cli.parser import POSITIONALS, Parser, add_command
from triton_stub.errors import InferenceError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TextIO

    from triton_stub.core.result import Result

_HELP = """\
Send one request to a model and show what it answers. The model is loaded for it,
from --model-repository, unless --url names a server that has it.

Inputs take datatype and shape from the model's configuration:
  IN=random   IN=random:3x224x224   drawn (what is not given is, too)
  IN=0.5      TEXT=hello            fills the tensor
  IN=1,2,3    IN=[[1,2],[3,4]]      JSON
  IN=in.npy   IN=in.json            a file
  IMAGE=@photo.jpg                  a file as one BYTES element"""


def add_to(commands: Any) -> None:
    """Add the command to a parser's."""
    parser = add_command(
        commands,
        "infer",
        run,
        usage="[OPTION ...] MODEL [NAME=VALUE ...]",
        about="send one request to a model, and show the answer",
        description=_HELP,
    )
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument(POSITIONALS, nargs="*", metavar="NAME=VALUE", help="an input tensor")
    parser.add_argument(
        "--url", metavar="[http://|grpc://]HOST:PORT",
        help="ask the server there; a decoupled model needs grpc://",
    )  # fmt: skip
    parser.add_argument("--model-version", default="", metavar="NUMBER", help="default: the newest")
    parser.value(parser, "--batch-size", values.integer, metavar="ROWS", help="default: 1")
    parser.add_argument("--outputs", default="", metavar="NAME,NAME", help="default: all of them")
    parser.add_argument(
        "--parameter", action="append", default=[], metavar="NAME=VALUE",
        help="of the request; VALUE is true, false, a number, or else text",
    )  # fmt: skip
    parser.add_argument("--sequence-id", default="0", metavar="ID", help="a number, or else text")
    parser.add_argument("--sequence-start", action="store_true")
    parser.add_argument("--sequence-end", action="store_true")
    parser.value(
        parser, "--seed", values.integer, default=0, metavar="NUMBER",
        help="of what is drawn (default: 0)",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print JSON, a line for each response")
    parser.add_argument(
        "--model-repository", action="append", default=[], metavar="PATH",
        help="default: model_repository, in the working directory",
    )  # fmt: skip
    parser.add_argument(
        "--load-model", action="append", default=[], metavar="NAME",
        help="load this model, too, such as one that MODEL calls",
    )  # fmt: skip
    parser.add_argument("--verbose", action="store_true", help="print the server's log")
    add_limits(parser)


def add_limits(parser: Parser) -> None:
    """Options of whoever runs a server for a moment."""
    parser.add_argument("--isolation", choices=("thread", "process"), default="thread")
    for what, default in (("load", 600.0), ("response", 300.0)):
        parser.value(
            parser, f"--{what}-timeout-secs", values.seconds, default=default, metavar="SECONDS",
            help=f"default: {default:g}",
        )  # fmt: skip


def run(arguments: Any) -> int:
    """Send the request; 0, or 1 if the model does not answer or answers with an error."""
    import numpy as np

    from triton_stub.cli import targets, tensors
    from triton_stub.testing.configs import read_config

    try:
        given = tensors.split(arguments.positionals)
        parameters = _parameters(arguments.parameter)
    except ValueError as error:
        arguments.parser.error(str(error))
    if arguments.model_version and not arguments.model_version.isdecimal():
        arguments.parser.error(
            f"--model-version: expected a number, got {arguments.model_version!r}"
        )
    if arguments.batch_size is not None and arguments.batch_size < 1:
        arguments.parser.error(f"--batch-size: expected 1 or more, got {arguments.batch_size}")
    _check_url(arguments)
    out = sys.stdout
    # What models print is no answer.
    with contextlib.redirect_stdout(sys.stderr), targets.target(arguments) as target:
        config = read_config(target.config(arguments.model, arguments.model_version))
        inputs = tensors.request(
            config,
            given,
            batch_size=arguments.batch_size,
            rng=np.random.default_rng(arguments.seed),
        )
        start = time.perf_counter()
        responses = target.responses(
            arguments.model,
            arguments.model_version,
            inputs,
            outputs=[name for name in arguments.outputs.split(",") if name],
            parameters=parameters,
            sequence_id=_number(arguments.sequence_id),
            sequence_start=arguments.sequence_start,
            sequence_end=arguments.sequence_end,
        )
        with contextlib.closing(responses):  # by Ctrl-C, too: nobody needs the rest
            failed = _print(responses, start, out, as_json=arguments.json)
    return int(failed)


def _check_url(arguments: Any) -> None:
    """Exits with code 2 if there is no server at the URL, or what is asked for is not its part."""
    if arguments.url is None:
        return
    error = arguments.parser.error
    host = arguments.url.rpartition("://")[2].partition("/")[0]
    if not host.partition(":")[0] and not host.startswith("["):
        error(f"--url: expected [http://|grpc://]HOST:PORT, got {arguments.url!r}")
    for flag in ("model_repository", "load_model"):
        if getattr(arguments, flag):
            name = f"--{flag.replace('_', '-')}"
            error(f"{name} and --url: the server there has its own models; leave one of them out")


def _print(
    responses: Iterable[Result | InferenceError], start: float, out: TextIO, *, as_json: bool
) -> bool:
    """Show each response as it comes; True if one was an error."""
    from triton_stub.cli import answers

    failed, number = False, 0
    for number, response in enumerate(responses, 1):
        milliseconds = 1000 * (time.perf_counter() - start)
        if isinstance(response, InferenceError):
            failed = True
            text = f"response {number}, an error: {response.message}"
            if as_json:
                text = json.dumps({"error": response.message})
        elif as_json:
            text = answers.for_programs(response)
        else:
            text = (
                f"response {number} of model '{response.model_name}' version "
                f"{response.model_version} after {milliseconds:.1f} ms\n"
                f"{answers.for_people(response)}"
            )
        print(text, file=out, flush=True)
    if not number and not as_json:
        print("no response: the model has ended the request without one", file=out)
    return failed


def _parameters(given: list[str]) -> dict[str, object]:
    parameters: dict[str, object] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise ValueError(f"--parameter {text!r}: expected NAME=VALUE")
        try:
            parsed = json.loads(value)
        except ValueError:
            parsed = value
        parameters[name] = parsed if isinstance(parsed, bool | int | float | str) else value
    return parameters


def _number(text: str) -> int | str:
    return int(text) if text.isdecimal() else text
