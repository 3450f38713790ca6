"""Bytes over a socket to an HTTP port, and what comes back, for what no HTTP library sends."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

from patience import PATIENCE
from test_http_errors import LENGTH

#: In place of an answer.
CLOSED = "the connection is closed"


class Reply(NamedTuple):
    """What two servers must agree on. The body is JSON, mostly, and binary tensors behind it."""

    status: int
    headers: dict[str, str]
    document: str
    blobs: bytes


def head(method: str, path: str, *headers: str, version: str = "1.1") -> bytes:
    """A request up to its body."""
    lines = (f"{method} {path} HTTP/{version}", "Host: localhost", *headers, "", "")
    return "\r\n".join(lines).encode("latin-1")


def post(path: str, body: bytes, *headers: str) -> bytes:
    """A whole POST request."""
    return head("POST", path, f"Content-Length: {len(body)}", *headers) + body


def chunked(path: str, *chunks: bytes, headers: Sequence[str] = ()) -> bytes:
    """A whole POST request whose length is not known before."""
    framed = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in (*chunks, b""))
    return head("POST", path, "Transfer-Encoding: chunked", *headers) + framed


@contextmanager
def connected(url: str) -> Iterator[socket.socket]:
    """A connection to a port."""
    host, _, port = url.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as connection:
        yield connection


def exchange(url: str, data: bytes, count: int = 1, *, hang_up: bool = False) -> list[Reply | str]:
    """Send bytes, and read so many answers; ``hang_up`` after the last byte."""
    with connected(url) as connection:
        # It may be closed before all is sent.
        with contextlib.suppress(OSError):
            connection.sendall(data)
            if hang_up:
                connection.shutdown(socket.SHUT_WR)
        return replies(connection, count)


def replies(connection: socket.socket, count: int = 1) -> list[Reply | str]:
    """Read so many answers; CLOSED in place of the first that does not come."""
    stream = _Stream(connection)
    found: list[Reply | str] = []
    for _ in range(count):
        # It takes a socket, but makes a file of it and no more.
        response = http.client.HTTPResponse(cast("socket.socket", stream))
        try:
            response.begin()
            found.append(_reply(response))
        except (http.client.RemoteDisconnected, ConnectionError):
            return [*found, CLOSED]
    return found


def _reply(response: http.client.HTTPResponse) -> Reply:
    body = response.read()
    # Dates, lengths and what becomes of the connection are the server's own business.
    headers = {
        name.lower(): value
        for name, value in response.getheaders()
        if name.lower() not in ("content-length", "connection", "transfer-encoding")
    }
    if "content-encoding" in headers:
        # Both formats; all of it is there, and nothing else.
        inflater = zlib.decompressobj({"gzip": 31, "deflate": 15}[headers["content-encoding"]])
        body = inflater.decompress(body)
        assert inflater.eof
        assert not inflater.unused_data
    size = int(headers.get(LENGTH.lower(), len(body)))
    text = body[:size].decode(errors="surrogateescape")
    document = repr(json.loads(text)) if text else ""
    return Reply(response.status, headers, document, body[size:])


class _Stream:
    """A socket whose file lasts for several answers."""

    def __init__(self, connection: socket.socket) -> None:
        self._file = connection.makefile("rb")

    def makefile(self, _mode: str) -> _Stream:
        return self

    def close(self) -> None:
        """Called after each answer."""

    def flush(self) -> None:
        """Called, too."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def same(urls: tuple[str, str], data: bytes, count: int = 1, **how: bool) -> list[Reply | str]:
    """The same bytes to both servers, the same back."""
    stub, native = (exchange(url, data, count, **how) for url in urls)
    assert stub == native
    return native


def one(urls: tuple[str, str], data: bytes, **how: bool) -> Reply:
    """The one answer of both servers."""
    (reply,) = same(urls, data, **how)
    assert isinstance(reply, Reply)
    return reply
