"""What is answered: an HTTP response for each kind of content.

Source: server ``src/http_server.cc`` (2.51).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from triton_stub.endpoints.http import documents

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

    from triton_stub.errors import ServerError

#: Media types; ``TEXT`` is what the server says of bodies of which it says nothing.
JSON = "application/json"
TEXT = "text/plain"
BINARY = "application/octet-stream"
#: How many bytes of a body are JSON; the rest is binary tensors.
HEADER_LENGTH = "Inference-Header-Content-Length"
# Up to here one write of everything is cheaper than a write for each tensor.
_JOIN_BYTES = 1 << 16
# One write of a large tensor. What the socket does not take of it at once, Python copies (until
# 3.12), and the next one waits for that to be gone.
_WRITE_BYTES = 1 << 18


class InferenceAnswer(Response):
    """The answer to an inference request; large tensors are sent from where they are."""

    def __init__(self, document: bytes, blobs: Sequence[bytes | memoryview]) -> None:
        size = len(document) + sum(map(len, blobs))
        headers = {"content-length": str(size), "content-type": JSON}
        if blobs:
            headers |= {"content-type": BINARY, HEADER_LENGTH: str(len(document))}
        super().__init__(headers=headers)
        parts = (document, *blobs)
        self._parts = list(_slices(parts)) if size > _JOIN_BYTES else [b"".join(parts)]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Send it, as ASGI wants it."""
        await send(
            {
                "type": "http.response.start",
                "status": self.status_code,
                "headers": self.raw_headers,
            }
        )
        last = len(self._parts) - 1
        for index, part in enumerate(self._parts):
            await send({"type": "http.response.body", "body": part, "more_body": index < last})


def _slices(parts: Iterable[bytes | memoryview]) -> Iterator[memoryview]:
    """The same bytes in pieces of limited size, without a copy."""
    for part in parts:
        view = memoryview(part)
        for start in range(0, len(view), _WRITE_BYTES):
            yield view[start : start + _WRITE_BYTES]


def get(request: Request, content: Callable[[], Any]) -> Response:
    """What a GET asks for, as JSON."""
    if request.method != "GET":
        return wrong_method(JSON)
    return response(200, content(), JSON)


def get_or_post(request: Request, body: bytes, content: Callable[[bytes | None], Any]) -> Response:
    """What a GET asks for, or a POST with its body: JSON."""
    if request.method not in ("GET", "POST"):
        return wrong_method(JSON)
    return response(200, content(body if request.method == "POST" else None), JSON)


def wrong_method(media_type: str) -> Response:
    """For a path that is there, but not for this method."""
    return response(405, {"error": "Method Not Allowed"}, media_type)


def error(
    error: ServerError, media_type: str, headers: Mapping[str, str] | None = None
) -> Response:
    """A failure: its status and its text."""
    return response(error.code.http_status, {"error": error.message}, media_type, headers)


def response(
    status: int, content: Any, media_type: str, headers: Mapping[str, str] | None = None
) -> Response:
    """Any content, as JSON, whatever it is said to be."""
    # As a header: starlette adds a charset to a text's media type.
    headers = {"content-type": media_type, **(headers or {})}
    return Response(documents.dump(content), status, headers)


def empty(status: int, media_type: str = TEXT) -> Response:
    """A status, and nothing else."""
    return Response(b"", status, {"content-type": media_type})


def compressed(body: bytes, encoding: str, json_size: int | None) -> Response:
    """The answer to an inference request, compressed; how much of it is JSON, if not all."""
    headers = {"content-type": JSON, "content-encoding": encoding}
    if json_size is not None:
        headers |= {"content-type": BINARY, HEADER_LENGTH: str(json_size)}
    return Response(body, headers=headers)
