"""The ports of a server that are opened together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from triton_stub.endpoints.http.bodies import MAX_INPUT_SIZE
from triton_stub.errors import ServerError, StatusCode

if TYPE_CHECKING:
    from triton_stub.endpoints.grpc.endpoint import GrpcEndpoint, GrpcOptions
    from triton_stub.endpoints.http.endpoint import HttpEndpoint
    from triton_stub.server import Server


class Serving:
    """Serves a server's models over HTTP and gRPC, and its metrics: what is given a port.

    Port 0 takes a free one. ``with`` starts what is not started yet, and stops it.
    """

    def __init__(
        self,
        server: Server,
        *,
        host: str = "127.0.0.1",
        http_port: int | None = None,
        grpc_port: int | None = None,
        metrics_port: int | None = None,
        grpc_options: GrpcOptions | None = None,
        http_max_input_size: int = MAX_INPUT_SIZE,
        http_header_forward_pattern: str = "",
    ) -> None:
        # Each protocol on first use: not everybody has the packages of both.
        self._http: HttpEndpoint | None = None
        self._grpc: GrpcEndpoint | None = None
        if http_port is not None or metrics_port is not None:
            from triton_stub.endpoints.http.endpoint import HttpEndpoint

            self._http = HttpEndpoint(
                server,
                host=host,
                port=http_port,
                metrics_port=metrics_port,
                max_input_size=http_max_input_size,
                header_forward_pattern=http_header_forward_pattern,
            )
        if grpc_port is not None:
            from triton_stub.endpoints.grpc.endpoint import GrpcEndpoint

            self._grpc = GrpcEndpoint(server, host=host, port=grpc_port, options=grpc_options)
        self._endpoints = [each for each in (self._grpc, self._http) if each is not None]
        if not self._endpoints:
            raise ServerError(
                "there is nothing to serve: give http_port, grpc_port or metrics_port; 0 takes a "
                "free port",
                StatusCode.INVALID_ARG,
            )
        self._is_started = False

    @property
    def http_url(self) -> str:
        """``"host:port"`` for clients over HTTP; ServerError if that is not served."""
        if self._http is None:
            raise _not_served("HTTP", "http_port")
        return self._http.http_url

    @property
    def grpc_url(self) -> str:
        """``"host:port"`` for clients over gRPC; ServerError if that is not served."""
        if self._grpc is None:
            raise _not_served("gRPC", "grpc_port")
        return self._grpc.grpc_url

    @property
    def metrics_url(self) -> str | None:
        """``"host:port"`` where Prometheus reads ``/metrics``; None if that is not served."""
        return None if self._http is None else self._http.metrics_url

    @property
    def is_open(self) -> bool:
        """True between ``start`` and ``stop``."""
        return self._is_started

    def listen(self) -> Self:
        """Take all ports, and answer nobody yet; ``start()`` does so itself.

        ServerError if one of them is taken or the address is not this machine's; no port stays
        open then.
        """
        try:
            for endpoint in self._endpoints:
                endpoint.listen()
        except BaseException:
            self.stop()
            raise
        return self

    def start(self) -> Self:
        """Answer clients; may be called again after ``stop()``. ServerError as ``listen()``."""
        if self._is_started:
            raise ServerError("the ports are open already")
        self.listen()
        try:
            for endpoint in self._endpoints:
                endpoint.start()
        except BaseException:
            self.stop()
            raise
        self._is_started = True
        return self

    def close(self) -> None:
        """Close the ports soon, and wait for nobody: ``stop()`` does both."""
        self._is_started = False
        for endpoint in self._endpoints:
            endpoint.close()

    def stop(self) -> None:
        """Close the ports, and answer the requests that are under way; may be called twice."""
        self.close()  # all at once, or one would stay open while another one waits
        for endpoint in self._endpoints:
            endpoint.stop()

    def __enter__(self) -> Self:
        return self if self._is_started else self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


def _not_served(title: str, keyword: str) -> ServerError:
    return ServerError(
        f"{title} is not served here: give {keyword}, 0 for a free port", StatusCode.UNAVAILABLE
    )
