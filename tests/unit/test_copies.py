"""How often a large tensor is copied on its way: memory that Python has at most, not time.

The client's own buffers are made before anything is counted.
"""

from __future__ import annotations

import socket
import tracemalloc
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from instances import write_files
from patience import PATIENCE

import triton_stub

SIZE = 1 << 26
CONFIG = """
backend: "python"
input {{ name: "X" data_type: TYPE_INT8 dims: [ {taken} ] }}
output {{ name: "Y" data_type: TYPE_INT8 dims: [ {given} ] }}
"""
# What it gives is there before.
MODEL = """
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        self.given = np.full({given}, 7, np.int8)

    def execute(self, requests):
        tensor = pb_utils.Tensor("Y", self.given)
        return [pb_utils.InferenceResponse([tensor]) for _ in requests]
"""
SINK = (
    b'{"inputs":[{"name":"X","datatype":"INT8","shape":[%d],'
    b'"parameters":{"binary_data_size":%d}}]}' % (SIZE, SIZE)
)
SOURCE = (
    b'{"parameters":{"binary_data_output":true},'
    b'"inputs":[{"name":"X","datatype":"INT8","shape":[1],"data":[1]}]}'
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[triton_stub.Server]:
    folder = tmp_path_factory.mktemp("models")
    for name, sizes in {
        "sink": {"taken": SIZE, "given": 1},
        "source": {"taken": 1, "given": SIZE},
    }.items():
        files = {"config.pbtxt": CONFIG.format(**sizes), "1/model.py": MODEL.format(**sizes)}
        write_files(folder / name, files)
    with triton_stub.Server(folder) as running:
        yield running


@pytest.fixture
def connection(server: triton_stub.Server) -> Iterator[socket.socket]:
    host, _, port = server.http_url.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as connected:
        yield connected


def ask(connection: socket.socket, model: bytes, json: bytes, tensor: bytes = b"") -> None:
    connection.sendall(
        b"POST /v2/models/%b/infer HTTP/1.1\r\nConnection: close\r\nContent-Length: %d\r\n"
        b"Inference-Header-Content-Length: %d\r\n\r\n%b"
        % (model, len(json) + len(tensor), len(json), json)
    )
    connection.sendall(tensor)


def most_memory(work: Callable[[], None]) -> float:
    """How much more memory there was at most while it worked, in tensors."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1] / SIZE
    finally:
        tracemalloc.stop()


def fill(connection: socket.socket, answer: memoryview) -> memoryview:
    """What comes until the connection is closed, and is no more than there is room for."""
    filled = 0
    while count := connection.recv_into(answer[filled:]):
        filled += count
    return answer[:filled]


def test_a_large_body_is_there_once(connection: socket.socket) -> None:
    body = bytes(SIZE)
    answer = memoryview(bytearray(1 << 12))

    def work() -> None:
        ask(connection, b"sink", SINK, body)
        fill(connection, answer)

    assert 1 <= most_memory(work) < 1.1
    assert bytes(answer[:13]) == b"HTTP/1.1 200 "


def test_a_large_answer_is_there_once(connection: socket.socket) -> None:
    """As the model has given it, which may change its own array afterwards."""
    answer = memoryview(bytearray(SIZE + (1 << 12)))
    answers = []

    def work() -> None:
        ask(connection, b"source", SOURCE)
        answers.append(fill(connection, answer))

    assert 1 <= most_memory(work) < 1.1
    (came,) = answers
    assert bytes(came[:13]) == b"HTTP/1.1 200 "
    assert np.all(np.frombuffer(came[-SIZE:], np.int8) == 7)
