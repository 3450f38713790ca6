"""Bodies of requests, which come in whole before anybody looks at them, and how large they may be.

Source: server ``src/http_server.cc``, ``EVBufferToJson``, ``EVBufferToRawInput`` and
``GetContentLength`` (26.08).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from triton_stub.errors import InferenceError, StatusCode

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping

    from starlette.requests import Request

    from triton_stub.endpoints.http.upload import Upload

    #: Gets a request's scope, and how large its body may be at most.
    Begin = Callable[[MutableMapping[str, Any], int], Upload | None]

#: How many bytes of JSON, of a raw input, or of what a compressed body holds a request may have.
MAX_INPUT_SIZE = 1 << 26
_INT32 = 2**31
#: How large a request to a model may be that has binary tensors: the server counts with 32 bits.
LARGEST = _INT32 - 1
#: In the state of a request: how an upload of its body is begun. None comes back if the body is
#: small, of unknown size, larger than it may be or than there is memory, or there already.
BEGIN_UPLOAD = "triton_stub.begin_upload"
_ADVICE = "Use --http-max-input-size to increase the limit."


async def read(request: Request, limit: int) -> bytes:
    """The body of a request: ``limit`` bytes of JSON at most. InferenceError if it is larger.

    But not before the last byte is there, since the client may not read before it has written. Of
    such a body nothing is kept.
    """
    body, size = await _read(request, limit)
    check_json(size, limit)
    return bytes(body)


async def read_tensors(request: Request) -> bytes | memoryview:
    """The same of a request that may have binary tensors: ``LARGEST`` bytes at most."""
    body, size = await _read(request, LARGEST)
    if size > LARGEST:
        raise InferenceError(
            f"Unable to parse Content-Length, value is out of range [ {-_INT32}, {LARGEST} ], got: "
            f"{size}",
            StatusCode.INVALID_ARG,
        )
    return body


async def _read(request: Request, limit: int) -> tuple[bytes | memoryview, int]:
    """The body, empty if it is larger than the limit; and how large it is."""
    begin: Begin | None = request.scope.get("state", {}).get(BEGIN_UPLOAD)
    upload = None if begin is None else begin(request.scope, limit)
    parts: list[bytes] = []
    size = 0
    # Of an upload nothing comes here, but its end, or that of its client.
    async for part in request.stream():
        size += len(part)
        if size <= limit:
            parts.append(part)
        else:
            parts.clear()
    if upload is not None:
        return upload.body, len(upload.body)
    return b"".join(parts), size


async def ignore(request: Request) -> bytes:
    """Wait for the end of a body that nobody looks at; an empty one comes out."""
    async for _ in request.stream():
        pass
    return b""


def check_json(size: int, limit: int) -> None:
    """InferenceError if the JSON of a request is larger than the limit."""
    if size > limit:
        raise InferenceError(
            f"request JSON size of {size} bytes exceeds the maximum allowed input size of {limit} "
            f"bytes. {_ADVICE}",
            StatusCode.INVALID_ARG,
        )


def check_input(name: str, size: int, limit: int) -> None:
    """InferenceError if the values of an input in JSON are larger."""
    if size > limit:
        raise InferenceError(
            f"JSON input '{name}' has a byte_size ({size} bytes) that exceeds the maximum allowed "
            f"value of {limit} bytes. {_ADVICE}",
            StatusCode.INVALID_ARG,
        )


def check_raw(size: int, limit: int) -> None:
    """InferenceError if a body that is an input as it is, without JSON, is larger."""
    if size > limit:
        raise InferenceError(
            f"Raw input has a byte_size ({size} bytes) that exceeds the maximum allowed value of "
            f"{limit} bytes. {_ADVICE}",
            StatusCode.INVALID_ARG,
        )
