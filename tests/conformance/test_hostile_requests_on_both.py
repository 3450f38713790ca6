"""What no client means: numbers without end, sizes beyond all bounds, brackets in brackets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from broken_models import both_engines, write_models
from comparing import Engines
from test_http_errors import GOOD, LENGTH, ask, document, infer, same, tensor
from tritonclient.grpc import service_pb2

from triton_stub import deviations
from triton_stub.engines.engine import Engine

LONG = "1" * 5000
MODEL = "class TritonPythonModel:\n    def execute(self, requests): ...\n"


@pytest.fixture(scope="module")
def loading(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    """Both servers with a model that clients may load."""
    repository = tmp_path_factory.mktemp("repository")
    write_models(repository, {"m": MODEL})
    explicit = ["--model-control-mode=explicit"]
    with both_engines(repository, options=explicit, model_control_mode="explicit") as engines:
        yield engines


@pytest.mark.rule("5.5-hostile-numbers")
@pytest.mark.parametrize("digits", [LONG, "0" * 3000 + "1", "9" * 20])
def test_versions_of_thousands_of_digits(both_urls: tuple[str, str], digits: str) -> None:
    # Not longer, because the real server mixes up what goes on beyond its buffer of 4 KiB.
    # The statistics of a version that there is tell times.
    for path in ("", "/ready", "/config", *(["/stats"] if digits[0] != "0" else [])):
        same(both_urls, "GET", f"/v2/models/add/versions/{digits[:3500]}{path}")


@pytest.mark.rule("5.5-hostile-numbers")
@pytest.mark.parametrize("sign", ["", "-", "+", " "])
def test_headers_of_thousands_of_digits(both_urls: tuple[str, str], sign: str) -> None:
    for digits in (LONG, "0" * 5000, "0" * 5000 + f"{len(GOOD)}"):
        infer(both_urls, GOOD, {LENGTH: sign + digits})


@pytest.mark.rule("5.5-hostile-numbers")
@pytest.mark.parametrize("setting", ["trace_rate", "trace_count", "log_frequency"])
@pytest.mark.parametrize("sign", ["", "-"])
def test_settings_of_thousands_of_digits(
    both_urls: tuple[str, str], setting: str, sign: str
) -> None:
    body = json.dumps({setting: sign + LONG}).encode()
    assert same(both_urls, "POST", "/v2/trace/setting", body).status == 400


@pytest.mark.rule("5.5-hostile-numbers")
@pytest.mark.parametrize("text", [LONG, "-" + LONG, f"0.{LONG}", "1e-5000"])
def test_numbers_of_thousands_of_digits_in_json(both_urls: tuple[str, str], text: str) -> None:
    infer(both_urls, GOOD[:-1] + f',"x":{text}}}'.encode())
    infer(both_urls, b'{"id":"\xff",' + f'"x":{text},'.encode() + GOOD[1:])


def nested(levels: int) -> bytes:
    return b"[" * levels + b"]" * levels


@pytest.mark.rule("5.5-hostile-nesting")
@pytest.mark.parametrize("levels", [90, 900])
def test_nested_json(both_urls: tuple[str, str], levels: int) -> None:
    infer(both_urls, nested(levels))
    assert infer(both_urls, b'{"x":' + nested(levels) + b"," + GOOD[1:]).status == 200


@pytest.mark.deviation("deep-json")
@pytest.mark.parametrize("start", [b'{"x":', b'{"y":"\xff","x":'])
def test_json_nested_deeper(both_urls: tuple[str, str], start: bytes) -> None:
    path = "/v2/models/add/infer"
    stub, native = (
        ask(url, "POST", path, start + nested(20_000) + b"," + GOOD[1:]) for url in both_urls
    )
    assert native.status == 200
    assert stub.status == 400
    assert deviations.DEEP_JSON.server in stub.document


def with_shape(*shape: int) -> bytes:
    return document(*[tensor(name, shape=list(shape)) for name in "AB"])


@pytest.mark.rule("5.5-hostile-shapes")
def test_a_shape_of_very_many_dimensions(both_urls: tuple[str, str]) -> None:
    assert infer(both_urls, with_shape(*[1] * 10_000)).status >= 400


@pytest.mark.newer("26.04", "server src/http_server.cc, ReadDataFromJson")
@pytest.mark.rule("5.5-hostile-shapes")
@pytest.mark.parametrize("shape", [[1, 2**20], [2] * 20], ids=["long", "deep"])
def test_shapes_with_more_values_than_there_are(
    both_urls: tuple[str, str], shape: list[int]
) -> None:
    text = "Failed to parse 'data' field: shape does not match true shape"
    stub, native = (
        ask(url, "POST", "/v2/models/add/infer", with_shape(*shape)) for url in both_urls
    )
    assert (stub.status, stub.document) == (500, repr({"error": text}))
    assert native.status == 500


@pytest.mark.newer("25.05", "server src/common.cc: GetElementCount")
@pytest.mark.rule("5.5-hostile-shapes")
@pytest.mark.parametrize(
    ("shape", "what"),
    [
        ([4, 2**64 - 2], "contains one or more invalid dimensions"),
        ([2**62, 2], f"causes total element count to exceed maximum size of {2**63 - 1}"),
        ([4] * 5000, f"causes total element count to exceed maximum size of {2**63 - 1}"),
    ],
    ids=["negative", "large", "many"],
)
def test_shapes_beyond_all_bounds(stub: Engine, shape: list[int], what: str) -> None:
    answer = ask(stub.http_url, "POST", "/v2/models/add/infer", with_shape(*shape))
    told = ",".join(str(size if size < 2**63 else size - 2**64) for size in shape)
    assert answer.status == 400
    assert f"invalid shape for input 'A': shape [{told}] {what}" in answer.document


@pytest.mark.rule("5.5-hostile-nesting")
def test_nested_data(both_urls: tuple[str, str]) -> None:
    data = [1, [2, json.loads(nested(90).replace(b"[]", b"[3, 4]"))]]
    assert infer(both_urls, document(tensor(data=data), tensor("B"))).status == 200


@pytest.mark.newer("25.05", "server src/http_server.cc: ReadDataFromJsonHelper")
@pytest.mark.rule("5.5-hostile-nesting")
def test_data_nested_too_deep(stub: Engine) -> None:
    body = GOOD.replace(b"[1, 2", b"[1, " + nested(99).replace(b"[]", b"[2]"), 1)
    answer = ask(stub.http_url, "POST", "/v2/models/add/infer", body)
    assert answer.status == 400
    assert "Unable to parse 'data': JSON nesting depth exceeds maximum" in answer.document


@pytest.mark.rule("5.5-hostile-names")
@pytest.mark.parametrize("count", [300, 22_000])
def test_any_number_of_inputs(both_urls: tuple[str, str], count: int) -> None:
    entries = [tensor(str(number), shape=[1], data=[number]) for number in range(count)]
    answer = infer(both_urls, document(*entries))
    assert f"expected 2 inputs but got {count} inputs" in answer.document


@pytest.mark.rule("5.5-hostile-names")
@pytest.mark.parametrize(
    "name", ["..", "../add", "%2e%2e%2fadd", "add%00", "add\\", "x" * 2000, "add;x=1"]
)
def test_names_that_lead_elsewhere(both_urls: tuple[str, str], name: str) -> None:
    path = f"/v2/models/{name}"
    for rest in ("", "/config", "/infer", "/ready"):
        method = "POST" if rest == "/infer" else "GET"
        assert same(both_urls, method, path + rest, GOOD).status >= 400


@pytest.mark.rule("5.5-hostile-configs")
@pytest.mark.parametrize(
    "config",
    [
        b'{\\"name\\":\\"\x80\\"}',
        b'{\\"name\\":\\"\\\\ud800\\"}',
        b"\xff",
        nested(2000),
        b"1" * 5000,
        b'{\\"max_batch_size\\":' + b"1" * 5000 + b"}",
    ],
    ids=["no UTF-8 inside", "half a pair", "no UTF-8", "nested", "number", "long number"],
)
def test_configurations_that_are_none(loading: Engines, config: bytes) -> None:
    urls = loading.stub.http_url, loading.native.http_url
    body = b'{"parameters":{"config":"' + config + b'"}}'
    answer = same(urls, "POST", "/v2/repository/models/m/load", body)
    assert "failed to load 'm', failed to poll from model repository" in answer.document


@pytest.mark.rule("5.5-hostile-configs")
@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"backend": LONG}, "unable to find backend library for backend '111"),
        ({"runtime": LONG}, "unable to find backend library '111"),
        ({"output": [{"name": "OUT", "data_type": "TYPE_FP32", "dims": [1],
                      "label_filename": LONG}]}, "failed to open text file for read /"),
        ({"parameters": {"EXECUTION_ENV_PATH": {"string_value": f"/{LONG}"}}},
         "Failed to get the canonical path for /111"),
    ],
    ids=["backend", "runtime", "labels", "environment"],
)  # fmt: skip
def test_names_too_long_for_a_file(loading: Engines, fields: dict[str, Any], told: str) -> None:
    inputs = [{"name": "IN", "data_type": "TYPE_FP32", "dims": [1]}]
    outputs = [{"name": "OUT", "data_type": "TYPE_FP32", "dims": [1]}]
    config = {"backend": "python", "input": inputs, "output": outputs, **fields}
    body = json.dumps({"parameters": {"config": json.dumps(config)}}).encode()

    def ask_to_load(engine: Engine) -> tuple[int, bool]:
        answer = ask(engine.http_url, "POST", "/v2/repository/models/m/load", body)
        return answer.status, told in answer.document

    assert loading.same(ask_to_load) == [400, True]


SERVICE = "/inference.GRPCInferenceService"
NO_MESSAGES = {
    "cut short": b"\n",
    "no UTF-8": b"\n\x01\xff",
    "open group": b"\xc3\x3e",
    "tag 0": b"\x07",
}


@pytest.mark.rule("5.5-hostile-messages")
@pytest.mark.parametrize("message", NO_MESSAGES.values(), ids=NO_MESSAGES)
@pytest.mark.parametrize("method", ["ModelInfer", "ModelConfig", "RepositoryModelLoad"])
def test_bytes_that_are_no_message(engines: Engines, method: str, message: bytes) -> None:
    def body(engine: Engine) -> tuple[str, str]:
        with grpc.insecure_channel(engine.grpc_url or "") as channel:
            with pytest.raises(grpc.RpcError) as caught:
                channel.unary_unary(f"{SERVICE}/{method}")(message, timeout=30)
            return caught.value.code().name, caught.value.details()

    engines.same(body)


@pytest.mark.rule("5.5-hostile-messages")
@pytest.mark.parametrize("message", NO_MESSAGES.values(), ids=NO_MESSAGES)
def test_a_stream_ends_before_bytes_that_are_no_message(engines: Engines, message: bytes) -> None:
    request = service_pb2.ModelInferRequest(model_name="add")
    for name in "AB":
        request.inputs.add(name=name, datatype="FP32", shape=[1, 4])
        request.raw_input_contents.append(bytes(16))
    good = request.SerializeToString()

    def body(engine: Engine) -> list[str]:
        with grpc.insecure_channel(engine.grpc_url or "") as channel:
            stream = channel.stream_stream(f"{SERVICE}/ModelStreamInfer")
            answers = list(stream(iter([good, message, good]), timeout=30))
        return [
            service_pb2.ModelStreamInferResponse.FromString(answer).infer_response.model_name
            for answer in answers
        ]

    assert engines.same(body) == ["add"]


@pytest.mark.rule("5.5-hostile-messages")
def test_unknown_fields_are_left_out(engines: Engines) -> None:
    def body(engine: Engine) -> str:
        with grpc.insecure_channel(engine.grpc_url or "") as channel:
            ready = channel.unary_unary(f"{SERVICE}/ModelReady")
            return ready(b"\n\x03add\xc0\x3e\x01\xc2\x3e\x01a", timeout=30).hex()

    assert engines.same(body) == "0801"
