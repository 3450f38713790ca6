"""The generate extension: what the conformance suite cannot ask the real server."""

from __future__ import annotations

import asyncio
import http.client
import json
import logging
import socket
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from patience import PATIENCE, wait_until

import triton_stub
from triton_stub.config.reading import parse
from triton_stub.core.request import InferenceRequest, InferenceResponse
from triton_stub.core.responses import Responses
from triton_stub.core.tensor import Tensor
from triton_stub.endpoints.http import generation, mapping
from triton_stub.endpoints.http.departure import Departure
from triton_stub.errors import InferenceError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONFIG = """
backend: "python"
input { name: "text_input" data_type: TYPE_STRING dims: [ 1 ] }
output { name: "text_output" data_type: TYPE_STRING dims: [ 1 ] }
"""
# The text is the body of execute.
MODEL = """
import json
import threading
import time

import numpy as np
import triton_python_backend_utils as pb_utils

kept = {}

def text(value):
    tensor = pb_utils.Tensor("text_output", np.array([str(value).encode()], object))
    return pb_utils.InferenceResponse([tensor])

class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            code = pb_utils.get_input_tensor_by_name(request, "text_input").as_numpy()[0]
            sender = request.get_response_sender()
            exec(code, {**globals(), "request": request, "sender": sender})
"""
DECOUPLED = "model_transaction_policy { decoupled: true }"
STREAM = "decoupled/generate_stream"


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root: Path = tmp_path_factory.mktemp("models")
    for name, more in (("once", ""), ("decoupled", DECOUPLED)):
        (root / name / "1").mkdir(parents=True)
        (root / name / "1" / "model.py").write_text(MODEL)
        (root / name / "config.pbtxt").write_text(CONFIG + more)
    return root


@pytest.fixture(scope="module")
def url(repository: Path) -> Iterator[str]:
    with triton_stub.Server(repository) as server:
        yield server.http_url


def ask(url: str, path: str, code: str, **members: Any) -> tuple[int, list[Any]]:
    """The status, and each event as JSON; of generate there is one."""
    connection = http.client.HTTPConnection(url, timeout=PATIENCE)
    try:
        body = json.dumps({"text_input": code, **members})
        connection.request("POST", f"/v2/models/{path}", body)
        response = connection.getresponse()
        content = response.read().decode()
    finally:
        connection.close()
    if response.headers["Content-Type"] == generation.EVENTS:
        events = content.removesuffix("\n\n").split("\n\n") if content else []
        return response.status, [json.loads(event.removeprefix("data: ")) for event in events]
    return response.status, [json.loads(content)]


def connect(url: str, path: str, code: str) -> socket.socket:
    host, port = url.split(":")
    connection = socket.create_connection((host, int(port)), timeout=PATIENCE)
    body = json.dumps({"text_input": code}).encode()
    head = f"POST /v2/models/{path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    connection.sendall(head.encode() + body)
    return connection


def config(inputs: str, batch: int = 0) -> Any:
    return parse(f'name: "m" max_batch_size: {batch} {inputs}')


def decode(document: Any, inputs: str, batch: int = 0, size: int = 1 << 26) -> InferenceRequest:
    body = json.dumps(document).encode()
    return mapping.decode(body, config(inputs, batch), -1, size)


def entry(name: str, datatype: str, *dims: int) -> str:
    return f'input {{ name: "{name}" data_type: TYPE_{datatype} dims: {list(dims)} }}'


def test_inputs_and_parameters() -> None:
    inputs = entry("a", "INT32", -1) + entry("b", "STRING", 1)
    document = {"b": "x", "y": 1.5, "id": "i", "parameters": {"a": [1, 2], "z": True}}
    request = decode(document, inputs, 4)
    assert request.request_id == "i"
    assert request.parameters == {"y": 1.5, "id": "i", "z": True}
    assert [(each.name, each.shape) for each in request.inputs] == [("b", (1, 1)), ("a", (1, 2))]
    assert [each.to_numpy().tolist() for each in request.inputs] == [[[b"x"]], [[1, 2]]]


@pytest.mark.parametrize(
    ("dims", "batch", "count", "shape"),
    [
        ((-1,), 0, 3, (3,)),
        ((-1,), 8, 3, (1, 3)),
        ((2, 3), 0, 6, (2, 3)),
        ((2, 3), 8, 12, (2, 2, 3)),
        ((-1, -1), 0, 4, (1, 4)),
        ((-1, 2), 0, 4, (2, 2)),
        ((2, -1), 8, 4, (1, 2, 2)),
        ((1,), 0, 1, (1,)),
        ((2, 3), 0, 5, None),
        ((2, 3), 0, 12, None),
        ((-1, 3), 8, 4, None),
    ],
)
def test_shapes(
    dims: tuple[int, ...], batch: int, count: int, shape: tuple[int, ...] | None
) -> None:
    document = {"a": list(range(count))}
    if shape is None:
        with pytest.raises(InferenceError, match="can not convert input 'a'"):
            decode(document, entry("a", "INT32", *dims), batch)
    else:
        request = decode(document, entry("a", "INT32", *dims), batch)
        assert request.inputs[0].shape == shape


@pytest.mark.parametrize(("datatype", "value"), [("INT32", []), ("STRING", [[], []]), ("FP16", [])])
def test_an_input_without_elements(datatype: str, value: Any) -> None:
    (tensor,) = decode({"a": value}, entry("a", datatype, -1)).inputs
    assert (tensor.shape, tensor.byte_size) == ((), 0)


def test_inputs_that_are_too_large() -> None:
    inputs = entry("a", "INT32", -1) + entry("b", "STRING", -1)
    document = {"a": [1, 2], "b": ["abc", ""]}
    assert len(decode(document, inputs, size=19).inputs) == 2
    with pytest.raises(InferenceError) as caught:
        decode(document, inputs, size=18)
    assert caught.value.message == (
        "request size of 8 bytes with input 'b' of size 11 bytes exceeds the maximum allowed input "
        "size of 18. Use --http-max-input-size to increase the limit."
    )
    # What is inside of parameters is counted for itself.
    nested = {"a": [1, 2], "parameters": {"b": ["abc", ""]}}
    assert len(decode(nested, inputs, size=11).inputs) == 2


def test_a_response_hides_what_has_its_names() -> None:
    tensors = [
        Tensor.from_numpy("z", np.array([1, 2])),
        Tensor.from_numpy("a", np.array([[3]])),
        Tensor.from_numpy("p", np.array([4])),
        # Neither has a form in JSON, and neither is looked at.
        Tensor.from_numpy("id", np.array([5], np.float16)),
        Tensor.from_numpy("model_name", np.array([6], np.float16)),
    ]
    response = InferenceResponse(
        model_name="m",
        model_version="1",
        request_id="i",
        tensors=tensors,
        parameters={"p": "parameter", "model_version": 7},
    )
    assert list(mapping.encode(response).items()) == [
        *(("a", 3), ("id", "i"), ("model_name", "m")),
        *(("model_version", "1"), ("p", "parameter"), ("z", [1, 2])),
    ]


def run(answer: generation.Stream | generation.Single) -> tuple[int, bytes]:
    """The status and the body of an answer to a client that stays."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        await asyncio.Event().wait()

    asyncio.run(answer({}, receive, send))
    return sent[0]["status"], b"".join(message["body"] for message in sent[1:])


@pytest.mark.parametrize("before", [0, 1])
def test_a_model_that_goes_on_without_an_answer(before: int) -> None:
    def responses() -> Responses:
        responses = Responses(timeout=0.01)
        for _ in range(before):
            responses.put(InferenceResponse(model_name="m", model_version="1", final=False))
        return responses

    status, body = run(generation.Stream(responses(), None, Departure(), dict))
    *events, last = body.removesuffix(b"\n\n").split(b"\n\n")
    assert len(events) == before
    assert status == (200 if before else 400)
    assert "no response within 0.01 s" in json.loads(last.removeprefix(b"data: "))["error"]
    status, body = run(generation.Single(responses(), None, Departure(), dict))
    assert status == (200 if before else 400)
    assert ("exactly 1 response" if before else "within 0.01 s") in json.loads(body)["error"]


def test_whoever_does_not_read_keeps_nobody_waiting(url: str) -> None:
    many = "for i in range(64): sender.send(text('x' * (1 << 19)))\nsender.send(flags=1)"
    with connect(url, STREAM, many) as connection:
        head = connection.recv(1024)
        assert head.startswith(b"HTTP/1.1 200")
        for number in range(3):
            answer = ask(url, "once/generate", f"sender.send(text({number}), flags=1)")
            assert answer[1][0]["text_output"] == str(number)
        size = 0
        end = b""
        while not end.endswith(b"\r\n0\r\n\r\n"):
            part = connection.recv(1 << 20)
            size += len(part)
            end = (end + part)[-16:]
    assert size > 64 << 19


def test_streams_side_by_side(url: str) -> None:
    code = "for i in range(20): sender.send(text(i))\nsender.send(flags=1)"
    found: list[list[str]] = []

    def read() -> None:
        found.append([event["text_output"] for event in ask(url, STREAM, code)[1]])

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == 8 * [list(map(str, range(20)))]


# Sends until it is cancelled, from a thread of its own.
ENDLESS = """
def work():
    while not request.is_cancelled():
        sender.send(text("more"))
        time.sleep(0.001)
    kept["over"] = True
    sender.send(text("last"), flags=1)
threading.Thread(target=work).start()
"""


@pytest.mark.parametrize("says_no_more", [False, True])
def test_a_client_that_goes_away(
    url: str, caplog: pytest.LogCaptureFixture, *, says_no_more: bool
) -> None:
    with caplog.at_level(logging.DEBUG), connect(url, STREAM, ENDLESS) as connection:
        assert b"200" in connection.recv(1024)
        if says_no_more:
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(1 << 16):
                pass
        else:
            connection.close()
        over = "sender.send(text(kept.pop('over', False)), flags=1)"
        wait_until(
            lambda: ask(url, "decoupled/generate", over)[1][0]["text_output"] == "True",
            "the model is not cancelled",
        )
    assert not [record for record in caplog.records if record.name.startswith("uvicorn")]


def test_responses_that_nobody_wants_are_not_kept() -> None:
    responses = Responses()
    response = InferenceResponse(model_name="m", model_version="1", final=False)
    responses.put(response)
    generation.discard(responses)
    assert responses.take() is None
    responses.put(response)
    assert responses.take() is None


def stamps(folder: Path, number: int) -> list[tuple[str, int]]:
    path = folder / f"trace.{number}"
    wait_until(lambda: path.exists() and path.read_bytes().endswith(b"]"))
    records = json.loads(path.read_bytes())
    found = [record["timestamps"][0] for record in records if "timestamps" in record]
    return [(stamp["name"], stamp["ns"]) for stamp in found]


def test_traces(repository: Path, tmp_path: Path) -> None:
    settings = {"level": "TIMESTAMPS", "rate": "1", "log-frequency": "1"}
    three = "for i in range(3): sender.send(text(i))\nsender.send(flags=1)"
    with triton_stub.Server(
        repository, trace_config={**settings, "file": str(tmp_path / "trace")}
    ) as server:
        url = server.http_url
        assert ask(url, "nope/generate", three)[0] == 404
        assert ask(url, "once/generate", "", x=None)[0] == 400
        ask(url, STREAM, three)
        ask(url, "decoupled/generate", three)
        with connect(url, STREAM, ENDLESS) as connection:
            assert b"200" in connection.recv(1024)
        streamed, single, left = (stamps(tmp_path, number) for number in range(3))
    # The server does not know when it sends a chunk.
    sent = [("HTTP_SEND_START", 0), ("HTTP_SEND_END", 0)]
    assert [stamp for stamp in streamed if stamp[0].startswith("HTTP_SEND")] == 3 * sent
    names = [name for name, _ in streamed]
    assert names[:2] == ["HTTP_RECV_START", "HTTP_RECV_END"]
    assert names.count("INFER_RESPONSE_COMPLETE") == 4
    assert sent[0] not in single
    assert sent[0] in left
