"""That the fuzzer would notice, and what it draws."""

import socket
import threading
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[1] / "bench"


@pytest.fixture
def fuzz_http(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    import fuzz_http

    return fuzz_http


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, b'{"error":"KeyError: 3. This is a defect of triton_stub"}'),
        (400, b"{\"error\":\"'int' object has no attribute 'items'\"}"),
        (400, b"Internal Server Error"),
        (500, b""),
        (501, b""),
    ],
)
def test_answers_that_are_wrong(fuzz_http, status, body):
    assert fuzz_http.wrong(status, body)


@pytest.mark.parametrize(
    ("status", "body"),
    [(200, b""), (200, b"{}"), (404, b'{"error":"Not Found"}'), (500, b'{"error":"failed"}')],
)
def test_answers_that_are_right(fuzz_http, status, body):
    assert not fuzz_http.wrong(status, body)


@pytest.mark.parametrize(
    ("answer", "whole", "complaint"),
    [
        (b"", True, "no answer: RemoteDisconnected"),
        (b"", False, ""),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", True, "no answer: IncompleteRead"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab", True, ""),
        (b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n", False, "500 without a reason"),
    ],
)
def test_a_server_that_does_not_answer(fuzz_http, answer, whole, complaint):
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(answer)

        server = threading.Thread(target=serve)
        server.start()
        url = "{}:{}".format(*listener.getsockname())
        request = fuzz_http.Request(b"GET / HTTP/1.1\r\n\r\n", whole=whole)
        told = fuzz_http.send(url, request)
        server.join()
    assert told.startswith(complaint)
    assert bool(told) == bool(complaint)


def test_what_is_repeated_is_counted(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    import fuzz

    assert fuzz.short("a" + "bc" * 100 + "d") == "a⟨100 x bc⟩d"
    assert fuzz.short("a" * 40) == "a" * 40
