"""The ports that a server is to open: whether they can be had, before any model loads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from triton_stub.endpoints import sockets

if TYPE_CHECKING:
    from collections.abc import Iterator

# As flags spell them → as tritonserver's sentences do.
PROTOCOLS = {"http": "HTTP", "grpc": "GRPC", "metrics": "metrics"}
# And as they are known otherwise.
_TITLES = {"grpc": "gRPC"}


def wanted(arguments: Any) -> Iterator[tuple[str, str, int]]:
    """Name, address and port of each protocol that is to be served."""
    for name in PROTOCOLS:
        if getattr(arguments, f"allow_{name}"):
            yield name, getattr(arguments, f"{name}_address"), getattr(arguments, f"{name}_port")


def check(arguments: Any) -> None:
    """Exits with code 2 if two protocols want one port; ServerError if somebody else has it.

    Source: server ``src/command_line_parser.cc``, ``CheckPortCollision``.
    """
    taken: dict[tuple[str, int], str] = {}
    for name, address, port in wanted(arguments):
        if port and (other := taken.setdefault((address, port), name)) != name:
            arguments.parser.error(
                f"The server cannot listen to {PROTOCOLS[other]} requests and {PROTOCOLS[name]} "
                f"requests at the same address and port {address}:{port}"
            )
    for name, address, port in wanted(arguments):
        if name != "grpc":  # ServerError if its packages are not there
            import triton_stub.endpoints.http.endpoint  # noqa: F401
        if not address.startswith(sockets.UNIX):
            sockets.listen(_TITLES.get(name, PROTOCOLS[name]), address, port).close()
