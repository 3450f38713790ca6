"""Work beside the event loop, and models that take their time to say whether they are ready."""

from __future__ import annotations

import asyncio
import http.client
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from instances import write_files
from patience import PATIENCE, wait_until

from triton_stub import Server
from triton_stub.endpoints.http import threads

CONFIG = """
backend: "python"
input { name: "X" data_type: TYPE_FP32 dims: [ 1 ] }
output { name: "Y" data_type: TYPE_FP32 dims: [ 1 ] }
"""
# Says that it is asked, and waits until it may go on.
MODEL = """
import pathlib
import time
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def is_ready(self):
        here = pathlib.Path(pb_utils.get_model_dir())
        (here / "begun").touch()
        end = time.monotonic() + 60
        while not (here / "go").exists() and time.monotonic() < end:
            time.sleep(0.005)
        return True

    def execute(self, requests):
        raise ZeroDivisionError
"""
CALLS = 40  # more than an event loop has threads
LARGE = b"[" + b"1," * 600_000  # what is no JSON in the end, is read in one of those


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_files(tmp_path / "slow", {"config.pbtxt": CONFIG, "1/model.py": MODEL})
    return tmp_path / "slow" / "1"


@pytest.fixture
def server(folder: Path) -> Iterator[Server]:
    with Server(folder.parents[1], strict_model_config=True) as running:
        assert running.http_url  # which opens the port
        yield running


def status(server: Server, path: str, body: bytes = b"") -> int:
    connection = http.client.HTTPConnection(server.http_url, timeout=PATIENCE)
    try:
        connection.request("POST" if body else "GET", path, body)
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.mark.parametrize(
    "path", ["/v2/models/slow/ready", "/v2/models/slow/trace/setting", "/v2/health/ready"]
)
def test_a_model_that_takes_its_time_keeps_nobody_waiting(
    server: Server, folder: Path, path: str
) -> None:
    with ThreadPoolExecutor(CALLS) as pool:
        asked = [pool.submit(status, server, path) for _ in range(CALLS)]
        try:
            wait_until((folder / "begun").exists)
            assert status(server, "/v2/health/live") == 200
            assert status(server, "/v2/models/slow/infer", LARGE) == 500
            assert not any(each.done() for each in asked)
        finally:
            (folder / "go").touch()
        assert {each.result(timeout=PATIENCE) for each in asked} == {200}


def test_who_works_does_not_take_the_threads_of_the_loop() -> None:
    go = threading.Event()

    async def main() -> list[bool]:
        waiting = [asyncio.ensure_future(threads.call(go.wait)) for _ in range(100)]
        await asyncio.sleep(0)
        await asyncio.wait_for(asyncio.to_thread(go.set), PATIENCE)
        return await asyncio.gather(*waiting)

    assert asyncio.run(main()) == [True] * 100


def test_what_is_raised_is_for_whoever_waits() -> None:
    with pytest.raises(ZeroDivisionError):
        asyncio.run(threads.call(lambda: 1 // 0))


def test_the_loop_ends_without_it() -> None:
    go = threading.Event()

    async def main() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(threads.call(go.wait), 0.01)

    asyncio.run(main())
    go.set()
