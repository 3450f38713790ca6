"""Validation: whatever comes is refused in the server's way, or is what the model may rely on."""

import struct
from math import prod

import hypothesis.strategies as st
import numpy as np
from hypothesis import event, given
from model_configs import model_configs

from triton_stub import config as model_config
from triton_stub.core.request import InferenceRequest
from triton_stub.core.tensor import Tensor
from triton_stub.core.validation import Validator
from triton_stub.datatypes import BYTES, DATATYPES, decode_bytes, encode_bytes, from_config_name
from triton_stub.errors import InferenceError, StatusCode
from triton_stub.testing.configs import read_config

sizes = st.sampled_from([-1, 0, 1, 1, 2, 2, 3, 4, 7])


@st.composite
def tensors(draw, entry, rows):
    """An input that mostly fits, with bytes that mostly are as many as its shape says."""
    shape = [rows, *(draw(sizes) if dim == -1 else dim for dim in entry["dims"])]
    if draw(st.integers(0, 3)) == 0:
        shape[draw(st.integers(0, len(shape) - 1))] = draw(sizes)
    if draw(st.integers(0, 7)) == 0:
        shape = shape[1:]
    datatype = from_config_name(entry["data_type"])
    if draw(st.integers(0, 7)) == 0:
        datatype = draw(st.sampled_from(DATATYPES))
    count = max(0, prod(shape)) + draw(st.sampled_from([0, 0, 0, 1]))
    if datatype is BYTES:
        items = draw(st.lists(st.binary(max_size=3), min_size=count, max_size=count))
        data = encode_bytes(np.array(items, object))
    else:
        data = bytes(count * datatype.itemsize)
    return Tensor(entry["name"], datatype, tuple(shape), data)


@st.composite
def requests(draw, config):
    rows = draw(st.integers(0, 4))
    return InferenceRequest(
        model_name="drawn",
        inputs=[
            draw(tensors(entry, rows))
            for entry in draw(st.permutations(config["input"]))
            if draw(st.integers(0, 9))
        ],
        requested_outputs=draw(st.sampled_from([*[()] * 5, ("seen",), ("unknown",)])),
    )


@given(data=st.data(), config=model_configs())
def test_a_request_is_refused_or_fits(data, config):
    request = data.draw(requests(config))
    try:
        validated = Validator(read_config(config)).validate(request)
    except InferenceError as error:
        event(" ".join(str(error).split()[3:8]))
        assert error.code is StatusCode.INVALID_ARG  # noqa: PT017 - most are not refused
        return
    event("accepted")
    entries = {entry["name"]: entry for entry in config["input"]}
    batching = config["max_batch_size"] > 0
    assert validated.requested_outputs == {"seen"}
    assert 0 <= validated.batch_size <= config["max_batch_size"]
    assert (validated.batch_size > 0) == batching
    assert len(validated.inputs) == len(request.inputs)
    for sent in request.inputs:
        (tensor,) = [tensor for tensor in validated.inputs if tensor.name == sent.name]
        entry = entries[sent.name]
        assert tensor.data is sent.data
        assert tensor.to_numpy().size == prod(sent.shape)
        rank = len(entry["reshape"]["shape"] if "reshape" in entry else entry["dims"])
        assert len(tensor.shape) == rank + batching
        if batching:
            assert tensor.shape[0] == validated.batch_size


@given(data=st.data(), config=model_configs())
def test_what_passed_before_makes_no_difference(data, config):
    read = read_config(config)
    used = Validator(read)
    for request in data.draw(st.lists(requests(config), min_size=1, max_size=4)):
        for _ in range(2):
            assert told(used, request) == told(Validator(read), request)


def told(validator, request):
    try:
        validated = validator.validate(request)
    except InferenceError as error:
        return str(error)
    inputs = [(each.name, each.shape, bytes(each.to_bytes())) for each in validated.inputs]
    return validated.batch_size, inputs, validated.requested_outputs


CONFIG = 'input [ { name: "TEXT" data_type: TYPE_STRING dims: [ -1 ] } ]'
BODIES = st.lists(st.sampled_from([b"\0\0\0\0", b"\1\0\0\0", b"a", b"\2\0\0\0bc", b"\xff" * 4]))


@given(data=BODIES.map(b"".join) | st.binary(max_size=20), count=st.integers(0, 6))
def test_bytes_pass_if_and_only_if_they_can_be_read(data, count):
    config = model_config.parse(CONFIG)
    model_config.normalize(config, "m")
    tensor = Tensor("TEXT", BYTES, (count,), data)
    request = InferenceRequest(model_name="m", inputs=[tensor])
    try:
        readable = len(decode_bytes(data)) == count
    except struct.error:
        readable = False
    try:
        (seen,) = Validator(config).validate(request).inputs
    except InferenceError:
        assert not readable
    else:
        assert readable
        assert len(seen.to_numpy()) == count
