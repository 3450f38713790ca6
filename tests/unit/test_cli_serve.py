"""``triton-stub serve``: what it prints, what it serves, and when it does not start."""

import contextlib
import json
import signal
import urllib.error
import urllib.request

import numpy as np
import pytest
from cli_process import FREE_PORTS, TIMEOUT, infer, serve
from model_files import BROKEN, CONFIG, DOUBLE, write_model
from tritonclient.grpc import InferenceServerClient, InferInput
from tritonclient.utils import InferenceServerException

from triton_stub.cli import main

__all__ = ["serve"]  # a fixture


def exit_code(*arguments):
    before = signal.getsignal(signal.SIGTERM)
    code = main(["serve", *FREE_PORTS, *map(str, arguments)])
    assert signal.getsignal(signal.SIGTERM) is before
    return code


def test_a_repository_that_is_not_there(tmp_path, capsys):
    assert exit_code(tmp_path / "nothing") == 1
    assert f"{tmp_path}/nothing is not a directory" in capsys.readouterr().err


def test_a_repository_with_a_link_to_nowhere(tmp_path, capsys):
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    assert exit_code(tmp_path) == 1
    assert capsys.readouterr().err.startswith("triton-stub: cannot read a model repository: ")


def test_exit_on_error(tmp_path, capsys):
    write_model(tmp_path, code=BROKEN)
    assert exit_code(f"--model-repository={tmp_path}", "--exit-on-error=true") == 1
    err = capsys.readouterr().err
    explained, found, told = err.partition("\ntriton-stub: ")
    assert found
    assert "model 'model' is not served:\n" in explained
    assert "\n  what to do: " in explained
    assert "model 'model': load failed for model 'model'" in told


def test_explicit_control_and_two_repositories(tmp_path, serve):
    for path, name in (("one", "a"), ("one", "b"), ("two", "c")):
        write_model(tmp_path / path, name)
    process = serve(
        tmp_path / "one",
        f"--model-repository={tmp_path / 'two'}",
        "--model-control-mode=explicit",
        "--load-model=a",
        "--load-model=c",
        "--exit-on-error=TRUE",
        "--log-verbose=1",
    )
    url = process.url()
    assert infer(url, "a") == infer(url, "c") == [2]
    with pytest.raises(urllib.error.HTTPError, match="404") as caught:
        infer(url, "b")
    caught.value.close()
    code, out, _ = process.end(signal.SIGINT)
    assert code == 0
    rows = [line.split()[1] for line in out.splitlines() if line.startswith("| ")]
    assert rows[: rows.index("Option")] == ["Model", "a", "c"]


def test_polling(tmp_path, serve):
    write_model(tmp_path / "models", "a")
    process = serve(tmp_path / "models", "--model-control-mode=poll", "--repository-poll-secs=0.05")
    url = process.url()
    assert infer(url, "a") == [2]
    write_model(tmp_path / "new", "b")
    (tmp_path / "new" / "b").rename(tmp_path / "models" / "b")
    write_model(tmp_path / "new", "c", BROKEN)
    (tmp_path / "new" / "c").rename(tmp_path / "models" / "c")
    ready = 400
    while ready != 200:
        with contextlib.suppress(urllib.error.HTTPError):
            ready = urllib.request.urlopen(f"{url}/v2/models/b/ready", None, TIMEOUT).status
    assert infer(url, "b") == [2]
    told = {"model 'c' is not served:\n"}
    (tmp_path / "new" / "model.py").write_text(BROKEN)
    (tmp_path / "new" / "model.py").rename(tmp_path / "models" / "b" / "1" / "model.py")
    told.add("model 'b' goes on as it was before, its new files do not load:\n")
    while told:
        line = process.process.stderr.readline()
        assert line, "it has ended"
        assert line != "model 'b' is not served:\n"
        told.discard(line)
    assert infer(url, "b") == [2]
    code, _, _ = process.end(signal.SIGINT)
    assert code == 0


def test_polling_goes_on_when_a_repository_is_gone_for_a_while(tmp_path, serve):
    models = tmp_path / "models"
    write_model(models, "a")
    process = serve(models, "--model-control-mode=poll", "--repository-poll-secs=0.05")
    url = process.url()
    (models / "link").symlink_to("nowhere")
    while "cannot read a model repository" not in (line := process.process.stderr.readline()):
        assert line, "it has ended"
    (models / "link").unlink()
    write_model(tmp_path / "new", "b")
    (tmp_path / "new" / "b").rename(models / "b")
    while "successfully loaded 'b'" not in (line := process.process.stderr.readline()):
        assert line, "it has ended"
    assert infer(url, "a") == infer(url, "b") == [2]
    assert process.end(signal.SIGINT)[0] == 0


def test_a_repository_without_a_model(tmp_path, serve):
    _, out, _ = serve(tmp_path).end_when_ready()
    told = f"\nnote: there is no model in {tmp_path}; expected a folder for each, such as add_sub"
    assert told in out
    write_model(tmp_path, "broken", BROKEN)
    assert "note: " not in serve(tmp_path).end_when_ready()[1]
    assert "note: " not in serve(tmp_path, "--model-control-mode=explicit").end_when_ready()[1]


def test_the_folder_of_a_model_is_no_repository(tmp_path, serve):
    write_model(tmp_path, "add")
    _, _, err = serve(tmp_path / "add").end_when_ready()
    told = f"{tmp_path}/add is the folder of one model, not a model repository: "
    assert f"{told}give the folder above it, {tmp_path}." in err


def test_a_file_for_the_log_that_cannot_be_written(tmp_path, capsys):
    log = tmp_path / "nowhere" / "log"
    assert exit_code(tmp_path, f"--log-file={log}") == 1
    told = f"triton-stub: --log-file {log}: No such file or directory\n"
    assert capsys.readouterr().err == told


def test_where_the_log_goes_and_what_of_it(tmp_path, serve):
    write_model(tmp_path / "models")
    log = tmp_path / "server.log"
    serve(tmp_path / "models", f"--log-file={log}", "--log-format=ISO8601").end_when_ready()
    assert "successfully loaded 'model'" in log.read_text()
    before = log.read_text()
    process = serve(tmp_path / "models", f"--log-file={log}", "--log-info=false")
    _, _, printed = process.end_when_ready()
    assert log.read_text() == before
    assert printed == ""


def test_models_in_processes_with_a_cache(tmp_path, serve):
    write_model(tmp_path, config=f"{CONFIG} response_cache {{ enable: true }}")
    process = serve(tmp_path, "--isolation=process", "--cache-config=local,size=1048576")
    url = process.url()
    assert infer(url) == infer(url) == [2]
    with urllib.request.urlopen(f"{url}/v2/models/model/stats", None, TIMEOUT) as answer:
        (row,) = json.load(answer)["model_stats"]
    assert (row["inference_count"], row["execution_count"]) == (1, 1)
    assert row["inference_stats"]["cache_hit"]["count"] == 1
    process.end(signal.SIGTERM)


def test_metrics_and_traces(tmp_path, serve):
    write_model(tmp_path / "models")
    traces = [f"triton,file={tmp_path / 'traces'}", "rate=1", "level=TIMESTAMPS", "level=TENSORS"]
    process = serve(tmp_path / "models", *(f"--trace-config={each}" for each in traces))
    infer(process.url())
    url = f"http://{process.urls['metrics']}/metrics"
    with urllib.request.urlopen(url, None, TIMEOUT) as answer:
        page = answer.read().decode()
    assert 'nv_inference_request_success{model="model",version="1"} 1' in page
    process.end(signal.SIGTERM)
    records = json.loads((tmp_path / "traces").read_text())
    assert {"timestamps", "tensor", "model_name"} <= {key for record in records for key in record}


def test_a_protocol_alone(tmp_path, serve):
    write_model(tmp_path)
    process = serve(tmp_path, "--allow-http=false", "--allow-metrics=false")
    process.wait("grpc")
    with InferenceServerClient(process.urls["grpc"]) as client:
        assert client.is_model_ready("model")
    code, out, _ = process.end(signal.SIGTERM)
    assert code == 0
    assert "Started HTTPService" not in out
    assert "Started Metrics Service" not in out


def test_each_protocol_at_an_address_of_its_own(tmp_path, serve):
    write_model(tmp_path)
    process = serve(tmp_path, "--http-address=127.0.0.2", "--metrics-address=127.0.0.1")
    assert infer(process.url()) == [2]
    hosts = {name: url.partition(":")[0] for name, url in process.urls.items()}
    assert hosts == {"http": "127.0.0.2", "grpc": "127.0.0.1", "metrics": "127.0.0.1"}
    process.end(signal.SIGTERM)


def test_headers_become_parameters(tmp_path, serve):
    """As parameters of the request, whatever the protocol; of a name in any case of letters."""
    code = DOUBLE.replace(
        'return pb_utils.InferenceResponse([pb_utils.Tensor("OUT", 2 * array)])',
        "return pb_utils.InferenceResponse(error=pb_utils.TritonError(request.parameters()))",
    )
    write_model(tmp_path, code=code)
    flags = [f"--{name}-header-forward-pattern=^X-(a|b)$" for name in ("http", "grpc")]
    process = serve(tmp_path, *flags)
    url = f"{process.url()}/v2/models/model/infer"
    body = {"inputs": [{"name": "IN", "datatype": "FP32", "shape": [1], "data": [1]}]}
    headers = {"X-A": "1", "x-c": "3", "x-b": "2"}
    asked = urllib.request.Request(url, json.dumps(body).encode(), headers)
    with pytest.raises(urllib.error.HTTPError) as caught, urllib.request.urlopen(asked):
        pass
    with caught.value as answer:
        told = json.loads(json.load(answer)["error"])
    assert {name.lower(): value for name, value in told.items()} == {"x-a": "1", "x-b": "2"}
    given = InferInput("IN", [1], "FP32").set_data_from_numpy(np.ones(1, np.float32))
    small = {name.lower(): value for name, value in headers.items()}
    client = InferenceServerClient(process.urls["grpc"])
    with client, pytest.raises(InferenceServerException) as refused:
        client.infer("model", [given], headers=small)
    assert json.loads(refused.value.message()) == {"x-a": "1", "x-b": "2"}
    process.end(signal.SIGTERM)


def test_quiet(tmp_path, serve):
    write_model(tmp_path, "good")
    write_model(tmp_path, "bad", BROKEN)
    process = serve(tmp_path, "--quiet", "--http-thread-count=3")
    log = []
    while not log or "Started Metrics Service at" not in log[-1]:
        log.append(process.process.stderr.readline())
        assert log[-1], "".join(log)
    code, out, _ = process.end(signal.SIGTERM)
    assert (code, out) == (0, "")


def test_what_is_printed_in_which_order(tmp_path, serve):
    write_model(tmp_path)
    _, out, _ = serve(tmp_path, "--http-thread-count=3").end_when_ready()
    first = [line.split()[0] for line in out.splitlines() if line[0] not in "+|"]
    assert first == ["note:", "loading", "loading", "ready", *["Started"] * 3, "stopping:"]
    assert [line.split()[1] for line in out.splitlines() if line.startswith("Started")] == [
        "GRPCInferenceService",
        "HTTPService",
        "Metrics",
    ]
    assert out.count("+\n") == 6
