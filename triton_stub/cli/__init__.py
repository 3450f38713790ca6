"""The command line: ``triton-stub serve``, ``infer`` and ``check``.

Exit codes: 0 for success, 1 for a failure, 2 for a command line that makes no sense.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from triton_stub.cli import check, infer, serve
from triton_stub.cli.parser import Parser
from triton_stub.cli.signals import interruptible
from triton_stub.errors import ServerError

if TYPE_CHECKING:
    from collections.abc import Sequence

_COMMANDS = (serve, infer, check)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code. SystemExit (2) if the arguments make no sense."""
    parser = Parser(
        prog="triton-stub", description="Run Triton Python-backend models without Triton."
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in _COMMANDS:
        command.add_to(commands)
    arguments = parser.parse_args(argv)
    try:
        with interruptible():
            code: int = arguments.run(arguments)
            return code
    except (ServerError, OSError, ValueError) as error:
        print(f"triton-stub: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("triton-stub: stopped", file=sys.stderr)
        return 1
