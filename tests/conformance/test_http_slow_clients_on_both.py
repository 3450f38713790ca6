"""Clients that send or read slowly, or are gone before they are answered."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from broken_models import both_engines, write_models
from comparing import Engines
from patience import wait_until
from raw_http import CLOSED, Reply, connected, exchange, post, replies
from test_http_errors import LENGTH

from triton_stub.engines.engine import Engine

# Says that it has begun, waits until it may go on, or is cancelled, and says which.
WAIT = """
import pathlib
import time
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        here = pathlib.Path(pb_utils.get_model_dir()) / request.request_id()
        here.with_suffix(".begun").touch()
        end = time.monotonic() + 60
        while not here.with_suffix(".go").exists() and time.monotonic() < end:
            if request.is_cancelled():
                here.with_suffix(".cancelled").touch()
                break
            time.sleep(0.005)
        here.with_suffix(".done").touch()
        tensor = pb_utils.get_input_tensor_by_name(request, "IN")
        return pb_utils.InferenceResponse([pb_utils.Tensor("OUT", tensor.as_numpy())])
"""
ECHO = """
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        tensor = pb_utils.get_input_tensor_by_name
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor("OUT", tensor(each, "IN").as_numpy())])
            for each in requests
        ]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository, and where the model says how far it is."""
    repository: Path = tmp_path_factory.mktemp("waiting")
    write_models(repository, {"wait": WAIT, "echo": ECHO})
    return repository


@pytest.fixture(scope="module")
def waiting(folder: Path) -> Iterator[Engines]:
    with both_engines(folder, strict=True) as engines:
        yield engines


def url_of(engine: Engine) -> str:
    assert engine.http_url
    return engine.http_url


def request_to(model: str, identifier: str = "", count: int = 1) -> bytes:
    """A request of so many zeros."""
    entry = {"name": "IN", "datatype": "FP32", "shape": [count],
             "parameters": {"binary_data_size": 4 * count}}  # fmt: skip
    text = json.dumps({"id": identifier, "inputs": [entry],
                       "parameters": {"binary_data_output": True}}).encode()  # fmt: skip
    body = text + bytes(4 * count)
    return post(f"/v2/models/{model}/infer", body, f"{LENGTH}: {len(text)}")


@pytest.fixture
def told(folder: Path) -> Path:
    """Where files appear: the id of a request, and how far it is."""
    return folder / "wait" / "1"


@pytest.mark.deviation("client-gone")
@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_client_that_hangs_up(waiting: Engines, told: Path, how: str) -> None:
    for name, engine in zip(waiting._fields, waiting, strict=True):
        identifier = f"{how}-{name}"
        with connected(url_of(engine)) as connection:
            connection.sendall(request_to("wait", identifier))
            wait_until((told / f"{identifier}.begun").exists)
            if how == "reset":
                linger = struct.pack("ii", 1, 0)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        if name == "native":
            (told / f"{identifier}.go").touch()
        wait_until((told / f"{identifier}.done").exists)
        assert (told / f"{identifier}.cancelled").exists() == (name == "stub")


@pytest.mark.rule("5.1-hang-up")
def test_a_client_that_closes_its_side_alone_gets_its_answer(waiting: Engines, told: Path) -> None:
    answers = []
    for name, engine in zip(waiting._fields, waiting, strict=True):
        with connected(url_of(engine)) as connection:
            connection.sendall(request_to("wait", f"half-{name}"))
            wait_until((told / f"half-{name}.begun").exists)
            connection.shutdown(socket.SHUT_WR)
            (told / f"half-{name}.go").touch()
            (answer,) = replies(connection)
            assert isinstance(answer, Reply)
            answers.append((answer.status, answer.blobs, replies(connection)))
    assert answers[0] == answers[1] == (200, bytes(4), [CLOSED])


@pytest.mark.rule("5.1-hang-up")
def test_a_client_that_hangs_up_in_the_middle_of_a_request(waiting: Engines) -> None:
    data = request_to("echo")
    for engine in waiting:
        for size in (5, 40, len(data) - 1):
            with connected(url_of(engine)) as connection:
                connection.sendall(data[:size])
        assert isinstance(exchange(url_of(engine), data)[0], Reply)


@pytest.mark.rule("5.1-slow-clients")
def test_slow_clients_keep_nobody_waiting(waiting: Engines) -> None:
    """Each has sent a part of its request; in the end each gets its answer.

    All have sent the first line: what comes of it in parts the real server puts together wrongly.
    """
    data = request_to("echo")
    line = data.index(b"\n")
    for engine in waiting:
        with contextlib.ExitStack() as opened:
            slow = [opened.enter_context(connected(url_of(engine))) for _ in range(40)]
            cuts = [line + (len(data) - line) * n // len(slow) for n in range(len(slow))]
            for cut, connection in zip(cuts, slow, strict=True):
                connection.sendall(data[:cut])
            (expected,) = exchange(url_of(engine), data)
            assert isinstance(expected, Reply)
            for cut, connection in zip(cuts, slow, strict=True):
                connection.sendall(data[cut:])
                assert replies(connection) == [expected]


@pytest.mark.rule("5.1-slow-clients")
def test_clients_that_do_not_read_keep_nobody_waiting(waiting: Engines) -> None:
    count = 2_000_000  # more bytes than any buffer of the system's holds
    for engine in waiting:
        with contextlib.ExitStack() as opened:
            lazy = [opened.enter_context(connected(url_of(engine))) for _ in range(10)]
            for connection in lazy:
                connection.sendall(request_to("echo", count=count))
            (answer,) = exchange(url_of(engine), request_to("echo"))
            assert isinstance(answer, Reply)
            for connection in lazy:
                (answer,) = replies(connection)
                assert isinstance(answer, Reply)
                assert answer.blobs == bytes(4 * count)
