"""Why a model is not served, for the person who has to correct it."""

from __future__ import annotations

import sys
import textwrap
from typing import TYPE_CHECKING

from triton_stub.errors import ServerError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping


def print_failures(errors: Mapping[str, ServerError], serving: Collection[str] = ()) -> None:
    """Explain what is wrong with which model, on the standard error stream.

    ``serving`` are models that go on with what they had before.
    """
    for name, error in errors.items():
        print(explain(name, error, goes_on=name in serving), file=sys.stderr, flush=True)


def explain(name: str, error: ServerError, *, goes_on: bool = False) -> str:
    """Which model, which file, what is wrong, what to do."""
    files = "".join(f"  {note}\n" for note in getattr(error, "__notes__", ()))
    what = textwrap.indent(error.message.rstrip("; \n"), "  ")
    state = "goes on as it was before, its new files do not load" if goes_on else "is not served"
    return f"\nmodel '{name}' {state}:\n{files}{what}\n  what to do: {_advice(error)}"


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
