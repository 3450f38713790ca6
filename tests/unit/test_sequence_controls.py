"""The inputs that a model with sequences gets beside its own."""

import numpy as np
import pytest
from queued import pending, read_config

from triton_stub.core.request import InferenceRequest
from triton_stub.core.scheduling.sequence_controls import Extras, correlation_id_rule, zeros
from triton_stub.core.scheduling.sequence_direct import null_request
from triton_stub.datatypes import BYTES, from_name
from triton_stub.errors import InferenceError


def control(kind, field):
    return f"control_input {{ name: '{kind}' control {{ kind: CONTROL_SEQUENCE_{kind} {field} }} }}"


def configured(*controls, max_batch_size=2):
    text = f"sequence_batching {{ {' '.join(controls)} }}"
    return read_config(text, max_batch_size=max_batch_size)


def added(config, flags=0, sequence=7, states=(), *, null=False):
    """What a request has beside its own input."""
    extras = Extras(config)
    extras.states = states
    request = pending()
    request.flags, request.correlation_id = flags, sequence
    if null:
        request = null_request(request.request, request.validated)
    extras.add(request)
    extras.add(request)  # in place of the first ones
    inputs = {tensor.name: tensor for tensor in request.validated.inputs}
    assert len(inputs) == len(request.validated.inputs)
    assert inputs.pop("OPEN") is not None
    return inputs


@pytest.mark.parametrize("max_batch_size", [0, 2])
@pytest.mark.parametrize(
    ("field", "dtype", "false", "true"),
    [
        ("int32_false_true: [ -2, 3 ]", np.int32, -2, 3),
        ("fp32_false_true: [ 0.5, -1.5 ]", np.float32, 0.5, -1.5),
        ("bool_false_true: [ true, false ]", np.bool_, True, False),
    ],
)
def test_signals(field, dtype, false, true, max_batch_size):
    shape = (1, 1) if max_batch_size else (1,)
    kinds = ("START", "END", "READY")
    config = configured(*(control(kind, field) for kind in kinds), max_batch_size=max_batch_size)
    for flags in range(4):
        inputs = added(config, flags)
        expected = {"START": flags & 1, "END": flags & 2, "READY": True}
        for kind, on in expected.items():
            array = inputs[kind].to_numpy()
            assert (array.dtype, array.shape) == (dtype, shape)
            assert array.ravel()[0] == (true if on else false)
    nulls = added(config, null=True)
    assert [nulls[kind].to_numpy().item() for kind in kinds] == [false] * 3


@pytest.mark.parametrize(
    ("kind", "sequence", "expected"),
    [
        ("UINT64", 2**64 - 1, 2**64 - 1),
        ("INT64", 2**64 - 1, -1),
        ("UINT32", 2**32 + 5, 5),
        ("INT32", 2**32 - 1, -1),
        ("STRING", "five", b"five"),
        ("STRING", 0, b""),
    ],
)
def test_the_correlation_id(kind, sequence, expected):
    inputs = added(configured(control("CORRID", f"data_type: TYPE_{kind}")), sequence=sequence)
    assert inputs["CORRID"].to_numpy().tolist() == [[expected]]


def test_states_of_a_null_request_are_zeros():
    states = [
        zeros("TEXT", BYTES, (1, 2)),
        zeros("ONES", from_name("INT32"), (1, 2)).with_shape((1, 2)),
    ]
    states[1].data = np.ones((1, 2), np.int32)
    assert added(configured(), states=states)["ONES"].to_numpy().tolist() == [[1, 1]]
    nulls = added(configured(), states=states, null=True)
    assert nulls["ONES"].to_numpy().tolist() == [[0, 0]]
    assert nulls["TEXT"].to_numpy().tolist() == [[b"", b""]]


@pytest.mark.parametrize(
    ("kind", "sequence", "found"),
    [("UINT64", "five", "BYTES"), ("STRING", 5, "UINT64"), ("STRING", 0, "UINT64")],
)
def test_an_id_of_the_other_kind(kind, sequence, found):
    rule = correlation_id_rule(configured(control("CORRID", f"data_type: TYPE_{kind}")))
    expected = "BYTES" if kind == "STRING" else kind
    with pytest.raises(InferenceError) as refused:
        rule.check(InferenceRequest(model_name="m", correlation_id=sequence, request_id="r"))
    assert refused.value.message == (
        f"[request id: r] sequence batching control 'CORRID' data-type is '{found}', but model "
        f"'model' expects '{expected}'"
    )
    rule.check(InferenceRequest(model_name="m", correlation_id="" if kind == "STRING" else 0))


@pytest.mark.parametrize("text", ["", "sequence_batching { }", "dynamic_batching { }"])
def test_ids_of_any_kind(text):
    assert correlation_id_rule(read_config(text)) is None
