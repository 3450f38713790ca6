"""``triton-stub infer``: one request, in process and to a server that is there."""

import json

import pytest
from cli_process import refused
from model_files import BATCHED, BROKEN, CONFIG, DOUBLE, write_model

import triton_stub
from triton_stub.cli import main

# Answers what it was asked, once for each element; its parameters, and what it is in a sequence.
CURIOUS = """
import json

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            told = [request.parameters(), str(request.correlation_id()), request.flags()]
            sender = request.get_response_sender()
            for number in pb_utils.get_input_tensor_by_name(request, "IN").as_numpy():
                if number < 0:
                    error = pb_utils.TritonError("minus")
                    sender.send(pb_utils.InferenceResponse(error=error))
                else:
                    text = np.array([json.dumps(told).encode()], object)
                    outputs = [
                        pb_utils.Tensor("OUT", np.array([number])),
                        pb_utils.Tensor("TOLD", text),
                    ]
                    sender.send(pb_utils.InferenceResponse(outputs))
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""
DECOUPLED = f"""{CONFIG}
output [ {{ name: "TOLD" data_type: TYPE_STRING dims: [ 1 ] }} ]
model_transaction_policy {{ decoupled: true }}
"""
# Prints while it answers.
LOUD = DOUBLE.replace(
    "        if (array == -13)", "        print('loud')\n        if (array == -13)"
)
# Asks the model `model`.
CALLER = (
    DOUBLE.replace("2 * array", "self.ask(array)")
    + """
    def ask(self, array):
        request = pb_utils.InferenceRequest(
            model_name="model", inputs=[pb_utils.Tensor("IN", array)],
            requested_output_names=["OUT"],
        )
        response = request.exec()
        if response.has_error():
            raise pb_utils.TritonModelException(response.error().message())
        return pb_utils.get_output_tensor_by_name(response, "OUT").as_numpy()
"""
)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    repository = tmp_path_factory.mktemp("models")
    write_model(repository)
    write_model(repository, "batched", config=BATCHED)
    write_model(repository, "curious", CURIOUS, DECOUPLED)
    write_model(repository, "caller", CALLER)
    write_model(repository, "loud", LOUD)
    write_model(repository, "broken", BROKEN)
    return repository


@pytest.fixture(scope="module")
def server(models):
    with triton_stub.Server(models, exit_on_error=False) as server:
        yield server.serve(http_port=0, grpc_port=0, metrics_port=0)


@pytest.fixture
def infer(models, capsys):
    """Runs the command; exit code, what is printed, and what is said of errors."""

    def run(*arguments):
        code = main(["infer", *arguments, "--model-repository", str(models)])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


@pytest.fixture(params=["in process", "http", "grpc"])
def anywhere(request, infer, server, capsys):
    """The same, of a model in this process or on a server."""
    if request.param == "in process":
        return infer
    url = server.http_url if request.param == "http" else f"grpc://{server.grpc_url}"

    def run(*arguments):
        code = main(["infer", *arguments, "--url", url])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


def answers(text):
    return [json.loads(line) for line in text.splitlines()]


def test_an_answer(anywhere):
    code, out, err = anywhere("model", "IN=1,2,3")
    assert (code, err) == (0, "")
    first, *_, row, _ = out.splitlines()
    assert first.startswith("response 1 of model 'model' version 1 after ")
    assert [cell.strip() for cell in row.split("|")[1:-1]] == [
        *("OUT", "FP32", "[3]", "2", "4", "6", "2, 4, 6")
    ]


def test_as_json(anywhere):
    code, out, err = anywhere("batched", "IN=1,2", "--batch-size=2", "--json", "--outputs=OUT")
    assert (code, err) == (0, "")
    assert answers(out) == [
        {
            "model_name": "batched",
            "model_version": "1",
            "outputs": [{"name": "OUT", "datatype": "FP32", "shape": [2, 2], "data": [2, 4, 2, 4]}],
        }
    ]


def test_what_is_not_given_is_drawn(anywhere):
    drawn = [anywhere("model", "--json", f"--seed={seed}")[1] for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    (output,) = answers(drawn[0])[0]["outputs"]
    assert output["shape"] == [1]


def test_errors_of_the_model(anywhere):
    code, out, err = anywhere("model", "IN=-14")
    assert code == 1
    assert "minus fourteen" in out + err


@pytest.mark.parametrize("anywhere", ["in process", "grpc"], indirect=True)
def test_every_response_of_a_decoupled_model(anywhere):
    code, out, _ = anywhere(
        *("curious", "IN=7,-1,8", "--json", "--parameter=a=1", "--parameter=b=text"),
        *("--parameter=c=true", "--sequence-id=5", "--sequence-start", "--sequence-end"),
    )
    assert code == 1
    first, second, third = answers(out)
    assert second == {"error": "minus"}
    assert [each["outputs"][0]["data"] for each in (first, third)] == [[7], [8]]
    parameters, correlation_id, flags = json.loads(first["outputs"][1]["data"][0])
    assert json.loads(parameters) == {"a": 1, "b": "text", "c": True}
    assert (correlation_id, flags) == ("5", 3)


@pytest.mark.parametrize("anywhere", ["in process", "grpc"], indirect=True)
def test_a_request_without_a_response(anywhere):
    assert anywhere("curious", "IN=[]")[:2] == (
        0,
        "no response: the model has ended the request without one\n",
    )


@pytest.mark.parametrize("anywhere", ["http"], indirect=True)
def test_a_decoupled_model_over_http(anywhere):
    code, _, err = anywhere("curious", "IN=1")
    assert code == 1
    assert err == (
        "triton-stub: HTTP end point doesn't support models with decoupled transaction policy; "
        "ask its port for gRPC, with --url=grpc://HOST:PORT\n"
    )


def test_a_model_that_is_not_there(anywhere):
    code, out, err = anywhere("nobody")
    assert (code, out) == (1, "")
    assert "nobody" in err


def test_a_model_that_is_broken(infer):
    code, _, err = infer("broken")
    assert code == 1
    assert "model 'broken' is not served:\n" in err
    assert "OSError: no weights" in err
    there = "batched, broken, caller, curious, loud, model"
    assert err.endswith(f"broken did not load (models that are there: {there})\n")


def test_a_model_that_needs_another_one(infer):
    code, out, _ = infer("caller", "IN=2", "--json")
    assert code == 1
    assert "'model' is not ready" in out
    code, out, _ = infer("caller", "IN=2", "--json", "--load-model=model")
    assert code == 0
    assert answers(out)[0]["outputs"][0]["data"] == [4]


def test_versions(anywhere):
    code, _, err = anywhere("model", "--model-version=9")
    assert code == 1
    assert "'model'" in err
    assert anywhere("model", "--model-version=1")[0] == 0


def test_the_log_is_printed_if_asked_for(infer):
    assert "successfully loaded 'model'" in infer("model", "--verbose")[2]
    assert infer("model")[2] == ""


def test_what_a_model_prints_is_no_answer(infer):
    code, out, err = infer("loud", "--json")
    assert (code, err) == (0, "loud\n")
    assert len(answers(out)) == 1


GRPC_ADVICE = "is a server running there, and is this its port for gRPC (mostly 8001)?"


@pytest.mark.parametrize(
    ("scheme", "advice"),
    [
        ("", "is a server running there?"),
        ("http://", "is a server running there?"),
        ("grpc://", GRPC_ADVICE),
    ],
)
def test_a_server_that_is_not_there(scheme, advice, capsys):
    assert main(["infer", "model", "--url", f"{scheme}127.0.0.1:1"]) == 1
    start, end = capsys.readouterr().err.split("Connection refused")
    assert start == "triton-stub: no answer from 127.0.0.1:1: "
    assert end.endswith(f"; {advice}\n")  # gRPC for Linux and for macOS differ in between


def test_a_port_of_another_protocol(server, capsys):
    assert main(["infer", "model", "--url", server.grpc_url]) == 1
    assert capsys.readouterr().err == (
        f"triton-stub: no answer from {server.grpc_url}: what is there speaks no HTTP; is this a "
        "port for gRPC? HTTP is mostly 8000\n"
    )
    for url in (server.http_url, server.metrics_url):
        assert main(["infer", "model", "--url", f"grpc://{url}"]) == 1
        err = capsys.readouterr().err
        assert err.startswith(f"triton-stub: no answer from {url}: ")
        assert err.endswith(f"; {GRPC_ADVICE}\n")
        assert len(err.splitlines()) == err.count(url) == 1
    assert main(["infer", "model", "--url", server.metrics_url]) == 1
    assert (
        "is this its port for HTTP (mostly 8000), not that for metrics?" in capsys.readouterr().err
    )


def test_a_model_s_folder_is_no_repository(models, capsys):
    folder = models / "model"
    assert main(["infer", "model", "--model-repository", str(folder)]) == 1
    told = f"{folder} is the folder of one model, not a model repository: "
    assert f"{told}give the folder above it, {models}." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["m", "IN"], "'IN': expected NAME=VALUE, such as IN=random"),
        (["m", "IN=1", "IN=2"], "input 'IN' is given twice"),
        (["m", "--parameter=a"], "--parameter 'a': expected NAME=VALUE"),
        (["m", "--batch-size=0"], "--batch-size: expected 1 or more, got 0"),
        (["m", "--batch-size=x"], "Invalid option value. Got x"),
        (["m", "--url="], "--url: expected [http://|grpc://]HOST:PORT, got ''"),
        (["m", "--url=grpc://"], "--url: expected [http://|grpc://]HOST:PORT, got 'grpc://'"),
        (["m", "--url=http://:8000"], "--url: expected [http://|grpc://]HOST:PORT, got"),
        (["m", "--url=h:1", "--model-repository=r"], "--model-repository and --url: the server"),
        (["m", "--url=h:1", "--load-model=n"], "--load-model and --url: the server there has its"),
        (["m", "--model-version=x"], "--model-version: expected a number, got 'x'"),
    ],
)
def test_arguments_that_make_no_sense(arguments, told, capsys):
    assert told in refused(capsys, "infer", *arguments)
