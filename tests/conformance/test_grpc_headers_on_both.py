"""gRPC: headers that become parameters of a request, on both."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import grpc
import grpc_models
import pytest
from broken_models import both_engines, write_models
from grpc_asking import LIMITS, failure, request
from patience import PATIENCE
from tritonclient.grpc import service_pb2_grpc

from triton_stub import Server
from triton_stub.endpoints.grpc.endpoint import GrpcOptions

PATTERN = "x-|agent"
HEADERS: dict[str, list[tuple[str, str | bytes]]] = {
    "none": [],
    "one": [("x-one", "1")],
    "two": [("x-two", "2"), ("x-one", "1")],
    "other": [("y-one", "1")],
    "in the middle": [("not-x-only", "1")],
    "of the same name": [("x-one", "1"), ("x-one", "2")],
    "binary": [("x-one-bin", b"\0\xffabc")],
    "binary text": [("x-one-bin", b"abc")],
    "of the name of a parameter": [("x-own", "header")],
    "empty": [("x-one", "")],
    "agent": [("agent-x", "a b")],
}


@pytest.fixture(scope="module")
def urls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    repository = tmp_path_factory.mktemp("headers")
    write_models(repository, {"echo": grpc_models.ECHO}, grpc_models.TELLING)
    with both_engines(repository, options=[f"--grpc-header-forward-pattern={PATTERN}"]) as engines:
        yield forwarding(engines.stub.server), str(engines.native.grpc_url)


def forwarding(server: Server) -> str:
    """A port that forwards headers."""
    options = GrpcOptions(header_forward_pattern=PATTERN)
    return server.serve(http_port=None, grpc_port=0, grpc_options=options).grpc_url


def told(url: str, headers: Any, *, stream: bool) -> Any:
    """Parameters that the model sees, but for who the client is."""
    message = request("echo", parameters={"x-own": "own"})
    with grpc.insecure_channel(url, LIMITS) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        try:
            if stream:
                messages = iter([message])
                (part,) = stub.ModelStreamInfer(messages, metadata=headers, timeout=PATIENCE)
                if part.error_message:
                    return part.error_message
                answer = part.infer_response
            else:
                answer = stub.ModelInfer(message, metadata=headers, timeout=PATIENCE)
        except grpc.RpcError as error:
            return failure(error)
    seen = json.loads(answer.raw_output_contents[1][4:])[4]
    assert seen.pop("user-agent").startswith("grpc-python/")
    return seen


@pytest.mark.rule("5.2-headers")
@pytest.mark.parametrize("stream", [False, True], ids=["one by one", "stream"])
@pytest.mark.parametrize("headers", HEADERS.values(), ids=HEADERS)
def test_forwarded_headers(urls: tuple[str, str], headers: Any, stream: bool) -> None:
    stub, native = (told(url, headers, stream=stream) for url in urls)
    assert stub == native
