"""The header that tells load balancers how full the cache of a language model is."""

from __future__ import annotations

import http.client
import json
from typing import TYPE_CHECKING

import pytest

import triton_stub
from triton_stub.endpoints.http.load_metrics import FORMAT, HEADER

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONFIG = """
backend: "python"
input { name: "text_input" data_type: TYPE_STRING dims: [ 1 ] }
output { name: "text_output" data_type: TYPE_STRING dims: [ 1 ] }
"""
# The text is the gauges, as JSON.
MODEL = """
import json

import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        name = "nv_trt_llm_kv_cache_block_metrics"
        self.family = pb_utils.MetricFamily(name, "7 words", pb_utils.MetricFamily.GAUGE)
        self.gauges = {}

    def execute(self, requests):
        tensor = pb_utils.get_input_tensor_by_name(requests[0], "text_input")
        self.gauges.clear()
        for kind, value in json.loads(tensor.as_numpy()[0]).items():
            labels = {"kv_cache_block_type": kind, "model": "m"}
            self.gauges[kind] = self.family.Metric(labels=labels)
            self.gauges[kind].set(value)
        return [pb_utils.InferenceResponse([pb_utils.Tensor("text_output", tensor.as_numpy())])]
"""
FULL = {"tokens_per": 64, "used": 3, "max": 8, "free": 5}
LOGGED = (
    "ENDPOINT_LOAD_METRICS_TYPE request header is set but extracted_kv_metrics is empty, no header "
    "written. orca_type="
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[triton_stub.Server]:
    root: Path = tmp_path_factory.mktemp("models")
    (root / "m" / "1").mkdir(parents=True)
    (root / "m" / "1" / "model.py").write_text(MODEL)
    (root / "m" / "config.pbtxt").write_text(CONFIG)
    with triton_stub.Server(root) as server:
        yield server


def told(
    server: triton_stub.Server, form: str | None, gauges: dict[str, float], path: str = "generate"
) -> str | None:
    connection = http.client.HTTPConnection(server.http_url, timeout=60)
    try:
        body = json.dumps({"text_input": json.dumps(gauges)})
        headers = {} if form is None else {FORMAT: form}
        connection.request("POST", f"/v2/models/m/{path}", body, headers)
        response = connection.getresponse()
        assert response.status == 200
        response.read()
    finally:
        connection.close()
    return response.headers[HEADER]


@pytest.mark.parametrize("path", ["generate", "generate_stream"])
def test_both_forms(server: triton_stub.Server, path: str) -> None:
    assert told(server, "text", FULL, path) == (
        "TEXT named_metrics.kv_cache_utilization=0.375000, named_metrics.max_token_capacity=512"
    )
    assert told(server, "json", FULL, path) == (
        'JSON {"named_metrics":{"kv_cache_utilization":0.375,"max_token_capacity":512}}'
    )


def test_a_cache_of_nothing(server: triton_stub.Server) -> None:
    assert told(server, "json", {**FULL, "max": 0}) == (
        'JSON {"named_metrics":{"kv_cache_utilization":0.0,"max_token_capacity":0}}'
    )


def test_nobody_asks(server: triton_stub.Server) -> None:
    assert told(server, None, FULL) is None


@pytest.mark.parametrize("missing", ["tokens_per", "used", "max"])
def test_a_gauge_that_is_not_set(server: triton_stub.Server, missing: str) -> None:
    assert told(server, "text", {**FULL, missing: -1}) is None
    assert "One or more of the kv metrics was not found or invalid." in str(server.log())
    assert f"{LOGGED}text" in str(server.log())


def test_another_form(server: triton_stub.Server) -> None:
    assert told(server, "yaml", FULL) is None
    assert "orca_type is set to an invalid type: yaml" in str(server.log())
    assert f"{LOGGED}yaml" in str(server.log())
