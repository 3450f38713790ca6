"""Loading and unloading over HTTP, while others are answered."""

from __future__ import annotations

import base64
import http.client
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from instances import write_files
from patience import PATIENCE, wait_until

from triton_stub import Server

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
# Says that it is being loaded, and waits until it may go on.
SLOW = """
import pathlib
import time

class TritonPythonModel:
    def initialize(self, args):
        here = pathlib.Path(args["model_repository"])
        (here / "begun").touch()
        end = time.monotonic() + 60
        while not (here / "go").exists() and time.monotonic() < end:
            time.sleep(0.005)

    def execute(self, requests):
        raise ZeroDivisionError
"""
SLOW_MODELS = 12  # more than an event loop has threads on a small machine


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    models = {"quick": MODEL, **{f"slow_{number}": SLOW for number in range(SLOW_MODELS)}}
    for name, code in models.items():
        write_files(tmp_path / name, {"config.pbtxt": CONFIG, "1/model.py": code})
    with Server(tmp_path, model_control_mode="explicit", strict_model_config=True) as running:
        yield running


def ask(server: Server, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    connection = http.client.HTTPConnection(server.http_url, timeout=PATIENCE)
    try:
        connection.request(method, path, "" if body is None else json.dumps(body))
        response = connection.getresponse()
        text = response.read()
        return response.status, json.loads(text) if text else None
    finally:
        connection.close()


def load(server: Server, name: str, **parameters: str) -> tuple[int, Any]:
    body = {"parameters": parameters} if parameters else None
    return ask(server, "POST", f"/v2/repository/models/{name}/load", body)


def test_models_that_take_their_time_keep_nobody_waiting(server: Server, tmp_path: Path) -> None:
    slow = [f"slow_{number}" for number in range(SLOW_MODELS)]
    with ThreadPoolExecutor(SLOW_MODELS) as pool:
        assert load(server, "quick") == (200, None)
        loads = [pool.submit(load, server, name) for name in slow]
        try:
            wait_until(lambda: any((tmp_path / name / "begun").exists() for name in slow))
            for path in ("health/live", "models/quick/ready", "models/quick/config"):
                assert ask(server, "GET", f"/v2/{path}")[0] == 200
            assert ask(server, "POST", "/v2/repository/index", {"ready": True})[0] == 200
            assert not any(each.done() for each in loads)
        finally:
            for name in slow:
                (tmp_path / name / "go").touch()
        assert [each.result(timeout=PATIENCE) for each in loads] == [(200, None)] * SLOW_MODELS


def test_files_and_a_configuration(server: Server) -> None:
    config = json.dumps({"backend": "python", "max_batch_size": 3, "input": [], "output": []})
    assert load(server, "quick", config=config)[0] == 200
    assert server.model("quick").config()["max_batch_size"] == 3
    code = base64.b64encode(MODEL.encode()).decode()
    assert load(server, "new", **{"config": config, "file:1/model.py": f"-{code}==\n"})[0] == 200
    assert ask(server, "POST", "/v2/repository/models/new/unload") == (200, None)
    assert server.ready_versions("new") == []


@pytest.mark.parametrize(
    ("text", "content"),
    [("", b""), ("QQ==", b"A"), ("QQ", b"A"), ("Q", b""), ("QUJD", b"ABC"), ("Q U-J_D=", b"ABC"),
     ("QUJDQ", b"ABC"), ("QQ==QQ==", b"A\x04\x10")],
)  # fmt: skip
def test_base64_is_read_as_the_server_reads_it(
    server: Server, tmp_path: Path, text: str, content: bytes
) -> None:
    config = json.dumps({"backend": "python", "input": [], "output": []})
    code = base64.b64encode(
        b"import pathlib, shutil\n"
        b"class TritonPythonModel:\n"
        b"    def initialize(self, args):\n"
        b"        shutil.copy(pathlib.Path(args['model_repository']) / 'data', %r)\n"
        b"    def execute(self, requests):\n"
        b"        pass\n" % str(tmp_path / "copy")
    ).decode()
    files = {"file:1/model.py": code, "file:data": text}
    assert load(server, "quick", config=config, **files) == (200, None)
    assert (tmp_path / "copy").read_bytes() == content
