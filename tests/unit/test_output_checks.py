"""check_outputs: what the real server lets pass and a client stumbles over."""

import json
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from triton_stub import ConfigError, InferenceError, config
from triton_stub.core.request import InferenceResponse
from triton_stub.core.result import Result
from triton_stub.core.tensor import Tensor
from triton_stub.testing import check_outputs

CONFIG = {
    "name": "m",
    "max_batch_size": 8,
    "output": [
        {"name": "y", "data_type": "TYPE_FP32", "dims": [3]},
        {"name": "word", "data_type": "TYPE_STRING", "dims": [-1]},
    ],
}
PLAIN = {"name": "p", "output": [{"name": "y", "data_type": "TYPE_BF16", "dims": [2, -1]}]}
Y = np.zeros((2, 3), np.float32)
WORD = np.array([[b"a"], [b"b"]], dtype=object)
RIGHT = {"y": Y, "word": WORD}


def complaint(result, of=CONFIG, **options):
    with pytest.raises(AssertionError) as caught:
        check_outputs(of, result, **options)
    first, *lines = str(caught.value).splitlines()
    assert first == f"the answer of model '{of['name']}' breaks its configuration:"
    return [line.removeprefix("  - ") for line in lines]


def response(*tensors, **fields):
    sent = [Tensor.from_numpy(name, array) for name, array in tensors]
    return InferenceResponse(model_name="m", model_version="1", tensors=sent, **fields)


@pytest.mark.parametrize(
    "result",
    [
        pytest.param(RIGHT, id="dict"),
        pytest.param(Result(RIGHT, "m", "1"), id="result"),
        pytest.param(response(*RIGHT.items()), id="response"),
        pytest.param({"y": Y, "word": np.array([["a", "b"], ["c", "d"]])}, id="text"),
        pytest.param({"y": Y[:0], "word": WORD[:0]}, id="no rows"),
    ],
)
def test_an_answer_that_fits(result):
    check_outputs(CONFIG, result)


def test_the_batch_size_that_was_asked_for():
    check_outputs(CONFIG, RIGHT, batch_size=2)
    assert complaint(RIGHT, batch_size=3) == [
        f"output '{name}' has 2 rows, but 3 were asked for: return a row for each of the input"
        for name in ("y", "word")
    ]


def test_without_one_the_outputs_must_agree():
    assert complaint({"y": Y, "word": WORD[:1]}) == [
        (
            "outputs have different batch sizes, {'y': 2, 'word': 1}: "
            "return a row for each of the input"
        )
    ]


def test_a_model_without_batching():
    check_outputs(PLAIN, {"y": np.zeros((2, 5), ml_dtypes.bfloat16)})
    assert complaint({"y": np.zeros((1, 2, 5), ml_dtypes.bfloat16)}, PLAIN) == [
        (
            "output 'y' has shape [1,2,5], the configuration says [2,-1]: "
            "reshape the array, or correct dims"
        )
    ]
    with pytest.raises(ValueError, match=r"'p' does not batch \(max_batch_size: 0\)"):
        check_outputs(PLAIN, {}, batch_size=1)


def test_a_missing_output():
    assert complaint({"y": Y}) == [
        (
            "output 'word' is missing; the answer has ['y']: "
            "return a Tensor of that name in the InferenceResponse "
            "(Triton drops names that are not in the configuration)"
        )
    ]


def test_outputs_that_were_not_asked_for_may_be_missing():
    check_outputs(CONFIG, {"y": Y}, outputs=["y"])
    (line,) = complaint({"y": Y}, outputs=["word"])
    assert line.startswith("output 'word' is missing")


def test_an_output_that_nobody_knows():
    assert complaint({**RIGHT, "extra": Y}) == [
        "output 'extra' is not in the configuration, which has ['y', 'word']"
    ]


def test_an_output_that_is_there_twice():
    assert complaint(response(("y", Y), *RIGHT.items())) == [
        "output 'y' is there 2 times: return it once"
    ]


@pytest.mark.parametrize(
    "dtype", [np.float64, np.float16, np.int32, np.complex64, ml_dtypes.bfloat16]
)
def test_a_wrong_datatype(dtype):
    assert complaint({**RIGHT, "y": Y.astype(dtype)}) == [
        (
            f"output 'y' has dtype {np.dtype(dtype)}, the configuration says TYPE_FP32: "
            "return an array of dtype float32, or correct data_type"
        )
    ]


@pytest.mark.parametrize("shape", [(2, 4), (2,), (), (2, 1, 3), (3, 2)])
def test_a_wrong_shape(shape):
    printed = "[" + ",".join(map(str, shape)) + "]"
    line = complaint({**RIGHT, "y": np.zeros(shape, np.float32)})[0]
    assert line == (
        f"output 'y' has shape {printed}, the configuration says [-1,3] (the first is the batch "
        "dimension, which dims leave out): reshape the array, or correct dims"
    )


def test_everything_is_said_at_once():
    lines = complaint({"y": np.zeros((1, 4)), "extra": Y}, batch_size=2)
    assert [line.split()[1] for line in lines] == ["'word'", "'extra'", "'y'", "'y'", "'y'"]


def test_an_answer_that_is_an_error_is_raised():
    with pytest.raises(InferenceError, match="no"):
        check_outputs(CONFIG, response(error=InferenceError("no")))


TEXT = """
max_batch_size: 8
output [
  { name: "y" data_type: TYPE_FP32 dims: [ 3 ] },
  { name: "word" data_type: TYPE_STRING dims: [ -1 ] }
]
"""


def written(folder: Path, text=TEXT):
    folder.mkdir()
    (folder / "config.pbtxt").write_text(text)
    return folder


@pytest.mark.parametrize(
    "form",
    [
        pytest.param(written, id="folder"),
        pytest.param(lambda folder: str(written(folder)), id="text path"),
        pytest.param(lambda folder: written(folder) / "config.pbtxt", id="file"),
        pytest.param(
            lambda folder: written(folder).joinpath("config.pbtxt").rename(folder / "other.pbtxt"),
            id="file of another name",
        ),
        pytest.param(lambda folder: config.parse(TEXT), id="message"),
        pytest.param(lambda folder: config.to_dict(config.load(written(folder))), id="dict"),
        pytest.param(
            lambda folder: json.loads(config.to_json(config.load(written(folder)))), id="json"
        ),
        pytest.param(lambda folder: {**CONFIG, "from_the_future": 1}, id="newer dict"),
    ],
)
def test_a_configuration_may_come_as(tmp_path, form):
    of = form(tmp_path / "m")
    check_outputs(of, RIGHT)
    with pytest.raises(AssertionError, match="'word' is missing"):
        check_outputs(of, {"y": Y})


def test_a_message_is_left_as_it_is():
    message = config.parse(TEXT)
    before = message.SerializeToString()
    check_outputs(message, RIGHT)
    assert message.SerializeToString() == before


@pytest.mark.parametrize(
    ("of", "text"),
    [
        pytest.param(lambda folder: folder / "no", "no is no readable file", id="nothing"),
        pytest.param(lambda folder: folder, "is a folder without it", id="empty folder"),
        pytest.param(lambda folder: 7, "found 7 of type int", id="number"),
        pytest.param(lambda folder: {"input": 7}, "this dict is no model configuration", id="dict"),
        pytest.param(
            lambda folder: {"input": [{"name": "x", "data_type": "TYPE_FP32"}]},
            "model input 'x' must specify 'dims' for unnamed",
            id="refused by a server",
        ),
        pytest.param(
            lambda folder: written(folder / "m", "nonsense: 1"), r"config\.pbtxt:1:1", id="syntax"
        ),
    ],
)
def test_no_configuration(tmp_path, of, text):
    with pytest.raises(ConfigError, match=text):
        check_outputs(of(tmp_path), {})


def test_a_dangling_path_says_where_it_looked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        check_outputs("model_repository/m", {})
    assert str(tmp_path / "model_repository" / "m") in caught.value.message
