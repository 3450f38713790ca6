"""The HTTP ports of a server: that of its models, and that of its metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from triton_stub.endpoints import extras
from triton_stub.errors import ServerError, StatusCode
from triton_stub.pb_utils.logger import LogLevel

with extras.needed_for("the HTTP endpoint"):
    from triton_stub.endpoints.http import bodies
    from triton_stub.endpoints.http.app import HttpApp
    from triton_stub.endpoints.http.metrics import MetricsApp
    from triton_stub.endpoints.http.port import Port

if TYPE_CHECKING:
    from triton_stub.server import Server


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
            else Port(HttpApp(server, max_input_size, header_forward_pattern), host, port)
        )
        self._metrics = (
            None if metrics_port is None else Port(MetricsApp(server), host, metrics_port)
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
        """Open the ports; connections are accepted when this returns. Raises as ``listen()``.

        No port stays open either if a thread or its event loop cannot be made.
        """
        for port, _ in self._ports:
            port.check_not_started()
        self.listen()
        try:
            for port, title in self._ports:
                port.start()
                self._log.note(LogLevel.INFO, f"Started {title} at {port.url}")
        except BaseException:
            self.stop()
            raise
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
