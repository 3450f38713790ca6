"""The gRPC port: where it is, what it does in trouble, and how it ends."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc
from model_files import ECHO, WAITING
from patience import PATIENCE, wait_until
from tritonclient.grpc import InferInput, service_pb2, service_pb2_grpc

import triton_stub
from triton_stub import ServerError
from triton_stub.endpoints.grpc.endpoint import GrpcEndpoint, GrpcOptions
from triton_stub.endpoints.serving import Serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONFIG = """
backend: "python"
input { name: "X" data_type: TYPE_FP32 dims: [ -1 ] }
output { name: "X" data_type: TYPE_FP32 dims: [ -1 ] }
"""
ROW = np.array([1, 2], np.float32)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[triton_stub.Server]:
    for name, code in (("echo", ECHO), ("waiting", WAITING)):
        version = tmp_path / name / "1"
        version.mkdir(parents=True)
        (tmp_path / name / "config.pbtxt").write_text(CONFIG)
        (version / "model.py").write_text(code)
    with triton_stub.Server(tmp_path) as server:
        yield server


def message(model: str = "echo") -> service_pb2.ModelInferRequest:
    return service_pb2.ModelInferRequest(
        model_name=model,
        inputs=[{"name": "X", "datatype": "FP32", "shape": [2]}],
        raw_input_contents=[ROW.tobytes()],
    )


def infer(url: str, model: str = "echo") -> bool:
    """True if a client of its own is answered."""
    inputs = [InferInput("X", [2], "FP32").set_data_from_numpy(ROW)]
    with tritonclient.grpc.InferenceServerClient(url) as client:
        answer = client.infer(model, inputs, client_timeout=PATIENCE).as_numpy("X")
    return bool((answer == ROW).all())


def is_closed(url: str) -> bool:
    with grpc.insecure_channel(url) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        try:
            stub.ServerLive(service_pb2.ServerLiveRequest(), timeout=PATIENCE)
        except grpc.RpcError as error:
            return bool(error.code() == grpc.StatusCode.UNAVAILABLE)
    return False


def test_a_port_of_the_server_s_own(server: triton_stub.Server) -> None:
    assert infer(server.grpc_url)
    assert server.grpc_url == server.grpc_url
    assert f"Started GRPCInferenceService at {server.grpc_url}" in str(server.log())


def test_it_closes_with_the_server(server: triton_stub.Server) -> None:
    urls = [server.grpc_url, server.serve(http_port=None, grpc_port=0).grpc_url]
    assert all(map(infer, urls))
    server.stop()
    assert all(map(is_closed, urls))


def test_a_port_in_use(server: triton_stub.Server, capfd: pytest.CaptureFixture[str]) -> None:
    port = int(server.grpc_url.rpartition(":")[2])
    with pytest.raises(ServerError) as caught:
        GrpcEndpoint(server, port=port).start()
    assert str(caught.value) == (
        f"cannot serve gRPC at 127.0.0.1:{port}: the port is already in use; stop what listens "
        "there, or take another port (0 takes a free one)"
    )
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("host", "port", "text"),
    [
        ("127.0.0.1", 70_000, "there is no port 70000: expected 1 to 65535, or 0 for a free one"),
        ("192.0.2.1", 0, "cannot serve gRPC at 192.0.2.1:0: "),
        ("a..b", 0, "cannot serve gRPC at a..b:0: "),
        ("unix:/no/such/folder/socket", 0, "cannot serve gRPC at unix:/no/such/folder/socket: "),
    ],
)
def test_a_place_that_cannot_be_served(
    server: triton_stub.Server,
    capfd: pytest.CaptureFixture[str],
    host: str,
    port: int,
    text: str,
) -> None:
    with pytest.raises(ServerError) as caught:
        GrpcEndpoint(server, host=host, port=port).listen()
    assert str(caught.value).startswith(text)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("host", ["::1", "localhost"])
def test_other_addresses(server: triton_stub.Server, host: str) -> None:
    with GrpcEndpoint(server, host=host) as endpoint:
        assert infer(endpoint.grpc_url)


def test_a_socket_with_a_path(server: triton_stub.Server, tmp_path: Path) -> None:
    where = f"unix:{tmp_path / 'socket'}"
    with GrpcEndpoint(server, host=where) as endpoint:
        assert endpoint.grpc_url == where
        assert infer(where)


def test_listening_takes_the_port_and_answers_nobody(server: triton_stub.Server) -> None:
    endpoint = GrpcEndpoint(server).listen()
    url = endpoint.grpc_url
    port = int(url.rpartition(":")[2])
    assert port
    with pytest.raises(ServerError, match="already in use"):
        GrpcEndpoint(server, port=port).listen()
    with ThreadPoolExecutor(1) as pool:
        answered = pool.submit(infer, url)
        with pytest.raises(TimeoutError):
            answered.result(0.2)
        endpoint.start()
        assert answered.result(PATIENCE)
    endpoint.stop()
    endpoint.stop()
    assert is_closed(url)


def test_a_port_that_was_only_taken_is_given_back(server: triton_stub.Server) -> None:
    endpoint = GrpcEndpoint(server).listen()
    url = endpoint.grpc_url
    endpoint.stop()
    with GrpcEndpoint(server, port=int(url.rpartition(":")[2])) as again:
        assert again.grpc_url == url
        assert infer(url)


def test_a_stopped_endpoint_starts_again_on_its_port(server: triton_stub.Server) -> None:
    endpoint = GrpcEndpoint(server)
    with endpoint:
        first = endpoint.grpc_url
        with pytest.raises(ServerError, match="was started before"):
            endpoint.start()
    with endpoint:
        assert endpoint.grpc_url == first
        assert infer(first)


def test_stop_answers_what_is_under_way(server: triton_stub.Server) -> None:
    endpoint = GrpcEndpoint(server).start()
    url = endpoint.grpc_url
    with ThreadPoolExecutor(2) as pool, server.hold("echo") as held:
        answer = pool.submit(infer, url)
        held.wait(1)
        stopped = pool.submit(endpoint.stop)
        wait_until(lambda: is_closed(url))
        assert not answer.done()
        held.release()
        assert answer.result(PATIENCE)
        stopped.result(PATIENCE)


def test_requests_while_the_server_stops(server: triton_stub.Server, tmp_path: Path) -> None:
    url = server.grpc_url
    folder = tmp_path / "waiting" / "1"
    with ThreadPoolExecutor(2) as pool, grpc.insecure_channel(url) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        answer = pool.submit(infer, url, "waiting")
        wait_until((folder / "begun").exists)
        stopped = pool.submit(server.stop)
        wait_until(lambda: not server.live())
        with pytest.raises(grpc.RpcError, match="has stopped accepting new requests"):
            stub.ModelInfer(message(), timeout=PATIENCE)
        assert not stub.ServerReady(service_pb2.ServerReadyRequest(), timeout=PATIENCE).ready
        (folder / "go").touch()
        assert answer.result(PATIENCE)
        stopped.result(PATIENCE)


def test_hundreds_of_calls_at_once(server: triton_stub.Server) -> None:
    count = 300
    with (
        grpc.insecure_channel(server.grpc_url) as channel,
        server.hold("echo") as held,
    ):
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        calls = [stub.ModelInfer.future(message(), timeout=PATIENCE) for _ in range(count)]
        held.wait(count)
        # Others are still answered.
        assert stub.ServerLive(service_pb2.ServerLiveRequest(), timeout=PATIENCE).live
        held.release()
        assert {call.result().raw_output_contents[0] for call in calls} == {ROW.tobytes()}


@pytest.mark.parametrize("way", ["cancelled", "deadline"])
def test_a_call_that_is_over_takes_no_thread(
    server: triton_stub.Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """But the model answers, and is counted and traced as ever."""
    monkeypatch.setattr("triton_stub.endpoints.grpc.endpoint._MOST_CALLS", 1)
    folder = tmp_path / "waiting" / "1"
    tracing = {"level": "TIMESTAMPS", "rate": "1", "file": str(tmp_path / "trace")}
    with (
        triton_stub.Server(server.options.model_repository, trace_config=tracing) as traced,
        grpc.insecure_channel(traced.grpc_url) as channel,
    ):
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        limit = PATIENCE if way == "cancelled" else 2
        call = stub.ModelInfer.future(message("waiting"), timeout=limit)
        wait_until((folder / "begun").exists)
        if way == "cancelled":
            call.cancel()
        else:
            with pytest.raises(grpc.RpcError, match="Deadline Exceeded"):
                call.result()
        assert stub.ServerLive(service_pb2.ServerLiveRequest(), timeout=PATIENCE / 2).live
        assert counted(traced) == (0, 0)
        (folder / "go").touch()
        wait_until(lambda: counted(traced) == (1, 0))
    text = (tmp_path / "trace").read_text()
    order = ["INFER_RESPONSE_COMPLETE", "GRPC_SEND_START", "GRPC_SEND_END"]
    assert [text.count(name) for name in order] == [1, 1, 1]
    assert sorted(order, key=text.index) == order


def counted(server: triton_stub.Server) -> tuple[int, int]:
    """Requests that went well, and that failed."""
    (row,) = server.statistics("waiting")["model_stats"]
    return row["inference_stats"]["success"]["count"], row["inference_stats"]["fail"]["count"]


# Ends while a model works on a call.
ABRUPT = """
import pathlib
import sys
import time
import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc
from triton_stub import Server

server = Server(sys.argv[1]).start()
stub = service_pb2_grpc.GRPCInferenceServiceStub(grpc.insecure_channel(server.grpc_url))
asked = service_pb2.ModelInferRequest.FromString(sys.stdin.buffer.read())
call = stub.ModelInfer.future(asked)
while not pathlib.Path(sys.argv[1], "waiting", "1", "begun").exists():
    time.sleep(0.01)
print("end")
"""


def test_no_call_keeps_a_process_from_ending(server: triton_stub.Server, tmp_path: Path) -> None:
    """One that has never stopped its server."""
    done = subprocess.run(
        [sys.executable, "-c", ABRUPT, str(tmp_path)],
        input=message("waiting").SerializeToString(),
        stdout=subprocess.PIPE,
        check=True,
        timeout=PATIENCE / 2,  # the model would wait for longer
    )
    assert done.stdout == b"end\n"


def test_its_threads_end(server: triton_stub.Server) -> None:
    before = set(threading.enumerate())
    with GrpcEndpoint(server) as endpoint:
        assert infer(endpoint.grpc_url)
    wait_until(
        lambda: not [each for each in set(threading.enumerate()) - before if each.is_alive()]
    )


def test_a_defect_of_ours_is_an_answer_and_in_the_log(
    server: triton_stub.Server,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def metadata() -> Any:
        raise ZeroDivisionError("of all things")

    monkeypatch.setattr(server, "metadata", metadata)
    with grpc.insecure_channel(server.grpc_url) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            stub.ServerMetadata(service_pb2.ServerMetadataRequest(), timeout=PATIENCE)
    error: Any = caught.value
    assert error.code() == grpc.StatusCode.INTERNAL
    assert "ZeroDivisionError: of all things" in error.details()
    assert "in metadata" in str(server.log())
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("level", ["none", "low", "medium", "high"])
def test_compressed_answers(server: triton_stub.Server, level: Any) -> None:
    options = GrpcOptions(infer_response_compression_level=level)
    with GrpcEndpoint(server, options=options) as endpoint:
        assert infer(endpoint.grpc_url)


def test_an_unknown_level_of_compression(server: triton_stub.Server) -> None:
    options = GrpcOptions(infer_response_compression_level="huge")  # type: ignore[arg-type]
    with pytest.raises(ServerError, match="expected one of none, low, medium, high, got 'huge'"):
        GrpcEndpoint(server, options=options)


def test_options_are_those_of_the_server() -> None:
    names = {name for name, _ in GrpcOptions(max_connection_age=1).for_channels()}
    assert "grpc.max_connection_age_ms" in names
    assert "grpc.max_connection_age_grace_ms" not in names
    assert ("grpc.keepalive_time_ms", 7_200_000) in GrpcOptions().for_channels()


def test_all_ports_together(server: triton_stub.Server) -> None:
    with server.serve(http_port=0, grpc_port=0, metrics_port=0) as serving:
        urls = {serving.http_url, serving.grpc_url, serving.metrics_url}
        assert len(urls) == 3
        assert infer(serving.grpc_url)
        with pytest.raises(ServerError, match="open already"):
            serving.start()
        first = serving.grpc_url
    assert is_closed(first)
    with serving:
        assert serving.grpc_url == first
        assert infer(first)


def test_ports_that_are_not_served(server: triton_stub.Server) -> None:
    with server.serve(http_port=None, grpc_port=0) as serving:
        assert serving.metrics_url is None
        with pytest.raises(ServerError, match="HTTP is not served here: give http_port"):
            _ = serving.http_url
    with server.serve(http_port=None, metrics_port=0) as serving:
        assert serving.metrics_url
        with pytest.raises(ServerError, match="gRPC is not served here: give grpc_port"):
            _ = serving.grpc_url
        with pytest.raises(ServerError, match="HTTP is not served here"):
            _ = serving.http_url
    with pytest.raises(ServerError, match="there is nothing to serve"):
        server.serve(http_port=None)


def test_a_port_in_use_leaves_no_other_open(server: triton_stub.Server) -> None:
    taken = int(server.http_url.rpartition(":")[2])
    serving = Serving(server, http_port=taken, grpc_port=0)
    with pytest.raises(ServerError, match="already in use"):
        serving.listen()
    port = int(serving.grpc_url.rpartition(":")[2])
    with GrpcEndpoint(server, port=port) as endpoint:
        assert infer(endpoint.grpc_url)


def test_ports_before_the_models(server: triton_stub.Server) -> None:
    """They can be taken while the server is not started, and told of it."""
    other = triton_stub.Server(server.options.model_repository)
    serving = Serving(other, grpc_port=0).listen()
    with other, serving:
        assert infer(serving.grpc_url)
