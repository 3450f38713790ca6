"""The ports of a server."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from triton_stub.endpoints.clients import OwnClients
    from triton_stub.endpoints.http.endpoint import HttpEndpoint
    from triton_stub.server.server import Server


class Ports:
    """The endpoints that talk for a server, from whatever thread they are opened."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._open: list[HttpEndpoint] = []
        self._own: HttpEndpoint | None = None
        self._client: OwnClients | None = None
        self._opening = threading.Lock()

    def open(self, **where: Any) -> HttpEndpoint:
        """An endpoint more; keywords are those of ``HttpEndpoint``."""
        # The one import that runs upwards: ``Server.serve`` is part of the pinned face. On first
        # use, because the package must import without the serve extra.
        from triton_stub.endpoints.http.endpoint import HttpEndpoint

        endpoint = HttpEndpoint(self._server, **where).start()
        self._open.append(endpoint)
        return endpoint

    @property
    def own(self) -> HttpEndpoint:
        """The endpoint of the server's own clients, opened at the first asking."""
        with self._opening:
            if self._own is None:
                self._own = self._server.serve(http_port=0)
            return self._own

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
        self._own = None
