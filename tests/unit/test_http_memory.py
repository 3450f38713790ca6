"""Shared memory over HTTP, of the stub alone: that it goes with the server, and may be refused."""

from __future__ import annotations

import contextlib
import gc
import json
import queue
from collections.abc import Iterator
from multiprocessing import shared_memory
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from model_files import ECHO
from patience import PATIENCE, wait_until
from test_http_endpoint import ask, error, write_model
from tritonclient.utils import InferenceServerException

import triton_stub

if TYPE_CHECKING:
    from pathlib import Path

SYSTEM = "/v2/systemsharedmemory"
VALUES = np.array([[1, 2, 3, 4]], np.float32)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("models")
    write_model(folder / "fp32", "FP32", ECHO)
    write_model(folder / "fails", "FP32", ECHO.replace("return", "raise ValueError; return"))
    return folder


@pytest.fixture
def block() -> Iterator[shared_memory.SharedMemory]:
    block = shared_memory.SharedMemory(create=True, size=64)
    try:
        assert block.buf is not None
        block.buf[:16] = VALUES.tobytes()
        yield block
    finally:
        block.close()
        block.unlink()


@pytest.fixture
def key(block: shared_memory.SharedMemory) -> str:
    return f"/{block.name.removeprefix('/')}"


def test_tensors_in_a_region(repository: Path, block: shared_memory.SharedMemory, key: str) -> None:
    with (
        triton_stub.Server(repository) as server,
        tritonclient.http.InferenceServerClient(server.http_url) as client,
    ):
        assert server.metadata()["extensions"].count("system_shared_memory") == 1
        client.register_system_shared_memory("r", key, 64)
        tensor = tritonclient.http.InferInput("X", VALUES.shape, "FP32")
        tensor.set_shared_memory("r", 16)
        wanted = tritonclient.http.InferRequestedOutput("X")
        wanted.set_shared_memory("r", 32, offset=32)
        answer = client.infer("fp32", [tensor], outputs=[wanted])
        assert answer.get_output("X") == {"name": "X", "datatype": "FP32", "shape": [1, 4]}
        assert block.buf is not None
        assert bytes(block.buf[32:48]) == VALUES.tobytes()
        assert [region.name for region in server.shared_memory.status()] == ["r"]
    assert server.shared_memory.status() == []


@pytest.mark.parametrize("kind", ["http", "grpc"])
@pytest.mark.parametrize("model", ["fp32", "fails"])
def test_a_region_is_in_use_no_longer_than_its_request(
    repository: Path, key: str, kind: Any, model: str
) -> None:
    """Not until Python finds a circle of an exception and its frames: who knows when that is."""
    with triton_stub.Server(repository) as server, server.client(kind) as client:
        client.register_system_shared_memory("r", key, 64)
        library = tritonclient.grpc if kind == "grpc" else tritonclient.http
        tensor = library.InferInput("X", VALUES.shape, "FP32")
        tensor.set_shared_memory("r", 16)
        gc.collect()
        gc.disable()
        try:
            with contextlib.suppress(InferenceServerException):
                client.infer(model, [tensor])
            client.unregister_system_shared_memory("r")
            wait_until(lambda: server.shared_memory.status() == [])
        finally:
            gc.enable()


def test_a_region_is_in_use_no_longer_than_its_request_of_a_stream(
    repository: Path, key: str
) -> None:
    """The stream goes on."""
    answers: queue.Queue[Any] = queue.Queue()
    with triton_stub.Server(repository) as server, server.client("grpc") as client:
        client.register_system_shared_memory("r", key, 64)
        client.start_stream(lambda result, error: answers.put((result, error)))
        tensor = tritonclient.grpc.InferInput("X", VALUES.shape, "FP32")
        tensor.set_shared_memory("r", 16)
        for model in ("fp32", "fails"):
            client.async_stream_infer(model, [tensor])
            answers.get(timeout=PATIENCE)
        client.unregister_system_shared_memory("r")
        wait_until(lambda: server.shared_memory.status() == [])


def test_regions_end_with_the_server(repository: Path, key: str) -> None:
    server = triton_stub.Server(repository)
    with server:
        server.shared_memory.register("r", key, 0, 64)
    with server:
        assert ask(server.http_url, "GET", f"{SYSTEM}/status") == (200, b"[]")


def test_regions_that_are_not_allowed(repository: Path, key: str) -> None:
    text = (
        "Client shared memory is disabled. Start the server with '--allow-client-shm=true' to "
        "enable."
    )
    with triton_stub.Server(repository, allow_client_shm=False) as server:
        url, body = server.http_url, json.dumps({"key": key, "byte_size": 64}).encode()
        for root in (SYSTEM, "/v2/cudasharedmemory"):
            for path in ("/register", "/region/r/register", "/unregister", "/region/r/unregister"):
                assert error(ask(url, "POST", root + path, body)) == (501, text)
            assert ask(url, "GET", f"{root}/status") == (200, b"[]")
