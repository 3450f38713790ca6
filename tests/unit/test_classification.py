"""Outputs as their likeliest classes; what the real server does is in the conformance suite."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from triton_stub.core.tensor import Tensor
from triton_stub.datatypes import BYTES
from triton_stub.endpoints.classification import classify
from triton_stub.errors import InferenceError, StatusCode


def classified(array: Any, count: int, *, batches: bool = False, **labels: list[bytes]) -> Tensor:
    model: Any = SimpleNamespace(
        config=SimpleNamespace(max_batch_size=8 if batches else 0), labels=labels
    )
    return classify(Tensor.from_numpy("OUT", np.array(array)), count, model)


def test_value_index_and_label() -> None:
    labels = [b"a", b"", b"c:\xff"]
    answer = classified(np.array([0.5, 2, 1, 0.25], np.float32), 9, OUT=labels, X=[b"x"])
    assert (answer.name, answer.datatype, answer.shape) == ("OUT", BYTES, (4,))
    told = [b"2.000000:1", b"1.000000:2:c:\xff", b"0.500000:0:a", b"0.250000:3"]
    assert answer.to_numpy().tolist() == told


def test_rows_of_a_batch() -> None:
    rows = np.array([[1, 2, 3], [6, 5, 4]], np.uint8)
    answer = classified(rows, 2, batches=True)
    assert answer.to_numpy().tolist() == [[b"3:2", b"2:1"], [b"6:0", b"5:1"]]


def test_without_batches_a_tensor_is_one_row() -> None:
    answer = classified(np.array([[1, 2, 3], [6, 5, 4]], np.int64), 2)
    assert answer.to_numpy().tolist() == [b"6:3", b"5:4"]


@pytest.mark.parametrize(
    ("shape", "batches", "classes"),
    [((0,), False, (0,)), ((2, 0), True, (2, 0)), ((0, 3), True, (0,)), ((), False, (1,))],
)
def test_no_classes(shape: tuple[int, ...], batches: bool, classes: tuple[int, ...]) -> None:
    assert classified(np.zeros(shape), 3, batches=batches).shape == classes


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (np.float32(0.1), b"0.100000"),
        (np.float32(3.4028235e38), b"340282346638528859811704183484516925440.000000"),
        (np.float64(-0.0), b"-0.000000"),
        (np.float64(-np.inf), b"-inf"),
        (np.float32(np.nan), b"nan"),
        (np.float32(-np.nan), b"-nan"),
        (np.uint64(2**64 - 1), b"18446744073709551615"),
        (np.int8(-128), b"-128"),
    ],
)
def test_values_as_text(value: Any, text: bytes) -> None:
    assert classified([value], 1).to_numpy().tolist() == [text + b":0"]


@pytest.mark.parametrize(
    ("dtype", "name"),
    [(np.bool_, "BOOL"), (np.float16, "FP16"), (ml_dtypes.bfloat16, "BF16"), (np.object_, "BYTES")],
)
def test_datatypes_without_classes(dtype: Any, name: str) -> None:
    with pytest.raises(InferenceError) as caught:
        classified(np.zeros(1, dtype), 1)
    assert caught.value.code is StatusCode.INVALID_ARG
    assert caught.value.message == (
        f"class result not available for output due to unsupported type '{name}'"
    )


def test_a_limit_of_the_classes_of_a_row() -> None:
    assert classified(np.zeros((2, 1_000_000), np.int8), 1, batches=True).shape == (2, 1)
    with pytest.raises(InferenceError, match="classification output tensor too large"):
        classified(np.zeros(1_000_001, np.int8), 1)
