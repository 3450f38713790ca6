"""A request against a configuration. Its words are compared with the real server's elsewhere."""

import numpy as np
import pytest

from triton_stub import config as model_config
from triton_stub.core.request import InferenceRequest
from triton_stub.core.tensor import Tensor
from triton_stub.core.validation import BackendRefusedError, Validator
from triton_stub.datatypes import BYTES, encode_bytes, from_name
from triton_stub.errors import InferenceError, StatusCode

BATCHED = """
max_batch_size: 4
input [
  { name: "A" data_type: TYPE_FP32 dims: [ 2, -1 ] },
  { name: "B" data_type: TYPE_STRING dims: [ 2 ] optional: true },
  { name: "C" data_type: TYPE_INT32 dims: [ -1, 2, -1 ] reshape { shape: [ 1, -1, 2, 1, -1 ] }
    optional: true }
]
output [
  { name: "X" data_type: TYPE_FP32 dims: [ 1 ] },
  { name: "Y" data_type: TYPE_FP32 dims: [ 1 ] }
]
"""
FLAT = 'input [ { name: "A" data_type: TYPE_FP32 dims: [ 2, -1 ] } ]'
A = np.zeros((1, 2, 3), np.float32)
B = np.array([["x", "yy"]])


def validator(text=BATCHED):
    config = model_config.parse(text)
    model_config.normalize(config, "m")
    return Validator(config)


def request(*tensors, outputs=(), request_id="", **arrays):
    return InferenceRequest(
        model_name="m",
        request_id=request_id,
        inputs=[*tensors, *(Tensor.from_numpy(name, array) for name, array in arrays.items())],
        requested_outputs=outputs,
    )


def raw(name, datatype, shape, data=b""):
    return Tensor(name, from_name(datatype), shape, data)


def refusal(wrong, text=BATCHED):
    with pytest.raises(InferenceError) as caught:
        validator(text).validate(wrong)
    assert caught.value.code is StatusCode.INVALID_ARG
    return str(caught.value)


def seen(valid, text=BATCHED):
    return {tensor.name: tensor for tensor in validator(text).validate(valid).inputs}


def test_a_good_request():
    validated = validator().validate(request(A=A, B=B))
    assert validated.batch_size == 1
    assert {tensor.name for tensor in validated.inputs} == {"A", "B"}
    assert validated.requested_outputs == {"X", "Y"}


def test_only_what_is_asked_for():
    assert validator().validate(request(A=A, outputs=["Y"])).requested_outputs == {"Y"}


def test_the_values_are_the_clients():
    array = np.arange(6, dtype=np.float32).reshape(1, 2, 3)
    assert np.shares_memory(seen(request(A=array))["A"].to_numpy(), array)


def test_without_batching_the_batch_size_is_0():
    assert validator(FLAT).validate(request(A=A[0])).batch_size == 0


@pytest.mark.parametrize("size", [0, 1, 5])
def test_an_open_size_may_be_anything(size):
    assert seen(request(A=np.zeros((3, 2, size), np.float32)))["A"].shape == (3, 2, size)


def test_reshape_fills_in_the_open_sizes_in_their_order():
    tensor = seen(request(A=np.zeros((2, 2, 1), np.float32), C=np.zeros((2, 5, 2, 7), np.int32)))
    assert tensor["C"].shape == (2, 1, 5, 2, 1, 7)
    assert tensor["C"].to_numpy().shape == (2, 1, 5, 2, 1, 7)


SCALAR = 'max_batch_size: 4 input { name: "A" data_type: TYPE_FP32 dims: [ 1 ] reshape { } }'


def test_reshape_to_nothing_leaves_the_batch():
    assert seen(request(A=np.zeros((3, 1), np.float32)), SCALAR)["A"].shape == (3,)


def test_reshape_to_nothing_of_an_empty_batch():
    text = refusal(request(A=np.zeros((0, 1), np.float32)), SCALAR)
    assert "the batch size is 0" in text


NOTE = (
    "NOTE: Setting a non-zero max_batch_size in the model config requires a batch dimension to be "
    "prepended to each input shape. If you want to specify the full shape including the batch dim "
    "in your input dims config, try setting max_batch_size to zero. See the model configuration "
    "docs for more info on max_batch_size."
)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (
            request(A=A, outputs=["Z"]),
            "unexpected inference output 'Z' for model 'm'",
        ),
        (
            request(raw("A", "FP32", (1,)), raw("A", "FP32", (1,))),
            "[request id: <id_unknown>] input 'A' already exists in request",
        ),
        (
            request(A=A, outputs=["X", "X"], request_id="x7"),
            "[request id: x7] output 'X' already exists in request",
        ),
        (
            request(),
            "[request id: <id_unknown>] expected number of inputs between 1 and 3 but got 0 inputs "
            "for model 'm'. Got input(s) [], but missing required input(s) ['A']. Please provide "
            "all required input(s).",
        ),
        (
            request(A=A, Z=A),
            "unexpected inference input 'Z' for model 'm'",
        ),
        (
            request(raw("A", "FP32", ())),
            "[request id: <id_unknown>] input 'A' has no shape but model requires batch dimension "
            "for 'm'",
        ),
        (
            request(A=np.zeros((5, 2, 3), np.float32)),
            "[request id: <id_unknown>] inference request batch-size must be <= 4 for 'm'",
        ),
        (
            request(raw("A", "FP32", (-1, 2, 3))),
            "[request id: <id_unknown>] inference request batch-size must be <= 4 for 'm'",
        ),
        (
            request(A=A.astype(np.int8)),
            "[request id: <id_unknown>] inference input 'A' data-type is 'INT8', but model 'm' "
            "expects 'FP32'",
        ),
        (
            request(raw("A", "FP32", (1, 2, -1))),
            "[request id: <id_unknown>] All input dimensions should be specified for input 'A' for "
            "model 'm', got [1,2,-1]",
        ),
        (
            request(raw("A", "FP32", (1, 3, -1))),
            "[request id: <id_unknown>] unexpected shape for input 'A' for model 'm'. Expected "
            "[-1,2,-1], got [1,3,-1]. " + NOTE,
        ),
        (
            request(A=A[:, :, 0]),
            "[request id: <id_unknown>] unexpected shape for input 'A' for model 'm'. Expected "
            "[-1,2,-1], got [1,2]. " + NOTE,
        ),
        (
            request(raw("A", "FP32", (1, 2, 1), bytes(7))),
            "[request id: <id_unknown>] input byte size mismatch for input 'A' for model 'm'. "
            "Expected 8, got 7",
        ),
    ],
    ids=lambda value: value[:60] if isinstance(value, str) else "",
)
def test_words_of_a_refusal(wrong, text):
    assert refusal(wrong) == text


def test_batches_that_differ():
    text = refusal(request(A=A, B=np.array([["x", "y"], ["z", "u"]])))
    assert text.endswith("batch size does not match other inputs for 'm'")


def test_a_count_without_optional_inputs():
    assert "expected 1 inputs but got 2 inputs" in refusal(request(A=A, B=B), FLAT)


def test_too_many_inputs_miss_nothing():
    text = refusal(request(A=A, B=B, C=A, D=A))
    assert "but missing required input(s) ]. Please" in text


def test_only_the_number_of_inputs_is_checked():
    assert set(seen(request(B=B))) == {"B"}


def test_without_batching_there_is_no_note():
    text = refusal(request(A=A), FLAT)
    assert text.endswith("Expected [2,-1], got [1,2,3]. ")


OPEN = """
input [ { name: "A" data_type: TYPE_FP32 dims: [ -1, -1 ] optional: true },
        { name: "B" data_type: TYPE_STRING dims: [ -1, -1 ] optional: true } ]
"""


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        (raw("A", "FP32", (2, -2)), "tensor 'A' contains an invalid dimension [2,-2]"),
        (raw("A", "FP32", (2, 2**60)), "byte size for tensor 'A' exceeds maximum size of 9223372"),
        (raw("A", "FP32", (2**62, 2**62)), "byte size for tensor 'A' exceeds maximum size of"),
        (raw("B", "BYTES", (2**62, 2)), "element count for tensor 'B' exceeds maximum size of"),
        (raw("B", "BYTES", (1, -2)), "tensor 'B' contains an invalid dimension in shape [1,-2]"),
    ],
)
def test_sizes_that_cannot_be_counted(tensor, words):
    assert words in refusal(request(tensor), OPEN)


def test_the_core_takes_what_the_backend_refuses():
    cut = raw("B", "BYTES", (1, 2), b"\1\0\0\0a\5\0\0\0b")
    assert validator().check(request(cut, A=A)).batch_size == 1
    assert "incomplete string data" in refusal(request(cut, A=A))


def framed(*items):
    return encode_bytes(np.array(items, object))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (framed(b"a"), "expected 2 string elements for inference input 'B' for model 'm', got 1"),
        (
            framed(b"a", b"b", b"c"),
            "unexpected number of string elements 3 for inference input 'B' for model 'm', "
            "expecting 2",
        ),
        (
            framed(b"a") + b"\1\0",
            "incomplete string length indicator for inference input 'B' for model 'm', expecting "
            "4 bytes but only 2 bytes available. Please make sure the string length indicator is "
            "in one buffer.",
        ),
        (
            framed(b"a", b"bcd")[:-2],
            "incomplete string data for inference input 'B', expecting string of length 3 but "
            "only 1 bytes available",
        ),
        (b"", "expected 2 string elements for inference input 'B' for model 'm', got 0"),
    ],
)
@pytest.mark.parametrize("kind", [bytes, memoryview])
def test_framing_of_bytes(data, words, kind):
    assert refusal(request(raw("B", "BYTES", (1, 2), kind(data)), A=A)).endswith(words)


def test_an_array_of_bytes_of_another_size():
    array = np.array([b"x"], object)
    text = refusal(request(Tensor("B", BYTES, (1, 2), array), A=A))
    assert text.endswith("expected 2 string elements for inference input 'B' for model 'm', got 1")


def test_good_framing():
    assert seen(request(raw("B", "BYTES", (1, 2), framed(b"", b"ab")), A=A))["B"]


def test_an_empty_batch_is_not_left_waiting():
    assert "the batch size is 0" in refusal(request(A=np.zeros((0, 2, 0), np.float32)))


def test_an_empty_batch_with_something_in_it():
    assert refusal(request(A=np.zeros((0, 2, 1), np.float32))).endswith("Expected 8, got 0")


def test_a_batch_of_no_inputs():
    text = BATCHED.replace("dims: [ 2, -1 ]", "dims: [ 2, -1 ] optional: true")
    assert refusal(request(), text) == (
        "[request id: <id_unknown>] out of bounds index 0: request has 0 inputs"
    )


def test_no_inputs_without_batching():
    assert validator("").validate(request()).inputs == []


MAYBE = BATCHED.replace("dims: [ 2, -1 ]", "dims: [ 2, -1 ] optional: true")
FOR_BACKENDS = {
    "no inputs": request(),
    "a text cut short": request(raw("B", "BYTES", (1, 2), framed(b"", b"ab")[:-1])),
}


@pytest.mark.parametrize("wrong", FOR_BACKENDS.values(), ids=FOR_BACKENDS)
def test_what_only_the_backend_refuses(wrong):
    config = model_config.parse(MAYBE)
    model_config.normalize(config, "m")
    with_backend, without = Validator(config), Validator(config, backend=False)
    for _ in range(2):  # the second time from memory
        with pytest.raises(BackendRefusedError):
            with_backend.validate(wrong)
        without.validate(wrong)


def test_an_ensemble_lets_no_rows_pass():
    config = model_config.parse(BATCHED)
    model_config.normalize(config, "m")
    valid = Validator(config, backend=False).validate(request(A=np.zeros((0, 2, 0), np.float32)))
    assert valid.batch_size == 0
