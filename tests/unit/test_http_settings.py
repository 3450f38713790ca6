"""Settings of traces and of the log over HTTP, and the port of metrics."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import urllib3
from instances import write_files

import triton_stub
from triton_stub.core.log import Log, LogSettings
from triton_stub.core.trace import TraceLevel
from triton_stub.core.trace_settings import Tracer, TraceSettings
from triton_stub.endpoints.http import settings
from triton_stub.endpoints.serving import Serving
from triton_stub.errors import ServerError
from triton_stub.pb_utils.logger import LogLevel

MODEL = """
class TritonPythonModel:
    def execute(self, requests):
        import triton_python_backend_utils as pb_utils
        tensor = lambda request: pb_utils.get_input_tensor_by_name(request, "X").as_numpy()
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor("Y", tensor(request))])
            for request in requests
        ]
"""
CONFIG = """
backend: "python"
input { name: "X" data_type: TYPE_FP32 dims: [ 1 ] }
output { name: "Y" data_type: TYPE_FP32 dims: [ 1 ] }
"""
REQUEST = b'{"inputs":[{"name":"X","datatype":"FP32","shape":[%d],"data":[1]}]}'


@pytest.fixture
def traces(tmp_path: Path) -> Tracer:
    return Tracer(TraceSettings(TraceLevel.TIMESTAMPS, 1, -1, 1, str(tmp_path / "t")), Log())


def test_settings_of_traces(traces: Tracer) -> None:
    told = settings.trace(traces, "", b'{"trace_rate": "3", "trace_level": ["TENSORS"]}')
    assert told == settings.trace(traces, "", None)
    assert (told["trace_rate"], told["trace_level"]) == ("3", ["TENSORS"])
    assert settings.trace(traces, "m", b'{"trace_count": "4"}')["trace_count"] == "4"
    assert settings.trace(traces, "", b"{}")["trace_count"] == "-1"


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'{"trace_rate": "1x", "trace_count": "-7"}', "Expecting value >= -1, got:-7"),
        (b'{"trace_rate": "-"}', "Unable to parse 'trace_rate', got: -"),
        (b'{"trace_rate": "2147483648"}', r"out of range \[ 0, 4294967295 \]"),
        (b'{"trace_file": ""}', "trace file location can not be updated"),
        (b'{"trace_level": {}}', "non-array as array"),
        (b"", "The document is empty. at 0"),
    ],
)
def test_a_change_that_is_refused_changes_nothing(traces: Tracer, body: bytes, text: str) -> None:
    before = traces.get()
    with pytest.raises(ServerError, match=text):
        settings.trace(traces, "", body)
    assert traces.get() == before


def test_settings_of_the_log() -> None:
    log = Log()
    told = settings.logging(log, b'{"log_info": false, "log_verbose_level": 4294967295}')
    assert told == settings.logging(log, None)
    assert log.settings == LogSettings(info=False)
    with pytest.raises(ServerError, match="non-boolean"):
        settings.logging(log, b'{"log_warning": false, "log_error": 1, "log_format": "x"}')
    assert log.settings == LogSettings(info=False, warning=False)


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        (LogSettings(), "IWE"),
        (LogSettings(info=False), "WE"),
        (LogSettings(warning=False), "IE"),
        (LogSettings(error=False), "IW"),
        (LogSettings(info=False, verbose_level=2), "WEI"),
    ],
)
def test_levels_of_the_log(settings: LogSettings, kept: str) -> None:
    log = Log(settings)
    for level in (LogLevel.INFO, LogLevel.WARNING, LogLevel.ERROR, LogLevel.VERBOSE):
        log.write(level, "x", "f", 1)
    assert "".join(line[0] for line in str(log).splitlines()) == kept


@pytest.fixture
def server(tmp_path: Path) -> Iterator[triton_stub.Server]:
    write_files(tmp_path / "models/m", {"config.pbtxt": CONFIG, "1/model.py": MODEL})
    config = {"level": "TIMESTAMPS", "rate": 2, "file": tmp_path / "t"}
    with triton_stub.Server(tmp_path / "models", trace_config=config) as running:
        yield running


def ask(url: str | None, method: str, path: str, body: bytes | None = None) -> tuple[int, Any]:
    with urllib3.PoolManager() as pool:
        answer = pool.request(method, f"http://{url}{path}", body=body)
    return answer.status, answer.data


def test_what_comes_over_http_is_traced(server: triton_stub.Server, tmp_path: Path) -> None:
    url = server.serve(http_port=0).http_url
    for size in (1, 1, 1, 9, 1):  # the fourth is refused
        ask(url, "POST", "/v2/models/m/infer", REQUEST % size)
    server.model("m")(X=np.ones(1, np.float32))
    server.stop()
    records = json.loads((tmp_path / "t").read_text())
    assert [each["id"] for each in records if "model_name" in each] == [1]


def test_an_unknown_model_has_no_settings(server: triton_stub.Server) -> None:
    url = server.serve(http_port=0).http_url
    status, text = ask(url, "POST", "/v2/models/nobody/trace/setting", b"{}")
    assert (status, json.loads(text)["error"]) == (400, "Request for unknown model : nobody")


def test_the_port_of_metrics(server: triton_stub.Server) -> None:
    with server.serve(http_port=0, metrics_port=0) as endpoint:
        assert ask(endpoint.metrics_url, "GET", "/metrics")[1].startswith(b"# HELP nv_inference")
        assert ask(endpoint.metrics_url, "GET", "/") == (200, b"")
        assert ask(endpoint.metrics_url, "POST", "/metrics")[0] == 405
        assert f"Started Metrics Service at {endpoint.metrics_url}" in str(server.log())
    assert server.serve(http_port=0).metrics_url is None


def test_a_port_of_metrics_that_is_taken_leaves_no_other_open(server: triton_stub.Server) -> None:
    taken = server.serve(http_port=0).http_url.rpartition(":")[2]
    serving = Serving(server, http_port=0, metrics_port=int(taken))
    with pytest.raises(ServerError, match="already in use"):
        serving.start()
    with pytest.raises(urllib3.exceptions.HTTPError), urllib3.PoolManager(retries=False) as pool:
        pool.request("GET", f"http://{serving.http_url}/v2")
