"""Answers of models, as the command line shows them."""

import json

import ml_dtypes
import numpy as np

from triton_stub.cli import answers
from triton_stub.core.result import Result


def result(parameters=None, **outputs):
    return Result(outputs, "m", "3", parameters=parameters or {})


def rows(text):
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()[3:-1]]


def test_a_table():
    words = np.array([b"a\xff", b"x" * 100], object)
    told = answers.for_people(
        result(
            A=np.array([[1.5, -2], [np.float32(1 / 3), 4], [0, 0]], np.float32),
            B=np.array([True, False]),
            C=np.array([1, 2, 3], ml_dtypes.bfloat16),
            D=words,
            E=np.zeros((0, 2), np.int8),
        )
    )
    assert rows(told) == [
        ["A", "FP32", "[3,2]", "-2", "0.63889", "4", "1.5, -2, 0.33333, 4, …"],
        ["B", "BOOL", "[2]", "0", "0.5", "1", "True, False"],
        ["C", "BF16", "[3]", "1", "2", "3", "1, 2, 3"],
        ["D", "BYTES", "[2]", "", "", "", "'a\\\\xff', '" + "x" * 39 + "…"],
        ["E", "INT8", "[0,2]", "", "", "", ""],
    ]


def test_no_outputs_and_parameters():
    assert answers.for_people(result({"a": 1, "b": "x"})) == (
        "(no outputs)\nparameter a: 1\nparameter b: 'x'"
    )


def test_json():
    text = answers.for_programs(
        result({"p": True}, A=np.array([[1, 2]], np.int16), B=np.array(["ä".encode(), b"\xff"]))
    )
    assert "\n" not in text
    assert json.loads(text) == {
        "model_name": "m",
        "model_version": "3",
        "parameters": {"p": True},
        "outputs": [
            {"name": "A", "datatype": "INT16", "shape": [1, 2], "data": [1, 2]},
            {"name": "B", "datatype": "BYTES", "shape": [2], "data": ["ä", "\\xff"]},
        ],
    }
    assert "parameters" not in json.loads(answers.for_programs(result()))
