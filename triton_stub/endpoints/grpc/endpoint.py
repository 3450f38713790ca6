"""The gRPC port of a server."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

import grpc
from tritonclient.grpc import service_pb2_grpc

from triton_stub.endpoints import sockets
from triton_stub.endpoints.grpc.about import health
from triton_stub.endpoints.grpc.blobs import LargeMessages
from triton_stub.endpoints.grpc.codec import LARGEST_MESSAGE
from triton_stub.endpoints.grpc.service import Service
from triton_stub.endpoints.grpc.status import Refusals
from triton_stub.endpoints.grpc.threads import Threads
from triton_stub.endpoints.headers import ForwardedHeaders
from triton_stub.errors import ServerError, StatusCode
from triton_stub.pb_utils.logger import LogLevel

if TYPE_CHECKING:
    from triton_stub.server import Server

# A call keeps a thread until it is answered, and a stream until it ends; threads are made when
# they are needed. With more calls than this the others wait.
_MOST_CALLS = 1000
# A model that never returns must not keep the test run from ending.
_GRACE_SECONDS = 30
# What gRPC makes of tritonserver's levels when a client takes both (grpc
# ``src/core/lib/compression``).
_COMPRESSION = {
    "none": grpc.Compression.NoCompression,
    "low": grpc.Compression.Gzip,
    "medium": grpc.Compression.Deflate,
    "high": grpc.Compression.Deflate,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcOptions:
    """How connections are kept, and whether inference answers are compressed.

    Names and defaults are those of tritonserver's options ``--grpc-…``; times in milliseconds.
    0 as the age of a connection is without an end. Headers of a client in whose name the pattern
    is found become parameters of its requests.
    """

    keepalive_time: int = 7_200_000
    keepalive_timeout: int = 20_000
    keepalive_permit_without_calls: bool = False
    http2_max_pings_without_data: int = 2
    http2_min_recv_ping_interval_without_data: int = 300_000
    http2_max_ping_strikes: int = 2
    max_connection_age: int = 0
    max_connection_age_grace: int = 0
    infer_response_compression_level: Literal["none", "low", "medium", "high"] = "none"
    header_forward_pattern: str = ""

    def for_channels(self) -> list[tuple[str, int]]:
        """As gRPC calls them."""
        options = [
            ("grpc.so_reuseport", 0),  # or two servers share a port that one of them has
            ("grpc.max_receive_message_length", LARGEST_MESSAGE),
            ("grpc.max_send_message_length", LARGEST_MESSAGE),
            ("grpc.keepalive_time_ms", self.keepalive_time),
            ("grpc.keepalive_timeout_ms", self.keepalive_timeout),
            ("grpc.keepalive_permit_without_calls", int(self.keepalive_permit_without_calls)),
            ("grpc.http2.max_pings_without_data", self.http2_max_pings_without_data),
            (
                "grpc.http2.min_ping_interval_without_data_ms",
                self.http2_min_recv_ping_interval_without_data,
            ),
            ("grpc.http2.max_ping_strikes", self.http2_max_ping_strikes),
        ]
        if self.max_connection_age:
            options.append(("grpc.max_connection_age_ms", self.max_connection_age))
        if self.max_connection_age_grace:
            options.append(("grpc.max_connection_age_grace_ms", self.max_connection_age_grace))
        return options


class GrpcEndpoint:
    """Serves a server's models over gRPC.

    Port 0 takes a free one; ``grpc_url`` says which. ``host`` may be ``unix:`` and the path of a
    socket.
    """

    def __init__(
        self,
        server: Server,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        options: GrpcOptions | None = None,
    ) -> None:
        self._server = server
        self._log = server.log()
        self._host = host
        self._port = port
        self._options = options or GrpcOptions()
        if self._options.infer_response_compression_level not in _COMPRESSION:
            raise ServerError(
                "infer_response_compression_level: expected one of "
                f"{', '.join(_COMPRESSION)}, got "
                f"{self._options.infer_response_compression_level!r}",
                StatusCode.INVALID_ARG,
            )
        self._headers = ForwardedHeaders(self._options.header_forward_pattern)
        self._grpc: grpc.Server | None = None
        self._service: Service | None = None
        self._threads: Threads | None = None
        self._is_started = False
        self._ended = threading.Event()  # of the server that was started last
        self._ended.set()

    @property
    def grpc_url(self) -> str:
        """``"host:port"``, as tritonclient takes it; the port of the last ``start()``."""
        return sockets.url(self._host, self._port)

    def listen(self) -> Self:
        """Take the port, and answer nobody yet; ``start()`` does so itself.

        ServerError if the port is taken or the address is not this machine's.
        """
        if self._grpc is not None:
            return self
        address = self._address()
        threads = self._threads = Threads(_MOST_CALLS)
        server = grpc.server(
            threads,
            interceptors=(Refusals(self._log), LargeMessages()),
            options=self._options.for_channels(),
        )
        compression = _COMPRESSION[self._options.infer_response_compression_level]
        service = self._service = Service(self._server, compression, self._headers)
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(service, server)
        server.add_generic_rpc_handlers((health(self._server),))
        try:
            port = server.add_insecure_port(address)
        except RuntimeError as error:  # somebody was faster
            raise sockets.cannot_serve("gRPC", self.grpc_url, error) from error
        if not self._host.startswith(sockets.UNIX):
            self._port = port
        self._grpc = server
        return self

    def start(self) -> Self:
        """Answer calls, on a port that is taken now unless ``listen()`` has done so."""
        if self._is_started:
            raise ServerError(f"the gRPC endpoint at {self.grpc_url} was started before")
        self.listen()
        assert self._grpc is not None
        self._grpc.start()
        self._is_started = True
        self._log.note(LogLevel.INFO, f"Started GRPCInferenceService at {self.grpc_url}")
        return self

    def close(self) -> None:
        """Close the port, and wait for nobody: ``stop()`` does both."""
        server, self._grpc = self._grpc, None
        if server is None:
            return
        if not self._is_started:
            server.start()  # or it keeps its port
        self._is_started = False
        self._ended = server.stop(_GRACE_SECONDS)
        if self._service is not None:
            self._service.end_streams()  # or they last as long as their clients wish

    def stop(self) -> None:
        """Close the port, and answer the calls that are under way; may be called twice."""
        self.close()
        self._ended.wait()
        if self._threads is not None:
            self._threads.shutdown()

    def __enter__(self) -> Self:
        return self if self._is_started else self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _address(self) -> str:
        """Where gRPC is to listen, the host as a number; ServerError if it cannot."""
        # It would write of a failure to standard error, and tell less of it.
        with contextlib.closing(sockets.listen("gRPC", self._host, self._port)) as listener:
            if self._host.startswith(sockets.UNIX):
                Path(self._host.removeprefix(sockets.UNIX)).unlink()
                return self._host
            return sockets.url(listener.getsockname()[0], self._port)
