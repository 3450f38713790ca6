"""Packages that come with an extra of this one, and what is told where they are missing."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from triton_stub.errors import ServerError, StatusCode

if TYPE_CHECKING:
    from collections.abc import Iterator

_INSTALL = 'pip install "triton-stub[serve]"'  # in quotes: shells such as zsh expand brackets


@contextlib.contextmanager
def needed_for(what: str) -> Iterator[None]:
    """ServerError with what to install if the block imports a package that is not there."""
    try:
        yield
    except (ModuleNotFoundError, RuntimeError) as error:
        # tritonclient says in a RuntimeError of its own which of its extras is missing.
        missing = error if isinstance(error, ModuleNotFoundError) else error.__cause__
        if not isinstance(missing, ModuleNotFoundError):
            raise
        package = (missing.name or "").partition(".")[0]
        raise ServerError(
            f"{what} needs the package {package!r}, which is not installed: {_INSTALL}",
            StatusCode.UNAVAILABLE,
        ) from error
