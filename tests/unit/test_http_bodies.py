"""Bodies of requests that come in parts, and how large they may be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, ClassVar

import pytest
from starlette.requests import Request

from triton_stub.endpoints.http import bodies
from triton_stub.errors import InferenceError, StatusCode


def request(parts: Sequence[bytes]) -> tuple[Request, list[bytes]]:
    """A request whose body comes in such parts; and those that nobody has taken yet."""
    left = list(parts)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

    return Request({"type": "http", "method": "POST", "headers": []}, receive), left


def test_a_body_in_parts() -> None:
    asked, _ = request([b"ab", b"", b"cde"])
    assert asyncio.run(bodies.read(asked, 5)) == b"abcde"


def test_json_that_is_too_long_is_read_to_its_end() -> None:
    asked, left = request([b"ab", b"cde", b"f"])
    with pytest.raises(InferenceError) as caught:
        asyncio.run(bodies.read(asked, 4))
    assert not left
    assert caught.value.code is StatusCode.INVALID_ARG
    assert caught.value.message == (
        "request JSON size of 6 bytes exceeds the maximum allowed input size of 4 bytes. Use "
        "--http-max-input-size to increase the limit."
    )


def test_more_bytes_than_the_server_counts() -> None:
    class Endless:
        """As much as 2 GiB, without the memory."""

        def __len__(self) -> int:
            return 1 << 30

    class Fake:
        scope: ClassVar[dict[str, Any]] = {}

        async def stream(self) -> AsyncIterator[Any]:
            for _ in range(2):
                yield Endless()

    with pytest.raises(InferenceError) as caught:
        asyncio.run(bodies.read_tensors(Fake()))  # type: ignore[arg-type]
    assert caught.value.message == (
        "Unable to parse Content-Length, value is out of range [ -2147483648, 2147483647 ], got: "
        "2147483648"
    )


def test_a_body_that_nobody_looks_at_is_read_all_the_same() -> None:
    asked, left = request([b"ab", b"cde"])
    assert asyncio.run(bodies.ignore(asked)) == b""
    assert not left


def test_limits() -> None:
    bodies.check_json(4, 4)
    bodies.check_raw(4, 4)
    with pytest.raises(InferenceError, match=r"^request JSON size of 5 bytes exceeds "):
        bodies.check_json(5, 4)
    with pytest.raises(InferenceError, match=r"^Raw input has a byte_size \(5 bytes\) that "):
        bodies.check_raw(5, 4)
