"""The HTTP port, with raw requests and with the official clients."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import pytest
import tritonclient.http
import tritonclient.http.aio
from model_files import ECHO, WAITING
from patience import wait_until
from tritonclient.http import InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

import triton_stub
from triton_stub import ServerError
from triton_stub.endpoints.http.endpoint import HttpEndpoint

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from triton_stub.datatypes import Array

CLIENTS = 16

CONFIG = """
backend: "python"
max_batch_size: 64
dynamic_batching { max_queue_delay_microseconds: 1000 }
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models that answer with what they were sent, one for each datatype under test."""
    root: Path = tmp_path_factory.mktemp("models")
    for datatype in ("FP32", "STRING", "BF16", "INT64"):
        write_model(root / datatype.lower(), datatype, ECHO)
    return root


def write_model(folder: Path, datatype: str, code: str) -> Path:
    """One input and one output X; returns the folder of the version."""
    version = folder / "1"
    version.mkdir(parents=True)
    tensor = f'[ {{ name: "X" data_type: TYPE_{datatype} dims: [ -1 ] }} ]'
    (folder / "config.pbtxt").write_text(f"{CONFIG}\ninput {tensor}\noutput {tensor}\n")
    (version / "model.py").write_text(code)
    return version


@pytest.fixture(scope="module")
def url(repository: Path) -> Iterator[str]:
    with triton_stub.Server(repository) as server:
        yield server.serve(http_port=0).http_url


@pytest.fixture
def client(url: str) -> Iterator[tritonclient.http.InferenceServerClient]:
    with tritonclient.http.InferenceServerClient(url, concurrency=4) as client:
        yield client


def ask(url: str, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(url, timeout=30)
    try:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, names)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def error(answer: tuple[int, bytes]) -> tuple[int, str]:
    text: str = json.loads(answer[1])["error"]
    return answer[0], text


def tensor(array: Array, datatype: str, *, binary: bool = True) -> InferInput:
    return InferInput("X", list(array.shape), datatype).set_data_from_numpy(
        array, binary_data=binary
    )


ARRAYS = {
    "fp32": (np.arange(6, dtype=np.float32).reshape(2, 3), "FP32"),
    "int64": (np.array([[2**62, -1]]), "INT64"),
    "string": (np.array([[b"a", b"", "é".encode()]], dtype=object), "BYTES"),
    "bf16": (np.array([[1.5, -2.0]], dtype=ml_dtypes.bfloat16), "BF16"),
}


@pytest.mark.parametrize(
    ("model", "binary_in", "binary_out"),
    [
        (model, binary_in, binary_out)
        for model in ARRAYS
        for binary_in in (True, False)
        for binary_out in (True, False)
        if model != "bf16" or (binary_in and binary_out)  # has no form in JSON
    ],
)
def test_the_official_client(
    client: tritonclient.http.InferenceServerClient,
    model: str,
    *,
    binary_in: bool,
    binary_out: bool,
) -> None:
    array, datatype = ARRAYS[model]
    result = client.infer(
        model,
        [tensor(array, datatype, binary=binary_in)],
        outputs=[InferRequestedOutput("X", binary_data=binary_out)],
        request_id="seven",
    )
    assert result.get_response()["id"] == "seven"
    read = np.asarray(result.as_numpy("X"))
    if not binary_out and read.dtype.kind in "OU":
        read = np.char.encode(read.astype(str), "utf-8").astype(object)
    assert read.tolist() == array.tolist()
    assert read.shape == array.shape


@pytest.mark.parametrize("binary", [True, False])
def test_tensors_without_elements(
    client: tritonclient.http.InferenceServerClient, *, binary: bool
) -> None:
    empty = np.empty((3, 0), np.float32)
    result = client.infer(
        "fp32",
        [tensor(empty, "FP32", binary=binary)],
        outputs=[InferRequestedOutput("X", binary_data=binary)],
    )
    assert result.get_output("X")["shape"] == [3, 0]
    assert result.as_numpy("X").size == 0


def test_a_large_tensor(client: tritonclient.http.InferenceServerClient) -> None:
    """Larger than any buffer on the way."""
    array = np.random.default_rng(0).random((8, 1_000_000), np.float32)
    result = client.infer("fp32", [tensor(array, "FP32")])
    assert np.array_equal(result.as_numpy("X"), array)


def test_what_the_official_client_asks_besides(
    client: tritonclient.http.InferenceServerClient, repository: Path
) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("fp32")
    assert client.is_model_ready("fp32", "1")
    assert not client.is_model_ready("fp32", "2")
    assert client.get_server_metadata()["name"] == "triton"
    assert client.get_model_metadata("fp32")["inputs"] == [
        {"name": "X", "datatype": "FP32", "shape": [-1, -1]}
    ]
    assert client.get_model_config("fp32")["max_batch_size"] == 64
    (statistics,) = client.get_inference_statistics("fp32")["model_stats"]
    assert statistics["name"] == "fp32"
    every = client.get_inference_statistics()["model_stats"]
    folders = sorted(folder.name for folder in repository.iterdir())
    assert [row["name"] for row in every] == folders
    assert [row["name"] for row in client.get_model_repository_index()] == folders


def test_an_error_is_the_official_client_s_exception(
    client: tritonclient.http.InferenceServerClient,
) -> None:
    with pytest.raises(InferenceServerException) as caught:
        client.infer("nope", [])
    assert caught.value.message() == "Request for unknown model: 'nope' is not found"
    assert caught.value.status() == "404"


def test_concurrent_clients(url: str) -> None:
    """Each thread gets its own answers."""

    def work(number: int) -> None:
        with tritonclient.http.InferenceServerClient(url) as client:
            for step in range(10):
                array = np.full((1, 3), 100 * number + step, np.float32)
                result = client.infer("fp32", [tensor(array, "FP32")], request_id=f"{number}")
                assert np.array_equal(result.as_numpy("X"), array)
                assert result.get_response()["id"] == f"{number}"

    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(work, range(CLIENTS)))


def test_the_asynchronous_client(url: str) -> None:
    async def work() -> None:
        async with tritonclient.http.aio.InferenceServerClient(url) as client:
            assert await client.is_server_ready()
            arrays = [np.full((1, 2), number, np.float32) for number in range(CLIENTS)]
            results = await asyncio.gather(
                *(client.infer("fp32", [tensor(array, "FP32")]) for array in arrays)
            )
            for array, result in zip(arrays, results, strict=True):
                assert np.array_equal(result.as_numpy("X"), array)

    asyncio.run(work())


def test_how_large_a_request_may_be(repository: Path) -> None:
    with triton_stub.Server(repository) as server:
        small = server.serve(http_port=0, http_max_input_size=10).http_url
        assert ask(small, "POST", "/v2/repository/index", b"[]" + bytes(8))[0] == 200
        status, text = error(ask(small, "POST", "/v2/repository/index", b"[]" + bytes(9)))
        assert status == 400
        assert text.startswith("request JSON size of 11 bytes exceeds the maximum allowed input ")
        with pytest.raises(ServerError, match=r"^max_input_size must be greater than 0, got 0$"):
            server.serve(http_port=0, http_max_input_size=0)


def test_a_connection_is_kept(url: str) -> None:
    connection = http.client.HTTPConnection(url, timeout=30)
    connection.request("POST", "/v2/models/nope/infer", b"x" * 200_000)
    assert connection.getresponse().read()
    before = connection.sock
    connection.request("GET", "/v2/health/live")
    assert connection.getresponse().status == 200
    assert connection.sock is before
    connection.close()


def test_a_client_that_hangs_up_harms_nobody(url: str) -> None:
    host, _, port = url.rpartition(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(
            b"POST /v2/models/fp32/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{"
        )
    assert ask(url, "GET", "/v2/health/live")[0] == 200


def test_a_defect_of_ours_is_an_answer_and_in_the_log(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with triton_stub.Server(repository) as server:

        def metadata() -> Any:
            raise ZeroDivisionError("of all things")

        monkeypatch.setattr(server, "metadata", metadata)
        status, text = error(ask(server.serve(http_port=0).http_url, "GET", "/v2"))
        assert status == 500
        assert "ZeroDivisionError: of all things" in text
        assert "in metadata" in str(server.log())


def test_stop_answers_what_is_under_way(tmp_path: Path) -> None:
    version = write_model(tmp_path / "waiting", "FP32", WAITING)
    body = b'{"inputs":[{"name":"X","datatype":"FP32","shape":[1,1],"data":[7]}]}'
    with triton_stub.Server(tmp_path) as server, ThreadPoolExecutor(2) as pool:
        endpoint = server.serve(http_port=0)
        url = endpoint.http_url
        answer = pool.submit(ask, url, "POST", "/v2/models/waiting/infer", body)
        wait_until((version / "begun").exists)
        stopped = pool.submit(endpoint.stop)
        wait_until(lambda: refuses(url))
        assert not answer.done()
        (version / "go").touch()
        stopped.result(timeout=60)
        status, content = answer.result(timeout=60)
    assert status == 200
    assert json.loads(content)["outputs"][0]["data"] == [7.0]


def refuses(url: str | None) -> bool:
    """True if the port is closed; not yet, if that happens while somebody connects."""
    assert url
    host, _, port = url.rpartition(":")
    try:
        socket.create_connection((host, int(port))).close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:
        return False
    return False


def test_stop_closes_the_port_and_ends_the_thread(repository: Path) -> None:
    before = threading.active_count()
    with triton_stub.Server(repository) as server:
        endpoint = server.serve(http_port=0)
        kept = http.client.HTTPConnection(endpoint.http_url, timeout=30)
        kept.request("GET", "/v2")
        assert kept.getresponse().read()
        endpoint.stop()
        endpoint.stop()
        assert refuses(endpoint.http_url)
        kept.close()
    assert threading.active_count() == before


def test_a_server_closes_every_port(repository: Path) -> None:
    with triton_stub.Server(repository) as server:
        urls = [server.serve(http_port=0).http_url, server.serve(http_port=0).http_url]
        assert len(set(urls)) == 2
        assert not any(map(refuses, urls))
    assert all(map(refuses, urls))


def test_a_stopped_endpoint_starts_again_on_its_port(repository: Path) -> None:
    with triton_stub.Server(repository) as server:
        endpoint = HttpEndpoint(server)
        with endpoint:
            first = endpoint.http_url
        with endpoint:
            assert endpoint.http_url == first
            assert ask(first, "GET", "/v2")[0] == 200


def test_a_port_in_use(repository: Path) -> None:
    with triton_stub.Server(repository) as server, socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ServerError) as caught:
            server.serve(http_port=port)
    assert str(caught.value) == (
        f"cannot serve HTTP at 127.0.0.1:{port}: the port is already in use; stop what listens "
        "there, or take another port (0 takes a free one)"
    )


@pytest.mark.parametrize(
    ("host", "port", "text"),
    [
        ("127.0.0.1", 70_000, "there is no port 70000: expected 1 to 65535, or 0 for a free one"),
        ("192.0.2.1", 0, "cannot serve HTTP at 192.0.2.1:0: "),
        ("no such host", 0, "cannot serve HTTP at no such host:0: "),
        ("a..b", 0, "cannot serve HTTP at a..b:0: "),
    ],
)  # fmt: skip
def test_a_place_that_cannot_be_served(repository: Path, host: str, port: int, text: str) -> None:
    with triton_stub.Server(repository) as server, pytest.raises(ServerError) as caught:
        server.serve(host=host, http_port=port)
    assert str(caught.value).startswith(text)


def test_an_ipv6_address(repository: Path) -> None:
    with triton_stub.Server(repository) as server:
        endpoint = server.serve(host="::1", http_port=0)
        assert endpoint.http_url.startswith("[::1]:")
        assert ask(endpoint.http_url, "GET", "/v2")[0] == 200


@pytest.mark.parametrize("missing", ["starlette", "uvicorn", "httptools"])
def test_a_missing_package(missing: str) -> None:
    script = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        "from triton_stub.errors import ServerError\n"
        "import triton_stub.server\n"
        "try:\n    import triton_stub.endpoints.http.endpoint\n"
        "except ServerError as error:\n    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == (
        f"the HTTP endpoint needs the package {missing!r}, which is not installed: "
        'pip install "triton-stub[serve]"\n'
    )
