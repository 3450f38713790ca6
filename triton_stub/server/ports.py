"""The ports of a server."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from triton_stub.endpoints.clients import OwnClients
    from triton_stub.endpoints.serving import Serving
    from triton_stub.server.server import Server


class Ports:
    """The endpoints that talk for a server, from whatever thread they are opened."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._open: list[Serving] = []
        # Of the server's own clients, by protocol.
        self._own: dict[str, Serving] = {}
        self._client: OwnClients | None = None
        self._opening = threading.Lock()

    def open(self, **where: Any) -> Serving:
        """Ports more; keywords are those of ``Serving``."""
        # The one import that runs upwards: ``Server.serve`` is part of the pinned face. On first
        # use, because the package must import without the serve extra.
        from triton_stub.endpoints.serving import Serving

        serving = Serving(self._server, **where).start()
        self._open.append(serving)
        return serving

    def own(self, protocol: Literal["http", "grpc"]) -> Serving:
        """The port of the server's own clients, opened at the first asking."""
        with self._opening:
            if protocol not in self._own:
                ports: dict[str, Any] = {"http_port": None, f"{protocol}_port": 0}
                self._own[protocol] = self._server.serve(**ports)
            return self._own[protocol]

    @property
    def client(self) -> OwnClients:
        """Makes clients in this process."""
        from triton_stub.endpoints.clients import OwnClients

        with self._opening:
            if self._client is None:
                self._client = OwnClients(self._server)
            return self._client

    def close(self) -> None:
        """Close them all."""
        if self._client is not None:
            self._client.close()
        while self._open:
            self._open.pop().stop()
        self._own.clear()
