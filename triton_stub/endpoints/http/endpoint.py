"""The HTTP ports of a server: sockets, and a thread for each that serves it."""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Self

from triton_stub.endpoints import extras, sockets
from triton_stub.errors import ServerError, StatusCode
from triton_stub.pb_utils.logger import LogLevel

with extras.needed_for("the HTTP endpoint"):
    import uvicorn

    from triton_stub.endpoints.http import bodies
    from triton_stub.endpoints.http.app import HttpApp
    from triton_stub.endpoints.http.connection import Connection
    from triton_stub.endpoints.http.metrics import MetricsApp

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from triton_stub.server import Server

# Clients keep connections in pools; one that is closed under them is an error to them.
_KEEP_ALIVE_SECONDS = 3600
# A model that never returns must not keep the test run from ending.
_GRACE_SECONDS = 30


class HttpEndpoint:
    """Serves a server's models over HTTP, and with a ``metrics_port`` its metrics over another.

    Port 0 takes a free one, and None opens none; ``http_url`` and ``metrics_url`` say which.
    ``max_input_size`` is how many bytes of JSON, of an input without JSON, or of what a
    compressed body holds a request may have. Headers in whose name ``header_forward_pattern`` is
    found become parameters of inference requests. ``host`` may be ``unix:`` and the path of a
    socket.
    """

    def __init__(
        self,
        server: Server,
        *,
        host: str = "127.0.0.1",
        port: int | None = 0,
        metrics_port: int | None = None,
        max_input_size: int = bodies.MAX_INPUT_SIZE,
        header_forward_pattern: str = "",
    ) -> None:
        if max_input_size <= 0:
            raise ServerError(
                f"max_input_size must be greater than 0, got {max_input_size}",
                StatusCode.INVALID_ARG,
            )
        self._log = server.log()
        self._http = (
            None
            if port is None
            else _Port(HttpApp(server, max_input_size, header_forward_pattern), host, port)
        )
        self._metrics = (
            None if metrics_port is None else _Port(MetricsApp(server), host, metrics_port)
        )
        # Each with how its start is told.
        self._ports = [
            (each, title)
            for each, title in (
                (self._http, "HTTPService"),
                (self._metrics, "Metrics Service"),
            )
            if each is not None
        ]

    @property
    def http_url(self) -> str:
        """``"host:port"``, as tritonclient takes it; the port of the last ``start()``."""
        if self._http is None:
            raise ServerError("HTTP is not served here", StatusCode.UNAVAILABLE)
        return self._http.url

    @property
    def metrics_url(self) -> str | None:
        """``"host:port"`` where Prometheus reads ``/metrics``; None if that is not served."""
        return None if self._metrics is None else self._metrics.url

    def listen(self) -> Self:
        """Take the ports; whoever connects now, waits for ``start()``, which does so itself.

        Raises ServerError if a port is taken or the address is not this machine's; no port stays
        open then.
        """
        try:
            for port, _ in self._ports:
                port.listen()
        except BaseException:
            self.stop()
            raise
        return self

    def start(self) -> Self:
        """Open the ports; connections are accepted when this returns. Raises as ``listen()``."""
        for port, _ in self._ports:
            port.check_not_started()
        self.listen()
        for port, title in self._ports:
            port.start()
            self._log.note(LogLevel.INFO, f"Started {title} at {port.url}")
        return self

    def close(self) -> None:
        """Close the ports soon, and wait for nobody: ``stop()`` does both."""
        for port, _ in self._ports:
            port.close()

    def stop(self) -> None:
        """Close the ports, and answer the requests that are under way; may be called twice."""
        self.close()  # all at once, or one would stay open while another one waits
        for port, _ in self._ports:
            port.stop()

    def __enter__(self) -> Self:
        return self if self._ports[0][0].is_open else self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


class _Config(uvicorn.Config):
    """Leaves uvicorn's loggers alone: whoever has a uvicorn in this process has set them up."""

    def configure_logging(self) -> None:
        """Called by uvicorn."""


class _Port:
    """One port, and the application that answers there, in a thread of its own."""

    def __init__(self, app: ASGIApp, host: str, port: int) -> None:
        self._app = app
        self._host = host
        self._port = port
        self._listener: socket.socket | None = None
        self._uvicorn: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def is_open(self) -> bool:
        """True between ``start`` and ``stop``."""
        return self._thread is not None

    @property
    def url(self) -> str:
        """``"host:port"``."""
        return sockets.url(self._host, self._port)

    def check_not_started(self) -> None:
        """ServerError if it is open."""
        if self._thread is not None:
            raise ServerError(f"the HTTP endpoint at {self.url} was started before")

    def listen(self) -> None:
        """Take the port; whoever connects now, waits until it is started."""
        if self._listener is not None:
            return
        self._listener = sockets.listen("HTTP", self._host, self._port)
        if self._listener.family != socket.AF_UNIX:
            self._port = self._listener.getsockname()[1]
            # Inherited by each connection. asyncio sets it only on sockets whose protocol number
            # is IPPROTO_TCP, and without it every answer waits 40 ms for the client's next packet.
            self._listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def start(self) -> None:
        """Open the port; connections are accepted when this returns."""
        self.listen()
        config = _Config(
            self._app,
            http=Connection,
            ws="none",
            loop="asyncio",
            lifespan="off",
            interface="asgi3",
            server_header=False,
            date_header=False,
            proxy_headers=False,
            backlog=sockets.BACKLOG,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=_GRACE_SECONDS,
        )
        self._uvicorn = uvicorn.Server(config)
        # Outside the main thread uvicorn leaves the signal handlers alone.
        self._thread = threading.Thread(
            target=self._uvicorn.run,
            kwargs={"sockets": [self._listener]},
            name=f"http {self.url}",
            daemon=True,
        )
        self._thread.start()

    def close(self) -> None:
        """Have the port closed soon, and wait for nobody."""
        if self._uvicorn is not None:
            self._uvicorn.should_exit = True

    def stop(self) -> None:
        """Close the port, and answer the requests that are under way."""
        self.close()
        if self._thread is not None:
            self._thread.join()
        if self._listener is not None:
            self._listener.close()  # older uvicorns leave it open if they are stopped at once
            if self._host.startswith(sockets.UNIX):
                # Or nobody can take this place again.
                Path(self._host.removeprefix(sockets.UNIX)).unlink(missing_ok=True)
        self._uvicorn = self._thread = self._listener = None
