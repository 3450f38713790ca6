"""HttpEngine against a server that answers what it is told to; nothing here imitates Triton."""

import asyncio
import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import ml_dtypes
import numpy as np
import pytest
from tritonclient.utils import InferenceServerException

from triton_stub.engines.engine import Engine
from triton_stub.engines.http import HttpEngine
from triton_stub.errors import InferenceError, ServerError, StatusCode


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        length = int(self.headers.get("Content-Length", 0))
        self.server.seen.append((self.command, self.path, self.rfile.read(length)))
        status, headers, body = self.server.answer
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815, the name is http.server's

    def log_message(self, *arguments):
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 64  # by default 5: more clients at once are reset


@pytest.fixture
def server():
    with Server(("127.0.0.1", 0), Handler) as server:
        server.seen = []
        server.answer = (200, {}, b"{}")
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def engine(server):
    with HttpEngine(f"http://127.0.0.1:{server.server_port}") as engine:
        yield engine


def answer_with(server, tensors, **fields):
    head = {"model_name": "m", "model_version": "1", "outputs": [], **fields}
    data = b""
    for name, datatype, shape, raw in tensors:
        size = {"binary_data_size": len(raw)}
        head["outputs"].append(
            {"name": name, "datatype": datatype, "shape": shape, "parameters": size}
        )
        data += raw
    text = json.dumps(head).encode()
    server.answer = (200, {"Inference-Header-Content-Length": len(text)}, text + data)


def request(server):
    """The JSON head of the last request, and its binary tail."""
    raw = server.seen[-1][2]
    head, end = json.JSONDecoder().raw_decode(raw.decode("latin-1"))
    return head, raw[end:]


def test_is_an_engine(engine, server):
    assert isinstance(engine, Engine)
    assert engine.name == f"http://127.0.0.1:{server.server_port}"
    assert engine.http_url == f"127.0.0.1:{server.server_port}"
    assert engine.grpc_url is None
    assert engine.log() == ""


def test_tensors_go_out_and_come_back(engine, server):
    half = np.array([[1.5, -2.0]], ml_dtypes.bfloat16)
    answer_with(
        server,
        [
            ("y", "BF16", [1, 2], half.tobytes()),
            ("s", "BYTES", [2], b"\x01\0\0\0\xff\0\0\0\0"),
            ("none", "FP32", [0, 3], b""),
        ],
        id="7",
        parameters={"p": True},
    )
    words = np.array(["é", "b"])
    result = engine.infer("m", {"x": half}, words=words, request_id="7", parameters={"q": 2})

    head, tail = request(server)
    assert head["id"] == "7"
    assert head["parameters"] == {"binary_data_output": True, "q": 2}
    assert [(i["name"], i["datatype"], i["shape"]) for i in head["inputs"]] == [
        ("x", "BF16", [1, 2]),
        ("words", "BYTES", [2]),
    ]
    assert tail == half.tobytes() + b"\x02\0\0\0\xc3\xa9\x01\0\0\0b"

    assert list(result) == ["y", "s", "none"]
    assert result["y"].dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(result["y"], half)
    assert result["s"].tolist() == [b"\xff", b""]
    assert result["none"].shape == (0, 3)
    assert (result.model_name, result.model_version, result.request_id) == ("m", "1", "7")
    assert result.parameters == {"p": True}


def test_only_wanted_outputs_are_asked_for(engine, server):
    answer_with(server, [("y", "INT8", [1], b"\x05")])
    assert engine.infer("m", outputs=["y"])["y"].tolist() == [5]
    head, _ = request(server)
    assert [output["name"] for output in head["outputs"]] == ["y"]


@pytest.mark.parametrize(
    ("ask", "path"),
    [
        (lambda e: e.server_metadata(), "/v2"),
        (lambda e: e.metadata("a b/c"), "/v2/models/a%20b%2Fc"),
        (lambda e: e.metadata("m", "3"), "/v2/models/m/versions/3"),
        (lambda e: e.config("m"), "/v2/models/m/config"),
        (lambda e: e.statistics(), "/v2/models/stats"),
        (lambda e: e.statistics("m", "3"), "/v2/models/m/versions/3/stats"),
        (lambda e: e.ready(), "/v2/health/ready"),
        (lambda e: e.ready("m"), "/v2/models/m/ready"),
        (lambda e: e.ready("m", "3"), "/v2/models/m/versions/3/ready"),
    ],
)
def test_paths(engine, server, ask, path):
    ask(engine)
    assert server.seen[-1][:2] == ("GET", path)


def test_path_before_v2_is_kept(server):
    with HttpEngine(f"127.0.0.1:{server.server_port}/behind/proxy/") as engine:
        engine.server_metadata()
    assert server.seen[-1][1] == "/behind/proxy/v2"


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, StatusCode.INVALID_ARG),
        (404, StatusCode.NOT_FOUND),
        (500, StatusCode.INTERNAL),
        (501, StatusCode.UNSUPPORTED),
        (503, StatusCode.UNAVAILABLE),
        (418, StatusCode.UNKNOWN),
    ],
)
def test_error_has_exactly_the_servers_text(engine, server, status, code):
    server.answer = (status, {}, json.dumps({"error": "what 'x'\n\nis: é"}).encode())
    with pytest.raises(InferenceError) as caught:
        engine.infer("m")
    assert (str(caught.value), caught.value.code) == ("what 'x'\n\nis: é", code)
    with pytest.raises(ServerError) as caught:
        engine.metadata("m")
    assert (str(caught.value), caught.value.code) == ("what 'x'\n\nis: é", code)
    assert not engine.ready("m")


def test_answer_that_is_not_tritons_is_shown(engine, server):
    server.answer = (502, {}, b"<html>Bad Gateway")
    with pytest.raises(ServerError, match=r"answered HTTP status 502: <html>Bad Gateway$"):
        engine.metadata("m")


@pytest.mark.parametrize("body", [b"# HELP nv_inference_count\n", b"", b"[]", b"\xff"])
def test_whoever_is_there_is_no_triton(engine, server, body):
    server.answer = (200, {}, body)
    with pytest.raises(ServerError, match="speaks HTTP, but not as Triton does") as caught:
        engine.server_metadata()
    assert caught.value.code is StatusCode.UNAVAILABLE


def test_an_answer_that_takes_too_long():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"127.0.0.1:{silent.getsockname()[1]}"
        with HttpEngine(url, timeout=0.01) as engine, pytest.raises(InferenceError) as caught:
            engine.infer("m")
    assert str(caught.value) == f"no answer from {url}: none within 0.01 s"


def hang_up(listening):
    connection, _ = listening.accept()
    connection.close()


def test_a_connection_that_ends():
    with socket.create_server(("127.0.0.1", 0)) as rude, ThreadPoolExecutor(1) as pool:
        url = f"127.0.0.1:{rude.getsockname()[1]}"
        closing = pool.submit(hang_up, rude)
        named = HttpEngine(url, name="it", timeout=60)
        with named as engine, pytest.raises(InferenceError) as caught:
            engine.infer("m")
        closing.result()
    assert str(caught.value).startswith(f"it: no answer from {url}: ")
    assert "'" not in str(caught.value)  # which what is printed of tuples and exceptions has


def test_nobody_there():
    with Server(("127.0.0.1", 0), Handler) as free:
        url = f"127.0.0.1:{free.server_port}"
    with HttpEngine(url) as engine:
        assert not engine.ready()
        with pytest.raises(InferenceError) as caught:
            engine.infer("m")
    assert str(caught.value) == (
        f"no answer from {url}: Connection refused; is a server running there?"
    )
    assert caught.value.code is StatusCode.UNAVAILABLE


def test_dtype_without_a_triton_datatype(engine, server):
    with pytest.raises(TypeError, match="input 'x' has dtype complex64"):
        engine.infer("m", x=np.zeros(1, np.complex64))
    assert server.seen == []


def test_reserved_parameter_is_refused_by_the_client(engine, server):
    with pytest.raises(InferenceError, match='"sequence_id" is a reserved parameter'):
        engine.infer("m", parameters={"sequence_id": 1})
    assert server.seen == []


def test_unknown_scheme():
    with pytest.raises(ValueError, match="expected an http or https URL"):
        HttpEngine("grpc://127.0.0.1:1")


def test_infer_from_many_threads(engine, server):
    answer_with(server, [("y", "INT8", [1], b"\x05")])
    got = []

    def ask():
        got.extend(int(engine.infer("m")["y"][0]) for _ in range(5))

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [5] * 80


def test_client_is_tritonclients(engine, server):
    server.answer = (200, {}, b'{"name": "triton"}')
    with engine.client() as client:
        assert client.get_server_metadata() == {"name": "triton"}


def test_client_for_asyncio(engine, server):
    server.answer = (200, {}, b'{"name": "triton"}')

    async def ask():
        async with engine.client("http.aio", conn_limit=2) as client:
            return await client.get_server_metadata()

    assert asyncio.run(ask()) == {"name": "triton"}


def test_client_of_grpc_needs_its_address(engine):
    with pytest.raises(ServerError, match="no gRPC endpoint is known; give grpc_url"):
        engine.client("grpc")
    with HttpEngine("localhost:1", grpc_url=engine.http_url) as known, known.client("grpc") as grpc:
        with pytest.raises(InferenceServerException) as caught:
            grpc.is_server_live(client_timeout=60)
        assert caught.value.status() == "StatusCode.UNAVAILABLE"  # there is HTTP


def test_client_of_no_kind(engine):
    with pytest.raises(ServerError, match="there is no kind of client 'grcp'"):
        engine.client("grcp")


def test_metrics_that_nobody_serves():
    with (
        HttpEngine("localhost:1", metrics_url="127.0.0.1:1") as engine,
        pytest.raises(ServerError, match=r"no answer from 127\.0\.0\.1:1: Connection refused"),
    ):
        engine.metrics()
