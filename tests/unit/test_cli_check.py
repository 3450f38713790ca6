"""``triton-stub check``: which models pass, and what is told of the others."""

import pytest
from cli_process import refused
from model_files import BATCHED, BROKEN, CONFIG, DOUBLE, write_model

from triton_stub.cli import main

SEQUENCES = f"{BATCHED}\nsequence_batching {{ }}".replace("dynamic_batching { }", "")
DECOUPLED = f"{CONFIG}\nmodel_transaction_policy {{ decoupled: true }}"
TWICE = """
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            array = pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()
            sender = request.get_response_sender()
            sender.send(pb_utils.InferenceResponse([pb_utils.Tensor("OUT", array)]))
            sender.send(pb_utils.InferenceResponse([pb_utils.Tensor("OUT", array)]))
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""


def check(capsys, *arguments):
    """Exit code, the rows of the table by the models' names, and what is said of errors."""
    code = main(["check", *map(str, arguments)])
    printed = capsys.readouterr()
    lines = printed.out.splitlines()[3:-1]
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    return code, {name: (version, verdict) for name, version, verdict, _ in cells}, printed.err


def test_models_that_do_as_they_say(tmp_path, capsys):
    write_model(tmp_path, "plain")
    write_model(tmp_path, "batched", config=BATCHED)
    write_model(tmp_path, "sequences", config=SEQUENCES)
    write_model(tmp_path, "decoupled", TWICE, DECOUPLED)
    code, rows, err = check(capsys, tmp_path, "--batch-size=3")
    assert (code, err) == (0, "")
    assert rows == dict.fromkeys(("batched", "decoupled", "plain", "sequences"), ("1", "OK"))


def test_models_that_do_not(tmp_path, capsys):
    write_model(tmp_path, "a_good")
    write_model(tmp_path, "broken", BROKEN)
    write_model(tmp_path, "dtype", DOUBLE.replace("2 * array", 'array.astype("f8")'))
    write_model(tmp_path, "rows", DOUBLE.replace("2 * array", "array[:1]"), BATCHED)
    write_model(tmp_path, "raises", DOUBLE.replace("2 * array", "array.nothing"))
    write_model(tmp_path, "stream", TWICE.replace("array)]", "array[None])]"), DECOUPLED)
    code, rows, err = check(capsys, tmp_path, "--batch-size=2")
    assert code == 1
    assert rows == {
        "a_good": ("1", "OK"),
        "broken": ("-", "NOT LOADED"),
        "dtype": ("1", "FAILED"),
        "raises": ("1", "FAILED"),
        "rows": ("1", "FAILED"),
        "stream": ("1", "FAILED"),
    }
    for told in (
        "model 'broken' is not served:\n",
        "model 'dtype' version 1: the answer of model 'dtype' breaks its configuration:\n"
        "  - output 'OUT' has dtype float64, the configuration says TYPE_FP32",
        "model 'rows' version 1: the answer of model 'rows' breaks its configuration:\n"
        "  - output 'OUT' has 1 rows, but 2 were asked for",
        "'numpy.ndarray' object has no attribute 'nothing'",
        "output 'OUT' has shape [1,1], the configuration says [-1]",
    ):
        assert told in err
    assert "a_good" not in err


def test_inputs_that_are_given(tmp_path, capsys):
    picky = DOUBLE.replace("2 * array", "array.reshape(2, 3)[0]")
    write_model(tmp_path, "picky", picky)
    assert check(capsys, tmp_path)[0] == 1
    assert check(capsys, tmp_path, "--input=picky/IN=random:6")[:2] == (0, {"picky": ("1", "OK")})
    code, _, err = check(capsys, tmp_path, "--input=picky/OUT=1")
    assert code == 1
    assert "model 'picky' has no input 'OUT'" in err


def test_an_input_of_a_model_that_is_not_there(tmp_path, capsys):
    write_model(tmp_path, "one")
    write_model(tmp_path, "two", BROKEN)
    code, rows, err = check(capsys, tmp_path, "--input=nope/IN=1", "--load-model=one")
    assert (code, rows) == (1, {"one": ("1", "OK")})
    assert err == "\n--input nope/IN: there is no model 'nope' to check (there are: one)\n"
    code, _, err = check(capsys, tmp_path, "--input=two/IN=1")
    assert code == 1
    assert "--input" not in err  # there is one, though it does not load
    code, _, err = check(capsys, tmp_path, "--input=two/IN=1", "--load-model=one")
    assert code == 1
    assert "there is no model 'two' to check" in err


def test_one_model_alone(tmp_path, capsys):
    write_model(tmp_path, "one")
    write_model(tmp_path, "broken", BROKEN)
    assert check(capsys, tmp_path, "--load-model=one")[:2] == (0, {"one": ("1", "OK")})


def test_no_model_at_all(tmp_path, capsys):
    code, _, err = check(capsys, tmp_path)
    assert (code, err) == (1, "triton-stub: there is no model to check\n")


def test_no_repository(tmp_path, capsys):
    assert main(["check", str(tmp_path / "nothing")]) == 1
    assert "nothing is not a directory" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "no model repository given; for example: triton-stub check model_repository"),
        (["models", "--input=IN=1"], "--input IN: expected MODEL/NAME=VALUE"),
        (["models", "--input=IN"], "--input 'IN': expected NAME=VALUE"),
    ],
)
def test_arguments_that_make_no_sense(arguments, told, capsys):
    assert told in refused(capsys, "check", *arguments)
