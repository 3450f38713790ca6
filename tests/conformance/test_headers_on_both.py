"""Headers that become parameters of a request, over HTTP and gRPC, on both."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import grpc
import grpc_models
import pytest
from broken_models import both_engines, write_models
from grpc_asking import LIMITS, failure, request
from patience import PATIENCE
from tritonclient.grpc import service_pb2_grpc

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


class Urls(NamedTuple):
    """Where headers are forwarded."""

    http: str
    grpc: str


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Urls, Urls]]:
    repository = tmp_path_factory.mktemp("headers")
    write_models(repository, {"echo": grpc_models.ECHO}, grpc_models.TELLING)
    options = [f"--{each}-header-forward-pattern={PATTERN}" for each in ("http", "grpc")]
    with both_engines(repository, options=options) as (stub, native):
        served = stub.server.serve(  # type: ignore[attr-defined]
            http_port=0,
            grpc_port=0,
            http_header_forward_pattern=PATTERN,
            grpc_options=GrpcOptions(header_forward_pattern=PATTERN),
        )
        yield (
            Urls(served.http_url, served.grpc_url),
            Urls(native.http_url, str(native.grpc_url)),
        )


def told_over_grpc(url: str, headers: Any, *, stream: bool) -> Any:
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
def test_headers_over_grpc(both: tuple[Urls, Urls], headers: Any, stream: bool) -> None:
    stub, native = (told_over_grpc(urls.grpc, headers, stream=stream) for urls in both)
    assert stub == native


HTTP_HEADERS: dict[str, list[tuple[str, str]]] = {
    "none": [],
    "upper case": [("x-Two", "2"), ("x-one", "1"), ("X-three", "3")],
    "of the same name": [("x-one", "1"), ("x-one", "2")],
    "of the same name in another case": [("x-one", "1"), ("x-One", "2")],
    "of the name of a parameter": [("x-own", "header")],
    "spaces": [("x-one", "  a b\t ")],
    "no ASCII": [("x-one", "\xc3\xa9")],
    "other": [("y-one", "1"), ("y-x-", "2"), ("user-agent", "me"), ("User-Agent", "you")],
}


def told_over_http(url: str, path: str, headers: list[tuple[str, str]]) -> Any:
    document = {
        "inputs": [{"name": "IN", "datatype": "FP32", "shape": [1], "data": [1]}],
        "parameters": {"x-own": "own"},
    }
    body = json.dumps(document if path == "infer" else {"IN": 1, "x-own": "own"}).encode()
    connection = http.client.HTTPConnection(url, timeout=PATIENCE)
    try:
        connection.putrequest("POST", f"/v2/models/echo/{path}", skip_accept_encoding=True)
        for name, value in (*headers, ("Content-Length", str(len(body)))):
            connection.putheader(name, value.encode("latin-1"))
        connection.endheaders(body)
        response = connection.getresponse()
        content = json.loads(response.read())
    finally:
        connection.close()
    if path == "generate":
        return response.status, json.loads(content["TOLD"])[4]
    return response.status, json.loads(content["outputs"][1]["data"][0])[4]


@pytest.mark.rule("5.2-headers")
@pytest.mark.parametrize("path", ["infer", "generate"])
@pytest.mark.parametrize("headers", HTTP_HEADERS.values(), ids=HTTP_HEADERS)
def test_headers_over_http(both: tuple[Urls, Urls], headers: Any, path: str) -> None:
    stub, native = (told_over_http(urls.http, path, headers) for urls in both)
    assert stub == native
