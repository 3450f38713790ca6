"""Large requests and answers in JSON do not keep others waiting."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import urllib3
from instances import write_files
from patience import PATIENCE

from triton_stub import Server
from triton_stub.core.tensor import Tensor
from triton_stub.datatypes import from_name
from triton_stub.endpoints.http import codec
from triton_stub.endpoints.http.outputs import OutputFormat, OutputFormats

CONFIG = """
backend: "python"
input { name: "X" data_type: TYPE_FP32 dims: [ -1 ] }
output { name: "Y" data_type: TYPE_FP32 dims: [ -1 ] }
"""
# Answers with as many values as it is told in the first.
MODEL = """
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        count = int(pb_utils.get_input_tensor_by_name(request, "X").as_numpy()[0])
        return pb_utils.InferenceResponse([pb_utils.Tensor("Y", np.ones(count, np.float32))])
"""
MANY = 500_000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("models")
    write_files(root / "m", {"config.pbtxt": CONFIG, "1/model.py": MODEL})
    with Server(root) as running:
        assert running.http_url  # which opens the port
        yield running


def infer(server: Server, given: int, wanted: int, *, binary: bool = False) -> int:
    """How many values are answered, in JSON or by their size."""
    tensor = {"name": "X", "datatype": "FP32", "shape": [given], "data": [wanted] * given}
    asked = {"inputs": [tensor], "parameters": {"binary_data_output": binary}}
    answer = urllib3.request(
        "POST",
        f"http://{server.http_url}/v2/models/m/infer",
        body=json.dumps(asked).encode(),
        timeout=PATIENCE,
    )
    assert answer.status == 200
    head = int(answer.headers.get("Inference-Header-Content-Length", len(answer.data)))
    (output,) = json.loads(answer.data[:head])["outputs"]
    return (len(answer.data) - head) // 4 if binary else len(output["data"])


@pytest.mark.parametrize(("work", "given", "wanted"), [("decode", MANY, 1), ("encode", 1, MANY)])
def test_others_are_answered_meanwhile(
    server: Server, monkeypatch: pytest.MonkeyPatch, work: str, given: int, wanted: int
) -> None:
    begun, go = threading.Event(), threading.Event()
    original = getattr(codec, work)

    def waiting(*args: Any, **keywords: Any) -> Any:
        begun.set()
        go.wait(PATIENCE)
        return original(*args, **keywords)

    monkeypatch.setattr(codec, work, waiting)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(infer, server, given, wanted)
        try:
            assert begun.wait(PATIENCE)
            live = f"http://{server.http_url}/v2/health/live"
            assert urllib3.request("GET", live, timeout=PATIENCE / 2, retries=False).status == 200
            assert not answer.done()
        finally:
            go.set()
        assert answer.result(PATIENCE) == wanted


@pytest.mark.parametrize(("wanted", "binary"), [(2, False), (2, True), (MANY, True)])
def test_what_is_done_quickly_needs_no_other_thread(
    server: Server, monkeypatch: pytest.MonkeyPatch, wanted: int, *, binary: bool
) -> None:
    threads = []

    def noted(original: Any) -> Any:
        def work(*args: Any, **keywords: Any) -> Any:
            threads.append(threading.current_thread().name)
            return original(*args, **keywords)

        return work

    monkeypatch.setattr(codec, "decode", noted(codec.decode))
    monkeypatch.setattr(codec, "encode", noted(codec.encode))
    assert infer(server, 1, wanted, binary=binary) == wanted
    assert threads == [f"http {server.http_url}"] * 2


def test_how_much_json_there_will_be() -> None:
    names = ("json", "binary", "classes", "shared")
    tensors = [Tensor(name, from_name("FP32"), (2, 3), bytes(24)) for name in names]
    wanted = {
        "binary": OutputFormat(binary=True),
        "classes": OutputFormat(classes=1),
        "shared": OutputFormat(region=memoryview(bytes(24))),
    }
    assert OutputFormats(wanted).json_size(tensors) == 6 * 20
    assert OutputFormats(wanted, binary_by_default=True).json_size(tensors) == 0
