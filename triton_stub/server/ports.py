"""The ports of a server."""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING, Any, Literal

from triton_stub.errors import InferenceError, ServerError, StatusCode

if TYPE_CHECKING:
    from triton_stub.endpoints.clients import OwnClients
    from triton_stub.endpoints.serving import Serving
    from triton_stub.server.server import Server


class Ports:
    """The endpoints that talk for a server, from whatever thread they are opened."""

    def __init__(self, server: Server) -> None:
        self._server = server
        # Guards these two.
        self._lock = threading.Lock()
        self._open: list[Serving] = []
        # Whoever has them may start them again.
        self._stopped: weakref.WeakSet[Serving] = weakref.WeakSet()
        # Of the server's own clients, by protocol.
        self._own: dict[str, Serving] = {}
        self._client: OwnClients | None = None
        self._opening = threading.Lock()

    def open(self, **where: Any) -> Serving:
        """Ports more; keywords are those of ``Serving``."""
        # Here and for ``client`` imports run upwards: both of the server's are part of the pinned
        # face. On first use, because the package must import without the serve extra.
        from triton_stub.endpoints.serving import Serving

        serving = Serving(self._server, **where).start()
        with self._lock:
            known = {*self._open, *self._stopped}
            self._open = [serving, *(each for each in known if each.is_open)]
            self._stopped = weakref.WeakSet(each for each in known if not each.is_open)
        if not self._is_live():  # it has begun to stop meanwhile, and may not have seen these
            serving.stop()
            raise InferenceError("the server is stopping", StatusCode.UNAVAILABLE)
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
        with self._lock:
            servings = [*self._open, *self._stopped]
            self._open.clear()
            self._stopped.clear()
        for serving in servings:  # all at once, or some would stay open while others wait
            serving.close()
        for serving in servings:
            serving.stop()
        self._own.clear()

    def _is_live(self) -> bool:
        try:
            return self._server.live()
        except ServerError:  # it has stopped
            return False
