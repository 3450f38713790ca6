"""Large bodies, which go from the socket to where they stay, and what is around them."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from instances import write_files
from model_files import ECHO
from patience import PATIENCE
from test_http_connection import GET, UPGRADE, connected, everything

from triton_stub import Server
from triton_stub.endpoints.http import connection as connection_module
from triton_stub.endpoints.http import port
from triton_stub.endpoints.http.upload import Upload

SIZE = 300_000
CONFIG = """
backend: "python"
input { name: "X" data_type: TYPE_INT8 dims: [ -1 ] }
output { name: "X" data_type: TYPE_INT8 dims: [ -1 ] }
"""
JSON = (
    b'{"parameters":{"binary_data_output":true},"inputs":[{"name":"X","datatype":"INT8",'
    b'"shape":[%d],"parameters":{"binary_data_size":%d}}]}' % (SIZE, SIZE)
)
VALUES = np.random.default_rng(0).integers(0, 128, SIZE, np.uint8).tobytes()
LAST = b"Connection: close\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("models")
    write_files(folder / "echo", {"config.pbtxt": CONFIG, "1/model.py": ECHO})
    with Server(folder) as running:
        yield running


def head(headers: bytes = b"", *, path: bytes = b"/v2/models/echo/infer", size: int = 0) -> bytes:
    return (
        b"POST %b HTTP/1.1\r\nInference-Header-Content-Length: %d\r\n%bContent-Length: %d\r\n\r\n"
        % (path, len(JSON), headers, size or len(JSON) + SIZE)
    )


def is_echo(answer: bytes) -> bool:
    return answer.startswith(b"HTTP/1.1 200 ") and answer.endswith(VALUES)


@pytest.mark.parametrize("headers", [b"", UPGRADE, b"Expect: 100-continue\r\n"])
@pytest.mark.parametrize("first", [0, 10, len(JSON) + 1000, len(JSON) + SIZE - 1])
def test_in_two_parts(server: Server, headers: bytes, first: int) -> None:
    """However much of it comes with its headers, which are two or more reads here."""
    body = JSON + VALUES
    with connected(server) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(head(headers + LAST) + body[:first])
        connection.sendall(body[first:])
        answer = everything(connection)
    assert is_echo(answer.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n"))


def test_several_on_a_connection(server: Server) -> None:
    """Sent at once, or a second one while the first is answered; a small one in between."""
    body = JSON + VALUES
    with connected(server) as connection, ThreadPoolExecutor(1) as pool:
        requests = (head() + body, GET % b"", head(UPGRADE) + body, head(LAST) + body)
        sent = pool.submit(connection.sendall, b"".join(requests))
        answers = everything(connection)
        sent.result(PATIENCE)
    assert answers.count(b"HTTP/1.1 200 OK") == 3
    assert answers.count(b"HTTP/1.1 400 ") + answers.count(b"HTTP/1.1 404 ") == 1
    assert answers.count(VALUES) == 3
    assert is_echo(answers)


@pytest.mark.parametrize("path", [b"/v2/models/echo/infer", b"/v2/repository/index"])
@pytest.mark.parametrize("behind", [b"\r\n", GET % b"", b"\0nonsense\r\n\r\n"])
def test_what_is_behind_the_last_one_costs_no_answer(
    server: Server, path: bytes, behind: bytes
) -> None:
    """It comes with the end of the body, and is read, or else the answer would be cut off."""
    body = JSON + VALUES
    for _ in range(5):
        with connected(server) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.sendall(head(b"Expect: 100-continue\r\n" + LAST, path=path))
            assert connection.recv(1 << 10) == b"HTTP/1.1 100 Continue\r\n\r\n"
            connection.sendall(body[:-1000])
            connection.sendall(body[-1000:] + behind)
            answer = everything(connection)
        assert is_echo(answer) or b"failed to parse the request JSON buffer" in answer


def test_a_client_that_closes_its_side_behind_the_body_is_answered(server: Server) -> None:
    for _ in range(5):
        with connected(server) as connection:
            connection.sendall(head() + JSON + VALUES)
            connection.shutdown(socket.SHUT_WR)
            assert is_echo(everything(connection))


def test_more_is_announced_than_there_is_memory(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client may send less, and so much is there."""

    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(connection_module, "Upload", fail)
    with connected(server) as connection:
        connection.sendall(head(LAST) + JSON + VALUES)
        assert is_echo(everything(connection))


def test_a_body_that_is_too_large_is_refused(server: Server) -> None:
    small = server.serve(http_port=0, http_max_input_size=100_000)
    with connected(small) as connection:
        asked = head(LAST, path=b"/v2/repository/index", size=SIZE)
        connection.sendall(asked + VALUES)
        assert b"request JSON size of 300000 bytes exceeds " in everything(connection)


def test_json_without_tensors(server: Server) -> None:
    """It may be large as well, and is no view of anything."""
    body = b'{"inputs":[{"name":"X","datatype":"INT8","shape":[%d],"data":[%b1]}]}' % (
        SIZE,
        b"1," * (SIZE - 1),
    )
    lines = b"POST /v2/models/echo/infer HTTP/1.1\r\n%bContent-Length: %d\r\n\r\n"
    with connected(server) as connection:
        connection.sendall(lines % (LAST, len(body)) + body)
        answer = everything(connection)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.count(b"1,1") > SIZE // 3


def test_a_client_that_goes_in_the_middle_harms_nobody(server: Server) -> None:
    with connected(server) as connection:
        connection.sendall(head() + JSON + VALUES[:200_000])
    with connected(server) as connection:
        connection.sendall(head(LAST) + JSON + VALUES)
        assert is_echo(everything(connection))


def test_a_port_does_not_wait_for_the_rest(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(port, "GRACE_SECONDS", None)
    serving = server.serve(http_port=0)
    with connected(serving) as connection, ThreadPoolExecutor(1) as pool:
        connection.sendall(head(b"Expect: 100-continue\r\n"))
        assert connection.recv(1 << 10) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(JSON + VALUES[:200_000])
        pool.submit(serving.stop).result(PATIENCE)


def test_the_body_is_the_memory_that_was_read_to() -> None:
    upload = Upload(10, b"abc")
    upload.rest()[:3] = b"def"
    assert not upload.add(3)
    rest = upload.rest()
    assert len(rest) == 4
    rest[:] = b"ghij"
    assert upload.add(4)
    assert upload.body == b"abcdefghij"
    assert upload.body.readonly
    assert np.shares_memory(np.frombuffer(rest, np.uint8), np.frombuffer(upload.body, np.uint8))
