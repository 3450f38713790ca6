"""The HTTP ports of a server: sockets, and a thread for each that serves it."""

from __future__ import annotations

import errno
import socket
import threading
from typing import TYPE_CHECKING, Self

from triton_stub.errors import ServerError, StatusCode
from triton_stub.pb_utils.logger import LogLevel

try:
    import httptools  # noqa: F401 - uvicorn's parser, which it would import at the first start
    import uvicorn

    from triton_stub.endpoints.http.app import HttpApp
    from triton_stub.endpoints.http.metrics import MetricsApp
except ModuleNotFoundError as error:
    package = (error.name or "").partition(".")[0]
    raise ServerError(
        f"the HTTP endpoint needs the package {package!r}, which is not installed: "
        "pip install triton-stub[serve]",
        StatusCode.UNAVAILABLE,
    ) from error

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from triton_stub.server import Server

_BACKLOG = 2048
_LAST_PORT = 65535
# Before the path of a socket, in place of a host; gRPC spells it so, too.
_UNIX = "unix:"
# Clients keep connections in pools; one that is closed under them is an error to them.
_KEEP_ALIVE_SECONDS = 3600
# A model that never returns must not keep the test run from ending.
_GRACE_SECONDS = 30


class HttpEndpoint:
    """Serves a server's models over HTTP, and with a ``metrics_port`` its metrics over another.

    Port 0 takes a free one; ``http_url`` and ``metrics_url`` say which. Answers are not
    compressed, whatever ``Accept-Encoding`` allows.
    """

    def __init__(
        self,
        server: Server,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        metrics_port: int | None = None,
    ) -> None:
        self._log = server.log()
        self._http = _Port(HttpApp(server), host, port)
        self._metrics = (
            None if metrics_port is None else _Port(MetricsApp(server), host, metrics_port)
        )

    @property
    def http_url(self) -> str:
        """``"host:port"``, as tritonclient takes it; the port of the last ``start()``."""
        return self._http.url

    @property
    def metrics_url(self) -> str | None:
        """``"host:port"`` where Prometheus reads ``/metrics``; None if that is not served."""
        return None if self._metrics is None else self._metrics.url

    def start(self) -> Self:
        """Open the ports; connections are accepted when this returns.

        Raises ServerError if a port is taken or the address is not this machine's.
        """
        self._http.start()
        self._log.note(LogLevel.INFO, f"Started HTTPService at {self.http_url}")
        if self._metrics is not None:
            try:
                self._metrics.start()
            except BaseException:
                self._http.stop()
                raise
            self._log.note(LogLevel.INFO, f"Started Metrics Service at {self.metrics_url}")
        return self

    def stop(self) -> None:
        """Close the ports, and answer the requests that are under way; may be called twice."""
        self._http.stop()
        if self._metrics is not None:
            self._metrics.stop()

    def __enter__(self) -> Self:
        return self if self._http.is_open else self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


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
        if self._host.startswith(_UNIX):
            return self._host
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{host}:{self._port}"

    def start(self) -> None:
        """Open the port; connections are accepted when this returns."""
        if self._thread is not None:
            raise ServerError(f"the HTTP endpoint at {self.url} was started before")
        # Listening from here on: whoever connects before the thread runs, waits.
        self._listener = self._listen()
        if self._listener.family != socket.AF_UNIX:
            self._port = self._listener.getsockname()[1]
        config = uvicorn.Config(
            self._app,
            http="httptools",
            ws="none",
            loop="asyncio",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            log_level="error",
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            backlog=_BACKLOG,
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

    def stop(self) -> None:
        """Close the port, and answer the requests that are under way."""
        if self._uvicorn is None or self._thread is None or self._listener is None:
            return
        self._uvicorn.should_exit = True
        self._thread.join()
        self._listener.close()  # older uvicorns leave it open if they are stopped at once
        self._uvicorn = self._thread = self._listener = None

    def _listen(self) -> socket.socket:
        if self._host.startswith(_UNIX):
            listener = socket.socket(socket.AF_UNIX)
            try:
                listener.bind(self._host.removeprefix(_UNIX))
                listener.listen(_BACKLOG)
            except BaseException:
                listener.close()
                raise
            return listener
        if not 0 <= self._port <= _LAST_PORT:
            raise ServerError(
                f"there is no port {self._port}: expected 1 to {_LAST_PORT}, or 0 for a free one",
                StatusCode.INVALID_ARG,
            )
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        try:
            found = socket.getaddrinfo(self._host, self._port, family, socket.SOCK_STREAM)
            listener = socket.create_server(found[0][4][:2], family=family, backlog=_BACKLOG)
        except (OSError, UnicodeError) as error:  # UnicodeError: no name of a host
            taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
            why = (
                "the port is already in use; stop what listens there, or take another port "
                "(0 takes a free one)"
                if taken
                else error
            )
            raise ServerError(
                f"cannot serve HTTP at {self.url}: {why}", StatusCode.UNAVAILABLE
            ) from error
        # Inherited by each connection. asyncio sets it only on sockets whose protocol number is
        # IPPROTO_TCP, and without it every answer waits 40 ms for the client's next packet.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listener
