"""``triton-stub serve`` with a port for metrics, and with traces."""

import json
import signal
import urllib.request

import pytest
from test_cli import TIMEOUT, infer, serve, write_model

__all__ = ["serve"]  # a fixture


def test_metrics_and_traces(tmp_path, serve):
    write_model(tmp_path / "models")
    traces = [f"triton,file={tmp_path / 'traces'}", "rate=1", "level=TIMESTAMPS", "level=TENSORS"]
    process = serve(
        tmp_path / "models", "--metrics-port=0", *(f"--trace-config={each}" for each in traces)
    )
    url = process.url()
    (line,) = [line for line in process.printed if line.startswith("Started Metrics Service at ")]
    infer(url)
    with urllib.request.urlopen(f"http://{line.split()[-1]}/metrics", None, TIMEOUT) as answer:
        page = answer.read().decode()
    assert 'nv_inference_request_success{model="model",version="1"} 1' in page
    process.end(signal.SIGTERM)
    records = json.loads((tmp_path / "traces").read_text())
    assert {"timestamps", "tensor", "model_name"} <= {key for record in records for key in record}


@pytest.mark.parametrize("setting", ["opentelemetry,url=x", "rate", "rate=", ",rate=1"])
def test_settings_of_traces_that_there_are_not(setting, serve):
    code, _, text = serve("models", f"--trace-config={setting}").end()
    assert code == 2
    assert "expected [triton,]SETTING=VALUE" in text
