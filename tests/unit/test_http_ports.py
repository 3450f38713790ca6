"""Ports beside each other, and beside what else there is in the process."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
import urllib3
from instances import write_files
from patience import PATIENCE, wait_until
from starlette.types import Receive, Scope, Send
from test_http_endpoint import refuses
from tritonclient.utils import InferenceServerException

import triton_stub
from triton_stub.endpoints.grpc.endpoint import GrpcEndpoint
from triton_stub.endpoints.http.endpoint import HttpEndpoint
from triton_stub.endpoints.http.port import Port
from triton_stub.endpoints.serving import Serving
from triton_stub.errors import ServerError

CONFIG = """
backend: "python"
input { name: "X" data_type: TYPE_FP32 dims: [ 1 ] }
output { name: "Y" data_type: TYPE_FP32 dims: [ 1 ] }
"""
MODEL = """
class TritonPythonModel:
    def execute(self, requests):
        raise ZeroDivisionError
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    write_files(tmp_path / "models" / "m", {"config.pbtxt": CONFIG, "1/model.py": MODEL})
    return tmp_path / "models"


@pytest.fixture
def server(repository: Path) -> Iterator[triton_stub.Server]:
    with triton_stub.Server(repository) as running:
        yield running


def test_loggers_of_uvicorn_are_left_alone(
    repository: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Another uvicorn in this process may have set them up."""
    handler = logging.NullHandler()
    loggers = [logging.getLogger(f"uvicorn.{name}") for name in ("error", "access", "asgi")]
    before = [(logger.level, logger.handlers, logger.propagate) for logger in loggers]
    try:
        for logger in loggers:
            logger.addHandler(handler)
            logger.setLevel(logging.INFO)
        with triton_stub.Server(repository) as server:
            assert urllib3.request("GET", f"http://{server.http_url}/v2").status == 200
        for logger in loggers:
            assert (logger.level, logger.handlers) == (logging.INFO, [handler])
            assert logger.propagate
        # Nor does it log there whoever asks, what a uvicorn would.
        assert "GET /v2" not in caplog.text
    finally:
        for logger, (level, handlers, propagate) in zip(loggers, before, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(level)
            logger.handlers, logger.propagate = handlers, propagate


def test_a_socket_with_a_path_goes_with_its_port(
    server: triton_stub.Server, tmp_path: Path
) -> None:
    path = tmp_path / "socket"
    endpoint = HttpEndpoint(server, host=f"unix:{path}")
    for _ in range(2):
        with endpoint, socket.socket(socket.AF_UNIX) as connection:
            assert endpoint.http_url == f"unix:{path}"
            connection.connect(str(path))
            connection.sendall(b"GET /v2/health/live HTTP/1.1\r\nConnection: close\r\n\r\n")
            assert connection.makefile("rb").read().startswith(b"HTTP/1.1 200 ")
        assert not path.exists()
    endpoint.listen().stop()
    assert not path.exists()


def test_a_port_that_stops_waits_for_no_clock(
    server: triton_stub.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only for what is under way, and no longer than it may."""
    alarms: list[str] = []
    call_at = asyncio.SelectorEventLoop.call_at

    def counted(loop: Any, when: float, callback: Any, *given: Any, **more: Any) -> Any:
        alarms.append(callback.__qualname__)
        return call_at(loop, when, callback, *given, **more)

    monkeypatch.setattr(asyncio.SelectorEventLoop, "call_at", counted)
    serving = server.serve(http_port=0, metrics_port=0)
    assert urllib3.request("GET", f"http://{serving.http_url}/v2").status == 200
    serving.stop()
    # When a connection has been idle for too long, and when each port has waited for too long.
    assert sorted(alarms) == [
        "HttpToolsProtocol.timeout_keep_alive_handler",
        *2 * ["Timeout._on_timeout"],
    ]


def test_ports_close_together(server: triton_stub.Server) -> None:
    """None stays open as long as another one waits for what is under way."""
    servings = [
        server.serve(http_port=0, grpc_port=0, metrics_port=0),
        server.serve(http_port=0),
    ]
    urls = [
        *(servings[0].http_url, servings[0].grpc_url, servings[0].metrics_url),
        servings[1].http_url,
    ]
    with (
        ThreadPoolExecutor(3) as pool,
        tritonclient.http.InferenceServerClient(servings[0].http_url) as http,
        tritonclient.grpc.InferenceServerClient(servings[0].grpc_url) as grpc,
        server.hold("m") as held,
    ):
        asked = [
            pool.submit(http.infer, "m", [given(tritonclient.http)]),
            pool.submit(grpc.infer, "m", [given(tritonclient.grpc)]),
        ]
        held.wait(2)
        stopped = pool.submit(servings[0].stop)
        wait_until(lambda: all(map(refuses, urls[:3])))
        assert not refuses(urls[3])
        assert not any(each.done() for each in (*asked, stopped))
        held.release()
        for each in asked:
            assert isinstance(each.exception(PATIENCE), InferenceServerException)
        stopped.result(PATIENCE)


def test_the_port_of_metrics_does_not_wait_for_that_of_http(server: triton_stub.Server) -> None:
    with (
        ThreadPoolExecutor(2) as pool,
        HttpEndpoint(server, metrics_port=0) as endpoint,
        tritonclient.http.InferenceServerClient(endpoint.http_url) as http,
        server.hold("m") as held,
    ):
        asked = pool.submit(http.infer, "m", [given(tritonclient.http)])
        held.wait(1)
        stopped = pool.submit(endpoint.stop)
        wait_until(lambda: refuses(endpoint.metrics_url))
        assert not asked.done()
        held.release()
        assert isinstance(asked.exception(PATIENCE), InferenceServerException)
        stopped.result(PATIENCE)


def descriptors() -> int:
    """How many this process has."""
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize(
    ("where", "name"), [(asyncio, "SelectorEventLoop"), (threading.Thread, "start")]
)
def test_a_port_that_cannot_be_opened_is_closed(
    where: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There may be no descriptor left for its event loop, or no thread."""

    async def app(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise AssertionError

    port = Port(app, "127.0.0.1", 0)
    before = descriptors()
    with monkeypatch.context() as patched:
        patched.setattr(where, name, Mock(side_effect=OSError("of all things")))
        with pytest.raises(OSError, match="of all things"):
            port.start()
    assert not port.is_open
    port.stop()
    assert descriptors() == before
    port.start()
    assert not refuses(port.url)
    port.stop()
    assert refuses(port.url)


def test_ports_are_opened_together_or_not_at_all(
    server: triton_stub.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    start_port, start_grpc = Port.start, GrpcEndpoint.start

    def start(port: Port) -> None:
        if len(opened) == 2:
            raise OSError("of all things")
        start_port(port)
        opened.append(port.url)

    def start_first(endpoint: GrpcEndpoint) -> None:
        start_grpc(endpoint)
        opened.append(endpoint.grpc_url)

    monkeypatch.setattr(Port, "start", start)
    monkeypatch.setattr(GrpcEndpoint, "start", start_first)
    with pytest.raises(OSError, match="of all things"):
        server.serve(http_port=0, grpc_port=0, metrics_port=0)
    assert len(opened) == 2
    assert all(map(refuses, opened))


def given(client: Any) -> Any:
    return client.InferInput("X", [1], "FP32").set_data_from_numpy(np.ones(1, np.float32))


def test_a_port_that_is_opened_too_late_is_closed(
    server: triton_stub.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []
    start = Serving.start

    def stop_meanwhile(serving: Serving) -> Serving:
        start(serving)
        opened.append(serving.http_url)
        server.stop()
        return serving

    monkeypatch.setattr(Serving, "start", stop_meanwhile)
    with pytest.raises(ServerError, match="the server is stopping"):
        server.serve(http_port=0)
    (url,) = opened
    assert refuses(url)


def test_ports_that_are_stopped_are_forgotten(server: triton_stub.Server) -> None:
    gone = []
    for _ in range(3):
        with server.serve(http_port=0) as serving:
            gone.append(weakref.ref(serving))
        del serving

    def are_forgotten() -> bool:
        gc.collect()
        return not any(each() for each in gone[:-1])

    wait_until(are_forgotten)


def test_ports_that_are_started_again_close_with_the_server(server: triton_stub.Server) -> None:
    first = server.serve(http_port=0)
    first.stop()
    second = server.serve(http_port=0)
    first.start()
    assert not refuses(first.http_url)
    server.stop()
    assert refuses(first.http_url)
    assert refuses(second.http_url)
