"""``argparse`` with short usages and a hint for whoever mistypes."""

from __future__ import annotations

import argparse
import difflib
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# The positional arguments of a command, wherever among the options they stand.
POSITIONALS = "positionals"


class Parser(argparse.ArgumentParser):
    """A parser of a command, or of all of them.

    ``argparse`` takes positional arguments in one run only; here those of ``POSITIONALS`` may stand
    anywhere.
    """

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """The arguments; exits with code 2 and what is wrong if they make no sense."""
        parsed, rest = self.parse_known_args(args, namespace)
        known = getattr(parsed, "parser", self)
        for text in rest:
            if text.startswith("-") or not hasattr(parsed, POSITIONALS):
                known.error(known.unknown(text))
        if rest:
            getattr(parsed, POSITIONALS).extend(rest)
        return parsed

    def unknown(self, text: str) -> str:
        """What is told of an option that there is not, in tritonserver's words."""
        name = text.partition("=")[0]
        near = difflib.get_close_matches(name, self._option_string_actions, 1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        return f"unrecognized option '{name}'{hint}"

    def value(self, holder: Any, flag: str, convert: Callable[[str], Any], **keywords: Any) -> None:
        """Add an option to a group; what ``convert`` raises is told as tritonserver does.

        Source: server ``src/command_line_parser.cc``, ``TritonParser::Parse``.
        """

        def converted(text: str) -> Any:
            try:
                return convert(text)
            except ValueError as error:
                raise argparse.ArgumentError(None, f'Bad option: "{flag}".\n{error}') from None

        holder.add_argument(flag, type=converted, **keywords)

    def error(self, message: str) -> NoReturn:
        """Print the usage and what is wrong, and exit with code 2."""
        self.exit(
            2,
            f"{self.format_usage()}{self.prog}: error: {message}\n"
            f"`{self.prog} --help` lists what there is\n",
        )


def add_command(
    commands: Any, name: str, run: Callable[[Any], int], *, usage: str, about: str, description: str
) -> Parser:
    """A parser for one command, which ``run`` executes."""
    parser: Parser = commands.add_parser(
        name,
        usage=f"triton-stub {name} {usage}",
        help=about,
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run, parser=parser)
    return parser


def strings(values: Sequence[str]) -> str:
    """Texts in quotes, for a sentence."""
    return ", ".join(map(repr, values))
