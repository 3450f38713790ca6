"""What becomes of a connection: requests in parts, upgrades, what is no HTTP, clients that go."""

from __future__ import annotations

import asyncio
import http.client
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from instances import write_files
from patience import PATIENCE, wait_until
from starlette.types import ASGIApp, Receive, Scope, Send
from test_http_endpoint import refuses

from triton_stub import Server
from triton_stub.endpoints.http import port
from triton_stub.endpoints.http.departure import DEPARTURE
from triton_stub.endpoints.http.port import Port
from triton_stub.endpoints.serving import Serving

CONFIG = """
backend: "python"
max_batch_size: 1
dynamic_batching { }
input { name: "X" data_type: TYPE_FP32 dims: [ 1 ] }
output { name: "Y" data_type: TYPE_FP32 dims: [ 1 ] }
"""
# Says which requests it has begun, and waits until it may go on, or the request is cancelled.
MODEL = """
import pathlib
import time
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        here = pathlib.Path(pb_utils.get_model_dir())
        (here / f"{request.request_id()}.begun").touch()
        end = time.monotonic() + 60
        while not (here / "go").exists() and time.monotonic() < end:
            if request.is_cancelled():
                (here / f"{request.request_id()}.cancelled").touch()
                break
            time.sleep(0.005)
        tensor = pb_utils.get_input_tensor_by_name(request, "X")
        return pb_utils.InferenceResponse([pb_utils.Tensor("Y", tensor.as_numpy())])
"""
GET = b"GET /v2/models/wait/ready HTTP/1.1\r\n%b\r\n"
HALF = b"POST /v2/models/wait/infer HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 99\r\n\r\n"
LARGE = bytes(100_000)  # more than the Outbox keeps
UPGRADE = b"Connection: Upgrade\r\nUpgrade: h2c\r\n"


@pytest.fixture
def told(tmp_path: Path) -> Path:
    write_files(tmp_path / "wait", {"config.pbtxt": CONFIG, "1/model.py": MODEL})
    return tmp_path / "wait" / "1"


@pytest.fixture
def server(tmp_path: Path, told: Path) -> Iterator[Server]:
    with Server(tmp_path, strict_model_config=True) as running:
        assert running.http_url  # which opens the port
        yield running
        (told / "go").touch()


def infer(identifier: str, headers: bytes = b"") -> bytes:
    body = (
        b'{"id":"%b","inputs":[{"name":"X","datatype":"FP32","shape":[1,1],"data":[7]}]}'
        % identifier.encode()
    )
    line = b"POST /v2/models/wait/infer HTTP/1.1\r\nContent-Length: %d\r\n" % len(body)
    return line + headers + b"\r\n" + body


@contextmanager
def connected(server: Server | Serving | Port) -> Iterator[socket.socket]:
    url = server.url if isinstance(server, Port) else server.http_url
    host, _, port = url.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as connection:
        yield connection


def everything(connection: socket.socket) -> bytes:
    """All that comes until the connection is closed."""
    with connection.makefile("rb") as stream:
        return stream.read()


def test_byte_by_byte(server: Server, told: Path) -> None:
    (told / "go").touch()
    for headers in (b"", UPGRADE):
        with connected(server) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for byte in infer("slow", headers + b"Connection: close\r\n"):
                connection.sendall(bytes([byte]))
            assert b'"data":[7.0]' in everything(connection)


def test_upgrades_are_ignored(server: Server, told: Path) -> None:
    (told / "go").touch()
    with connected(server) as connection:
        connection.sendall(GET % UPGRADE + infer("a", UPGRADE) + infer("b") + GET % UPGRADE)
        connection.shutdown(socket.SHUT_WR)
        answers = everything(connection)
    assert answers.count(b"HTTP/1.1 200 OK") == 4
    assert answers.index(b'"id":"a"') < answers.index(b'"id":"b"')


@pytest.mark.parametrize("garbage", [b"nonsense\r\n\r\n", b"\x16\x03\x01", b"G@T / HTTP/1.1\r\n"])
def test_what_is_no_http_is_not_answered(server: Server, garbage: bytes) -> None:
    with connected(server) as connection:
        connection.sendall(garbage)
        assert everything(connection) == b""
    with connected(server) as connection:
        connection.sendall(GET % b"" + garbage + GET % b"")
        assert everything(connection).count(b"HTTP/1.1 200 OK") == 1


def test_a_client_that_goes_cancels_its_request(server: Server, told: Path) -> None:
    """Be it executed, or behind another: then it may never be."""
    with connected(server) as first:
        first.sendall(infer("first"))
        wait_until((told / "first.begun").exists)
        with connected(server) as second:
            second.sendall(infer("second"))
        with connected(server) as third:
            third.sendall(infer("third"))
            first.close()
            wait_until((told / "third.begun").exists)
            assert (told / "first.cancelled").exists()
            assert (told / "second.cancelled").exists() == (told / "second.begun").exists()
            assert not (told / "third.cancelled").exists()
            (told / "go").touch()
            answer = http.client.HTTPResponse(third)
            answer.begin()
            assert b'"id":"third"' in answer.read()


def test_a_client_that_closes_its_side_alone_is_answered(server: Server, told: Path) -> None:
    with connected(server) as connection:
        connection.sendall(infer("half"))
        wait_until((told / "half.begun").exists)
        connection.shutdown(socket.SHUT_WR)
        wait_until((told / "half.cancelled").exists)
        assert b'"id":"half"' in everything(connection)


@contextmanager
def opened(app: ASGIApp) -> Iterator[Port]:
    """A port where another application answers."""
    port = Port(app, "127.0.0.1", 0)
    port.start()
    try:
        yield port
    finally:
        port.stop()


async def answer(send: Send, *parts: bytes) -> None:
    size = b"%d" % sum(map(len, parts))
    headers = [(b"content-length", size)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for left, part in zip(reversed(range(len(parts))), parts, strict=True):
        await send({"type": "http.response.body", "body": part, "more_body": left > 0})


@pytest.mark.parametrize(("method", "body"), [(b"GET", LARGE + b"tail"), (b"HEAD", b"")])
def test_the_end_of_an_answer_is_sent_to_a_client_that_has_closed_its_side(
    method: bytes, body: bytes
) -> None:
    """The port hears of that in the same round of its event loop as it answers."""
    is_busy, is_closed = threading.Event(), threading.Event()

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        is_busy.set()
        is_closed.wait(PATIENCE)
        await answer(send, LARGE, b"tail")

    with opened(app) as port, connected(port) as first, connected(port) as connection:
        first.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert is_busy.wait(PATIENCE)
        connection.sendall(method + b" / HTTP/1.1\r\n\r\n")
        connection.shutdown(socket.SHUT_WR)
        is_closed.set()
        head, end, came = everything(connection).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert end
    assert came == body


def test_nothing_is_said_of_an_answer_to_a_client_that_has_gone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    told = []

    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        while not scope["state"][DEPARTURE].happened:
            await asyncio.sleep(0)
        await answer(send, *[LARGE] * 20)
        told.append(True)

    with opened(app) as port, connected(port) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
        connection.close()
        wait_until(lambda: bool(told))
    assert not caplog.records


def test_a_client_that_reads_too_slowly_is_cut_off_when_the_port_closes(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(port, "GRACE_SECONDS", 0.1)
    pieces = 64 * [bytes(1 << 20)]  # more than fits into the buffers of both sides

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await answer(send, *pieces)

    with opened(app) as slow, connected(slow) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert connection.recv(1 << 10)
        slow.stop()
        assert len(everything(connection)) < len(pieces) << 20
    assert not caplog.records


@pytest.fixture
def serving(server: Server, monkeypatch: pytest.MonkeyPatch) -> Serving:
    """A port that waits as long as it must when it closes."""
    monkeypatch.setattr(port, "GRACE_SECONDS", None)
    return server.serve(http_port=0)


def test_nobody_waits_for_the_rest_of_a_request(serving: Serving) -> None:
    with ThreadPoolExecutor(1) as pool, connected(serving) as connection:
        connection.sendall(HALF)
        assert connection.recv(1 << 16) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"{")
        pool.submit(serving.stop).result(timeout=PATIENCE)
        assert everything(connection) == b""


def test_half_a_request_does_not_keep_the_one_before_from_its_answer(
    serving: Serving, told: Path
) -> None:
    with ThreadPoolExecutor(1) as pool, connected(serving) as connection:
        connection.sendall(infer("a") + HALF + b"{")
        wait_until((told / "a.begun").exists)
        stopped = pool.submit(serving.stop)
        wait_until(lambda: refuses(serving.http_url))
        (told / "go").touch()
        assert b'"id":"a"' in connection.makefile("rb").read(200)
        connection.close()
        stopped.result(timeout=PATIENCE)
