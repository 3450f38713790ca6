"""Input tensors from what people write."""

import json

import ml_dtypes
import numpy as np
import pytest

from triton_stub import config as model_config
from triton_stub.cli import tensors
from triton_stub.datatypes import DATATYPES

RNG = np.random.default_rng


def model(*inputs, max_batch_size=0):
    """A configuration; inputs are (name, datatype, dims), or four with True for optional."""
    message = model_config.schema().ModelConfig(name="m", max_batch_size=max_batch_size)
    for name, datatype, dims, *optional in inputs:
        (number,) = (row.number for row in DATATYPES if row.name == datatype)
        message.input.add(name=name, data_type=number, dims=dims, optional=bool(optional))
    return message


def one(datatype, dims, text, *, batch_size=None, max_batch_size=0):
    """The tensor for a single input."""
    config = model(("IN", datatype, dims), max_batch_size=max_batch_size)
    given = {} if text is None else {"IN": text}
    return tensors.request(config, given, batch_size=batch_size, rng=RNG(0))["IN"]


@pytest.mark.parametrize(
    ("datatype", "dims", "text", "expected"),
    [
        ("FP32", [-1], "1,2.5", [1, 2.5]),
        ("FP32", [-1], "7", [7]),
        ("FP32", [2, 2], "0.5", [[0.5, 0.5], [0.5, 0.5]]),
        ("FP32", [2, 2], "[[1, 2], [3, 4]]", [[1, 2], [3, 4]]),
        ("FP32", [2, 2], "1,2,3,4", [[1, 2], [3, 4]]),
        ("FP32", [-1, 2], "[1,2,3,4]", [[1, 2], [3, 4]]),
        ("FP64", [-1], "NaN,-Infinity", [np.nan, -np.inf]),
        ("FP16", [-1], "nan,-inf", [np.nan, -np.inf]),
        ("BF16", [1], "INF", [np.inf]),
        ("FP32", [-1], "[infinity, 1e5]", [np.inf, 1e5]),
        ("BYTES", [1], "nan", [b"nan"]),
        ("BYTES", [-1], '["inf", "x"]', [b"inf", b"x"]),
        ("INT8", [-1], "-128,127", [-128, 127]),
        ("UINT64", [1], "18446744073709551615", [2**64 - 1]),
        ("UINT64", [-1], "0,9223372036854775808", [0, 2**63]),
        ("FP64", [-1], "0,9223372036854775808", [0, 2**63]),
        ("BF16", [-1], "0,9223372036854775808", [0.0, 2.0**63]),
        ("BOOL", [-1], "true,false", [True, False]),
        ("INT32", [-1], "[]", []),
        ("BYTES", [1], "hello, world", [b"hello, world"]),
        ("BYTES", [-1], '["ä", "b"]', ["ä".encode(), b"b"]),
        ("BYTES", [2], '"quoted"', [b"quoted", b"quoted"]),
        ("BYTES", [1], "", [b""]),
    ],
)
def test_values(datatype, dims, text, expected):
    array = one(datatype, dims, text)
    (row,) = (row for row in DATATYPES if row.name == datatype)
    assert array.dtype == row.numpy
    np.testing.assert_array_equal(array, np.array(expected, row.numpy))


@pytest.mark.parametrize(
    ("text", "batch_size", "expected"),
    [
        ("1,2", None, [[1, 2]]),
        ("1,2", 3, [[1, 2]] * 3),
        ("5", 2, [[5, 5], [5, 5]]),
        ("[[1,2],[3,4]]", None, [[1, 2], [3, 4]]),
        ("[[1,2],[3,4]]", 2, [[1, 2], [3, 4]]),
    ],
)
def test_batches(text, batch_size, expected):
    array = one("INT32", [2], text, batch_size=batch_size, max_batch_size=8)
    np.testing.assert_array_equal(array, expected)
    assert array.flags.c_contiguous


def test_an_input_with_a_batch_says_how_large_that_of_the_others_is():
    config = model(("A", "INT32", [1]), ("B", "FP32", [2]), max_batch_size=8)
    made = tensors.request(config, {"A": "[[1],[2],[3]]"}, batch_size=None, rng=RNG(0))
    assert {name: array.shape for name, array in made.items()} == {"A": (3, 1), "B": (3, 2)}


@pytest.mark.parametrize("row", DATATYPES, ids=lambda row: row.name)
def test_what_is_drawn(row):
    array = one(row.name, [2, -1], "random:2x50")
    assert (array.shape, array.dtype) == ((2, 50), row.numpy)
    np.testing.assert_array_equal(array, one(row.name, [2, -1], "random:2x50"))
    assert len(set(array.ravel().tolist())) > 1
    if row.name == "BYTES":
        assert all(len(word) == 8 and word.isalpha() for word in array.ravel())
    else:
        assert (array.astype(float) >= 0).all()
        assert (array.astype(float) <= 99).all()


def test_sizes_of_what_is_drawn():
    assert one("FP32", [-1, 3], None).shape == (1, 3)
    assert one("FP32", [-1, 3], "random").shape == (1, 3)
    assert one("FP32", [-1, 3], "random:7x3", max_batch_size=4).shape == (1, 7, 3)
    assert one("FP32", [-1, 3], "random:2x7x3", max_batch_size=4).shape == (2, 7, 3)
    assert one("FP32", [3], None, batch_size=4, max_batch_size=4).shape == (4, 3)


def test_optional_inputs_are_left_out():
    config = model(("A", "INT32", [1]), ("B", "INT32", [1], True))
    assert list(tensors.request(config, {}, batch_size=None, rng=RNG(0))) == ["A"]
    assert list(tensors.request(config, {"B": "1"}, batch_size=None, rng=RNG(0))) == ["A", "B"]


def test_files(tmp_path):
    np.save(tmp_path / "a.npy", np.array([1.5, 2.5]))
    (tmp_path / "a.json").write_text(json.dumps([[1], [2]]))
    (tmp_path / "a.jpg").write_bytes(b"\xff\x00")
    np.testing.assert_array_equal(one("FP32", [-1], f"{tmp_path}/a.npy"), np.float32([1.5, 2.5]))
    np.testing.assert_array_equal(one("FP32", [-1], f"@{tmp_path}/a.npy"), [1.5, 2.5])
    np.testing.assert_array_equal(one("INT32", [-1, 1], f"{tmp_path}/a.json"), [[1], [2]])
    assert one("BYTES", [1], f"@{tmp_path}/a.jpg").tolist() == [b"\xff\x00"]
    assert one("BF16", [2], f"{tmp_path}/a.npy").dtype == ml_dtypes.bfloat16


@pytest.mark.parametrize(
    ("datatype", "dims", "text", "told"),
    [
        ("FP32", [2], "1,2,3", "input 'IN': shape [3] does not fit; the model takes [2]"),
        ("FP32", [-1, -1], "1,2,3", "shape [3] does not fit; the model takes [-1,-1]"),
        ("FP32", [2], "[[1],[2,3]]", "input 'IN': the lists in it are of different lengths"),
        ("BYTES", [2], '[["a"],["b","c"]]', "the lists in it are of different lengths"),
        ("INT8", [1], "128", "input 'IN': 128 cannot be INT8 without a loss; convert it first"),
        ("INT8", [1], "1.0", "1.0 cannot be INT8 without a loss"),
        ("UINT8", [1], "-1", "-1 cannot be UINT8 without a loss"),
        ("BOOL", [1], "1", "1 cannot be BOOL without a loss; expected true or false"),
        ("BOOL", [1], "yes", '"yes" is no value for BOOL; expected random, true, true,false, JSON'),
        ("FP16", [1], "65520", "input 'IN': 65520 is too large for FP16"),
        ("FP16", [2], "1,-1e5", "[1, -100000.0] is too large for FP16"),
        ("BF16", [1], "1e39", "1e+39 is too large for BF16"),
        ("FP32", [1], "1e39", "1e+39 is too large for FP32"),
        ("FP64", [1], "1e400", '"1e400" is too large for any number'),
        ("INT8", [1], "nan", '"nan" is no value for INT8'),
        ("BYTES", [1], "[x", 'what begins with [ or " is JSON; for this very text write IN="[x"'),
        ("FP32", [1], "true", "true cannot be FP32 without a loss"),
        ("FP32", [1], '"x"', '"x" cannot be FP32 without a loss'),
        ("FP32", [1], "x", "input 'IN': \"x\" is no value for FP32; expected random, a number"),
        ("FP32", [-1], "random:2x", "random:2x: expected sizes, such as random:3x224x224"),
        ("FP32", [3], "random:2", "shape [2] does not fit; the model takes [3]"),
        ("FP32", [3], "nowhere.npy", "input 'IN': cannot read nowhere.npy: [Errno 2] No such file"),
        ("FP32", [3], "[" * 100_000, "is no value for FP32"),
        ("FP32", [3], "@nowhere", "cannot read nowhere: [Errno 2]"),
        ("FP32", [3], f"@{__file__}", "can only be an element of a BYTES input, and this one is"),
    ],
)
def test_values_that_do_not_fit(datatype, dims, text, told):
    with pytest.raises(ValueError, match=r"^input 'IN'") as caught:
        one(datatype, dims, text)
    assert told in str(caught.value)


def test_an_empty_file(tmp_path):
    (tmp_path / "a.npy").touch()
    with pytest.raises(ValueError, match=r"cannot read .*a\.npy: No data left in file"):
        one("FP32", [1], f"{tmp_path}/a.npy")


def test_shapes_that_a_model_with_batches_takes():
    with pytest.raises(ValueError, match=r"the model takes \[2\], or \[-1,2\]"):
        one("FP32", [2], "1,2,3", max_batch_size=4)


def test_batches_that_do_not_fit():
    with pytest.raises(ValueError, match="input 'IN' has 2 rows, --batch-size has 3"):
        one("FP32", [1], "[[1],[2]]", batch_size=3, max_batch_size=4)
    with pytest.raises(ValueError, match="model 'm' does not batch"):
        one("FP32", [1], "1", batch_size=1)
    config = model(("A", "INT32", [1]), ("B", "INT32", [1]), max_batch_size=8)
    given = {"A": "[[1],[2]]", "B": "[[1],[2],[3]]"}
    with pytest.raises(ValueError, match="input 'B' has 3 rows, another input has 2"):
        tensors.request(config, given, batch_size=None, rng=RNG(0))


def test_inputs_that_there_are_not():
    config = model(("INPUT0", "FP32", [-1, 2]), ("MASK", "BYTES", [1]))
    with pytest.raises(ValueError, match="no input") as caught:
        tensors.request(config, {"INPUT1": "1"}, batch_size=None, rng=RNG(0))
    assert str(caught.value) == (
        "model 'm' has no input 'INPUT1'; did you mean 'INPUT0'? "
        "(its inputs: INPUT0 (FP32 [-1,2]), MASK (BYTES [1]))"
    )
    with pytest.raises(ValueError, match=r"has no input 'A' \(its inputs: none\)"):
        tensors.request(model(), {"A": "1"}, batch_size=None, rng=RNG(0))


def test_assignments():
    assert tensors.split(["A=1", "B=x=y", "C="]) == {"A": "1", "B": "x=y", "C": ""}
    for wrong in ("A", "=1"):
        with pytest.raises(ValueError, match="expected NAME=VALUE"):
            tensors.split([wrong])
    with pytest.raises(ValueError, match="input 'A' is given twice"):
        tensors.split(["A=1", "A=2"])
