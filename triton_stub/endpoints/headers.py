"""Headers of a client that become parameters of its request: part of the parameters extension.

Source: server ``src/http_server.cc``, ``ForEachHeader``; ``src/grpc/infer_handler.h``,
``ForwardHeadersAsParameters`` (26.08). Reserved names are refused since 26.05; before, they became
parameters as others do.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from triton_stub.errors import InferenceError, ServerError, StatusCode
from triton_stub.pb_utils.casters import c_string

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Where HTTP has them, in the state of a scope: with their names as the client writes them.
AS_SENT = "triton_stub.headers"

_RESERVED = {
    *("sequence_id", "sequence_start", "sequence_end", "priority", "timeout", "headers"),
    "binary_data_output",
}


class ForwardedHeaders:
    """Which headers are forwarded: those in whose name the pattern is found; ``""`` finds none.

    Case does not matter to the pattern, but a parameter has its name as the client writes it.
    """

    def __init__(self, pattern: str = "") -> None:
        try:
            self._pattern = re.compile(pattern, re.IGNORECASE) if pattern else None
        except re.error as error:
            raise ServerError(
                f"the pattern of headers to forward is no regular expression: {pattern!r}: {error}",
                StatusCode.INVALID_ARG,
            ) from error

    def parameters(self, headers: Iterable[tuple[str, str | bytes]]) -> dict[str, str]:
        """The parameters that the headers become, the last of a name; InferenceError for some."""
        if self._pattern is None:
            return {}
        parameters: dict[str, str] = {}
        for name, value in headers:
            if not self._pattern.search(name):
                continue
            if name in _RESERVED or name.startswith("triton_"):
                raise InferenceError(
                    f"Header '{name}' is reserved for Triton usage and cannot be forwarded.",
                    StatusCode.INVALID_ARG,
                )
            text = value if isinstance(value, str) else value.decode("utf-8", "surrogateescape")
            parameters[name] = c_string(text)
        return parameters
