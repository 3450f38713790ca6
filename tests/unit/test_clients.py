"""Clients of a server in this process: real ones, without a network port."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, get_args

import aiohttp
import geventhttpclient.connectionpool
import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.grpc.aio
import tritonclient.http
import tritonclient.http.aio
from model_files import BATCHED, write_model

from triton_stub import Server, ServerError
from triton_stub.endpoints.clients import Kind, connect

CLASSES = {
    "http": tritonclient.http.InferenceServerClient,
    "grpc": tritonclient.grpc.InferenceServerClient,
    "http.aio": tritonclient.http.aio.InferenceServerClient,
    "grpc.aio": tritonclient.grpc.aio.InferenceServerClient,
}
ONE = np.array([[1]], np.float32)

kinds = pytest.mark.parametrize("kind", get_args(Kind))


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    write_model(tmp_path, config=BATCHED)
    return tmp_path


@pytest.fixture
def server(repository: Path) -> Iterator[Server]:
    with Server(repository) as running:
        yield running


def refusal(call: Any, *arguments: Any, **named: Any) -> str:
    with pytest.raises(ServerError) as caught:
        call(*arguments, **named)
    return str(caught.value)


def sockets(server: Server) -> list[Path]:
    """Where the server's own clients talk to it, as its log tells."""
    return [
        Path(line.rpartition("unix:")[2].strip('"'))
        for line in str(server.log()).splitlines()
        if "unix:" in line
    ]


def ask(server: Server, kind: Kind) -> Any:
    """What a model answers to a client of that kind."""
    library = tritonclient.grpc if kind.startswith("grpc") else tritonclient.http
    given = library.InferInput("IN", [1, 1], "FP32").set_data_from_numpy(ONE)
    if kind.endswith("aio"):

        async def infer() -> Any:
            async with server.client(kind) as client:
                assert type(client) is CLASSES[kind]
                return (await client.infer("model", [given])).as_numpy("OUT")

        return asyncio.run(infer())
    with server.client(kind) as client:
        assert type(client) is CLASSES[kind]
        return client.infer("model", [given]).as_numpy("OUT")


@kinds
def test_a_client_of_each_kind(server: Server, kind: Kind) -> None:
    np.testing.assert_array_equal(ask(server, kind), [[2]])


def test_no_network_port_is_opened(repository: Path) -> None:
    """Nor is one asked, of whatever listens on this machine; neither library does it in C."""
    program = """
import asyncio, sys
import tritonclient.grpc.aio, tritonclient.http.aio
from triton_stub import Server

def look(event, arguments):
    if event in ("socket.bind", "socket.connect", "socket.getaddrinfo"):
        assert event != "socket.getaddrinfo" and type(arguments[1]) is str, (event, arguments)

async def ask(kind):
    async with server.client(kind) as client:
        assert await client.is_server_live()

with Server(sys.argv[1]) as server:
    sys.addaudithook(look)
    for kind in ("http", "grpc"):
        with server.client(kind) as client:
            assert client.is_server_live()
    for kind in ("http.aio", "grpc.aio"):
        asyncio.run(ask(kind))
"""
    subprocess.run([sys.executable, "-W", "error", "-c", program, str(repository)], check=True)


def test_nothing_is_left_when_the_server_stops(repository: Path) -> None:
    before = set(threading.enumerate())
    with Server(repository) as server:
        for kind in get_args(Kind):
            ask(server, kind)
        http, grpc = sockets(server)
        assert http.is_socket()
        assert grpc.parent == http.parent
        assert http.parent.stat().st_mode & 0o777 == 0o700  # no other user's
    assert not http.parent.exists()
    assert set(threading.enumerate()) <= before
    gc.collect()  # what nobody has closed would warn


@kinds
def test_a_client_outlives_the_server(repository: Path, kind: Kind) -> None:
    """It asks in vain, and closes as ever."""

    async def asked() -> None:
        server = Server(repository).start()
        client = server.client(kind)
        answer = client.is_server_live()
        assert await answer if kind.endswith("aio") else answer
        await asyncio.to_thread(server.stop)
        with pytest.raises(Exception, match=r"(?i)connect|no such file|closed"):
            await client.is_server_live() if kind.endswith("aio") else client.is_server_live()
        closed = client.close()
        if closed is not None:
            await closed

    asyncio.run(asked())


def test_clients_share_what_is_open(server: Server) -> None:
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: server.client("grpc").close(), range(16)))
    assert len(sockets(server)) == 1


def test_servers_have_clients_of_their_own(repository: Path) -> None:
    with Server(repository, server_id="one") as one, Server(repository, server_id="two") as two:
        for server, name in ((one, "one"), (two, "two")):
            with server.client() as http, server.client("grpc") as grpc:
                assert http.get_server_metadata()["name"] == name
                assert grpc.get_server_metadata().name == name


def test_a_server_that_starts_again(repository: Path) -> None:
    server = Server(repository)
    for _ in range(2):
        with server:
            assert server.client("grpc").is_server_live()
            assert server.client("http").is_server_live()
    gc.collect()


def test_there_are_no_clients_unless_the_server_runs(repository: Path) -> None:
    server = Server(repository)
    assert refusal(server.client) == "Server not started"
    with server:
        client = server.client
    assert refusal(client, "grpc") == "Server not started"
    assert not sockets(server)


def test_a_long_path_for_temporary_files(
    repository: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sockets have short ones."""
    long = tmp_path_factory.mktemp("a" * 100)
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with Server(repository) as server:
        for kind in get_args(Kind):
            ask(server, kind)
        folder = sockets(server)[0].parent
    assert not folder.exists()
    assert not list(long.iterdir())


def test_options_are_the_clients_own(server: Server) -> None:
    with server.client("http", concurrency=3, network_timeout=5, connection_timeout=4) as client:
        pool = client._client_stub._connection_pool
        assert (pool.size, pool.network_timeout, pool.connection_timeout) == (3, 5, 4)
        assert client.is_server_live()
        [connection] = pool._socket_queue.queue
        assert connection.gettimeout() == 5

    async def aio() -> None:
        async with server.client("http.aio", conn_limit=7, conn_timeout=5.0) as client:
            assert (client._stub.connector.limit, client._stub.timeout.total) == (7, 5.0)
            assert not client._stub.auto_decompress
        with pytest.raises(TypeError, match="no_such_option"):
            server.client("http.aio", no_such_option=1)

    asyncio.run(aio())


def test_what_is_refused(server: Server) -> None:
    kind: Any = "https"
    assert refusal(server.client, kind) == (
        "there is no kind of client 'https': expected one of http, grpc, http.aio, grpc.aio"
    )
    assert refusal(connect, kind, "localhost:1").startswith("there is no kind of client 'https'")
    assert refusal(server.client, ssl=True) == (
        "ssl: a client in the server's own process has no encrypted connection"
    )
    with pytest.raises(RuntimeError, match="event loop"):
        server.client("http.aio")


def test_a_package_that_is_not_installed(repository: Path) -> None:
    program = """
import sys
sys.modules[sys.argv[2]] = None
from triton_stub import Server, ServerError
with Server(sys.argv[1]) as server:
    try:
        server.client(sys.argv[3])
    except ServerError as error:
        print(error)
"""
    for package, kind in (("geventhttpclient", "http"), ("aiohttp", "http.aio")):
        arguments = [sys.executable, "-c", program, str(repository), package, kind]
        told = subprocess.run(arguments, check=True, capture_output=True, text=True).stdout
        assert told == (
            f"a client of kind '{kind}' needs the package '{package}', which is not installed: "
            'pip install "triton-stub[serve]"\n'
        )


def test_a_library_that_has_changed(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other test cases notice; this one, that it is told what to do."""

    class Changed:
        def __init__(self, url: str) -> None:
            pass

    with monkeypatch.context() as patched:
        pool = geventhttpclient.connectionpool.ConnectionPool
        patched.delattr(pool, "_create_socket")
        assert "geventhttpclient 2" in refusal(server.client)
    monkeypatch.setattr(tritonclient.http.aio, "InferenceServerClient", Changed)
    assert refusal(server.client, "http.aio") == (
        "tritonclient has changed: it cannot be given a connection within this process; connect "
        "to a port instead, with tritonclient's own InferenceServerClient(server.http_url)"
    )


@kinds
def test_a_client_of_a_port(server: Server, kind: Kind) -> None:
    url = server.grpc_url if kind.startswith("grpc") else server.http_url

    async def asked() -> Any:
        client = connect(kind, url)
        assert type(client) is CLASSES[kind]
        live = client.is_server_live()
        live = await live if kind.endswith("aio") else live
        closed = client.close()
        if closed is not None:
            await closed
        return live

    assert asyncio.run(asked())
    assert not sockets(server)


def test_clients_of_a_server_that_has_stopped(repository: Path) -> None:
    """They are told what they would be told of a port that is closed."""
    with Server(repository) as server:
        client = server.client()
        assert client.is_server_live()
    with client, pytest.raises(ConnectionRefusedError, match="the server has stopped"):
        client.get_server_metadata()

    async def ask() -> None:
        with Server(repository) as server:
            asking = server.client("http.aio")
        async with asking:
            await asking.get_server_metadata()

    with pytest.raises(aiohttp.ClientConnectorError):
        asyncio.run(ask())
