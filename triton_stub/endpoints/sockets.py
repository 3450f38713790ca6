"""Listening sockets of the ports, and why there is none."""

from __future__ import annotations

import errno
import socket
from typing import Any

from triton_stub.errors import ServerError, StatusCode

#: Before the path of a socket, in place of a host; gRPC spells it so, too.
UNIX = "unix:"
#: How many connections may wait.
BACKLOG = 2048
_LAST_PORT = 65535


def url(host: str, port: int) -> str:
    """``"host:port"``, as clients take it, or ``"unix:/path"``."""
    if host.startswith(UNIX):
        return host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def listen(title: str, host: str, port: int) -> socket.socket:
    """A socket that listens there; ``title`` is the protocol's, for ServerError if it cannot."""
    if host.startswith(UNIX):
        return _listen_unix(title, host)
    if not 0 <= port <= _LAST_PORT:
        raise ServerError(
            f"there is no port {port}: expected 1 to {_LAST_PORT}, or 0 for a free one",
            StatusCode.INVALID_ARG,
        )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        found = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)
        return socket.create_server(found[0][4][:2], family=family, backlog=BACKLOG)
    except (OSError, UnicodeError) as error:  # UnicodeError: no name of a host
        raise cannot_serve(title, url(host, port), error) from error


def cannot_serve(title: str, where: str, error: Exception) -> ServerError:
    """What is said of a port that cannot be opened."""
    why: Any = error
    if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        why = (
            "the port is already in use; stop what listens there, or take another port (0 takes a "
            "free one)"
        )
    return ServerError(f"cannot serve {title} at {where}: {why}", StatusCode.UNAVAILABLE)


def _listen_unix(title: str, host: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.bind(host.removeprefix(UNIX))
        listener.listen(BACKLOG)
    except BaseException as error:
        listener.close()
        if isinstance(error, OSError):
            raise cannot_serve(title, host, error) from error
        raise
    return listener
