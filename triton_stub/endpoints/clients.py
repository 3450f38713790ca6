"""Real clients of ``tritonclient``, for a server in this process and for one behind a URL."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import socket
import tempfile
import threading
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args, overload

from triton_stub.endpoints import extras
from triton_stub.endpoints.sockets import UNIX
from triton_stub.errors import ServerError, StatusCode

if TYPE_CHECKING:
    import tritonclient.grpc
    import tritonclient.grpc.aio
    import tritonclient.http
    import tritonclient.http.aio

    from triton_stub.endpoints.grpc.endpoint import GrpcEndpoint
    from triton_stub.endpoints.http.endpoint import HttpEndpoint
    from triton_stub.server import Server

Kind = Literal["http", "grpc", "http.aio", "grpc.aio"]

# sun_path has 104 bytes on macOS and 108 on Linux, and ends with a zero.
_LONGEST_PATH = 103
_SECURE = ("ssl", "ssl_options", "ssl_context", "ssl_context_factory", "insecure", "creds")


class ClientMaker(Protocol):
    """Makes a new client: ``maker("grpc")``; the caller closes it.

    ``options`` are those of that client's own constructor, without the URL. The clients with
    ``aio`` are made and used within a running event loop. What tritonclient says of threads goes:
    a client for HTTP is for one thread only.

    Raises:
        ServerError: a package is not installed, or has changed in a way that is not known here.
    """

    @overload
    def __call__(
        self, kind: Literal["http"] = ..., **options: Any
    ) -> tritonclient.http.InferenceServerClient: ...
    @overload
    def __call__(
        self, kind: Literal["grpc"], **options: Any
    ) -> tritonclient.grpc.InferenceServerClient: ...
    @overload
    def __call__(
        self, kind: Literal["http.aio"], **options: Any
    ) -> tritonclient.http.aio.InferenceServerClient: ...
    @overload
    def __call__(
        self, kind: Literal["grpc.aio"], **options: Any
    ) -> tritonclient.grpc.aio.InferenceServerClient: ...


class OwnClients:
    """Clients of a server in this process; a :class:`ClientMaker`.

    No network port is opened: they talk over Unix domain sockets in a folder that is this user's
    alone. The protocols and the clients' code are those of any other connection.
    """

    # Not socket pairs: there is no way to hand one to gRPC in Python, and where a path is enough
    # most of the libraries are used by their public face.

    def __init__(self, server: Server) -> None:
        self._server = server
        self._opening = threading.Lock()
        self._folder: Path | None = None
        self._addresses: dict[str, str] = {}
        self._closing = contextlib.ExitStack()

    def __call__(self, kind: Kind = "http", **options: Any) -> Any:
        """See :class:`ClientMaker`."""
        _check_kind(kind)
        if given := [name for name in _SECURE if options.get(name)]:
            raise ServerError(
                f"{given[0]}: a client in the server's own process has no encrypted connection",
                StatusCode.INVALID_ARG,
            )
        return connect(kind, self._address(kind.removesuffix(".aio")), **options)

    def close(self) -> None:
        """Answer what is under way, and end all connections; may be called twice."""
        with self._opening:
            self._addresses.clear()
            self._folder = None
            self._closing.close()

    def _address(self, protocol: str) -> str:
        with self._opening:
            if not self._server.live():  # which raises if it has not started
                raise ServerError("the server is stopping", StatusCode.UNAVAILABLE)
            if protocol not in self._addresses:
                address = f"{UNIX}{self._own_folder() / protocol}"
                self._closing.enter_context(self._endpoint(protocol, address))
                self._addresses[protocol] = address
            return self._addresses[protocol]

    def _endpoint(self, protocol: str, address: str) -> HttpEndpoint | GrpcEndpoint:
        if protocol == "http":
            from triton_stub.endpoints.http.endpoint import HttpEndpoint

            return HttpEndpoint(self._server, host=address)
        from triton_stub.endpoints.grpc.endpoint import GrpcEndpoint

        return GrpcEndpoint(self._server, host=address)

    def _own_folder(self) -> Path:
        if self._folder is None:
            prefix = "triton-clients-"
            self._folder = Path(tempfile.mkdtemp(prefix=prefix))
            if len(os.fsencode(self._folder / "http")) > _LONGEST_PATH:
                self._folder.rmdir()
                self._folder = Path(tempfile.mkdtemp(prefix=prefix, dir="/tmp"))
            # Also at the end of a process that never stopped its server.
            remove = weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
            self._closing.callback(remove)
        return self._folder


def connect(kind: Kind, url: str, **options: Any) -> Any:
    """A new client of tritonclient for ``"host:port"``, or ``"unix:/path"`` of a socket."""
    _check_kind(kind)
    with extras.needed_for(f"a client of kind {kind!r}"):
        if kind == "grpc":
            from tritonclient import grpc

            return grpc.InferenceServerClient(url, **options)
        if kind == "grpc.aio":
            from tritonclient.grpc import aio as grpc_aio

            return grpc_aio.InferenceServerClient(url, **options)
        if kind == "http":
            return _http(url, options)
        return _http_aio(url, options)


def _check_kind(kind: str) -> None:
    if kind not in get_args(Kind):
        raise ServerError(
            f"there is no kind of client {kind!r}: expected one of {', '.join(get_args(Kind))}",
            StatusCode.INVALID_ARG,
        )


def _http(url: str, options: dict[str, Any]) -> Any:
    from tritonclient.http import InferenceServerClient

    if not url.startswith(UNIX):
        return InferenceServerClient(url, **options)
    import geventhttpclient
    from gevent.socket import socket as gevent_socket

    client = InferenceServerClient("localhost", **options)
    pool: Any = getattr(getattr(client, "_client_stub", None), "_connection_pool", None)
    if not hasattr(pool, "_create_socket"):
        client.close()
        raise _changed(f"geventhttpclient {geventhttpclient.__version__}")
    path = url.removeprefix(UNIX)

    # The one method of the pool that is meant to be replaced; what it keeps and when it connects
    # again is its own business.
    def create_socket() -> Any:
        connection = gevent_socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(pool.connection_timeout)
            connection.connect(path)
            connection.settimeout(pool.network_timeout)
        except BaseException as error:
            connection.close()
            if isinstance(error, FileNotFoundError):  # what is told of a port that is closed
                told = "Connection refused: the server has stopped"
                raise ConnectionRefusedError(errno.ECONNREFUSED, told) from None
            raise
        return connection

    pool._create_socket = create_socket
    return client


def _http_aio(url: str, options: dict[str, Any]) -> Any:
    import aiohttp
    from tritonclient.http.aio import InferenceServerClient

    if not url.startswith(UNIX):
        return InferenceServerClient(url, **options)
    client = InferenceServerClient("localhost", **options)
    session = getattr(client, "_stub", None)
    if not isinstance(session, aiohttp.ClientSession) or session.connector is None:
        raise _changed("tritonclient")
    # Its own session, but for where it connects to. What was made for TCP is closed with the
    # client, which keeps it.
    client._stub = aiohttp.ClientSession(
        connector=aiohttp.UnixConnector(url.removeprefix(UNIX), limit=session.connector.limit),
        timeout=session.timeout,
        auto_decompress=session.auto_decompress,
    )
    session.detach()
    return client


def _changed(package: str) -> ServerError:
    return ServerError(
        f"{package} has changed: it cannot be given a connection within this process; connect to a "
        "port instead, with tritonclient's own InferenceServerClient(server.http_url)",
        StatusCode.UNSUPPORTED,
    )
