"""Paths as patterns, and what they have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

from triton_stub.endpoints import numbers
from triton_stub.errors import InferenceError, StatusCode

if TYPE_CHECKING:
    import re
    from collections.abc import Awaitable, Callable, Sequence

    from starlette.requests import Request
    from starlette.responses import Response

    Handler = Callable[[Request, bytes, re.Match[str]], Awaitable[Response]]
    #: Patterns of whole paths, as they come, without decoding ``%``; and who answers there. A
    #: handler gets the request, its whole body, and the match.
    Routes = Sequence[tuple[str, Handler]]

#: The path of a model, or of one of its versions; both groups may be used below.
MODEL = "/v2/models/(?P<model>[^/]+)(/versions/(?P<version>[0-9]+))?"
NEWEST = -1
_INT64_MAX = 2**63 - 1


def version(text: str | None) -> int:
    """A version in a path; InferenceError if it is none, -1 for the newest if there is none."""
    number = numbers.read(text) if text else NEWEST
    if number > _INT64_MAX:
        raise InferenceError(
            f"failed to get model version from specified version string '{text}' (details: stol), "
            "version should be an integral value > 0",
            StatusCode.INVALID_ARG,
        )
    return number
