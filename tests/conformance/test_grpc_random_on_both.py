"""gRPC: whatever message comes, the same answer."""

from __future__ import annotations

from typing import Any

import pytest
from comparing import Engines
from grpc_asking import Failure, call, parameter
from hypothesis import given
from hypothesis import strategies as st
from probing import examples
from tritonclient.grpc import service_pb2 as pb

TEXT = st.sampled_from(["", "a", "x\0y", "é", "1", "7", "true"])
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-3, 5),
    TEXT,
    st.sampled_from([0.0, -0.0, 1.5, 1e300, 5.0]),
    st.tuples(st.just("uint64_param"), st.integers(0, 2**64 - 1)),
)
RESERVED = [
    *("sequence_id", "sequence_start", "sequence_end", "priority", "timeout"),
    *("triton_enable_empty_final_response", "triton_x", "binary_data_output"),
]
NAMES = {
    "FP32": ("fp32_contents", st.sampled_from([0.0, -1.5, float("inf"), 1e-45])),
    "INT8": ("int_contents", st.integers(-(2**31), 2**31 - 1)),
    "INT64": ("int64_contents", st.integers(-(2**63), 2**63 - 1)),
    "UINT16": ("uint_contents", st.integers(0, 2**32 - 1)),
    "BOOL": ("bool_contents", st.booleans()),
    "BYTES": ("bytes_contents", st.binary(max_size=5)),
    "FP16": ("fp64_contents", st.sampled_from([0.0, 1e300])),
}
SHAPES = st.lists(st.sampled_from([0, 1, 1, 2, 3, -1, 2**40]), max_size=2) | st.just([2])


@st.composite
def inputs(draw: Any) -> Any:
    name = draw(st.sampled_from(list(NAMES)))
    entry = pb.ModelInferRequest.InferInputTensor(
        name=draw(st.just(name) | st.sampled_from(["IN", "", "FP32"])),
        datatype=draw(st.just(name) | st.sampled_from(["FP32", "", "FOO", "fp32"])),
        shape=draw(SHAPES),
    )
    if draw(st.booleans()):
        field, values = draw(st.just(NAMES[name]) | st.sampled_from(list(NAMES.values())))
        entry.contents.SetInParent()
        getattr(entry.contents, field).extend(draw(st.lists(values, max_size=4)))
    for key, value in draw(places()).items():
        entry.parameters[key].CopyFrom(parameter(value))
    return entry


def places() -> Any:
    """Mostly none; and no more than one of them is wrong, or it is chance which is told."""
    return st.sampled_from(
        [{}] * 12
        + [
            {"shared_memory_region": "r", "shared_memory_byte_size": 4},
            {"shared_memory_region": 1},
            {"shared_memory_offset": 4},
            {"foo": "bar"},
        ]
    )


@st.composite
def outputs(draw: Any) -> Any:
    entry = pb.ModelInferRequest.InferRequestedOutputTensor(
        name=draw(st.sampled_from(["OUT_FP32", "OUT_INT8", "OUT_BYTES", "X", ""]))
    )
    given = draw(places()) | draw(
        st.just({}) | st.fixed_dictionaries({"classification": VALUES | st.integers(1, 3)})
    )
    for key, value in given.items():
        entry.parameters[key].CopyFrom(parameter(value))
    return entry


@st.composite
def messages(draw: Any) -> pb.ModelInferRequest:
    message = pb.ModelInferRequest(
        model_name=draw(st.sampled_from(["types"] * 9 + ["echo", "decoupled", "nope", ""])),
        model_version=draw(st.sampled_from([""] * 9 + ["1", "2", "x", "-1", "1x"])),
        id=draw(TEXT),
        inputs=draw(st.lists(inputs(), max_size=3)),
        outputs=draw(
            st.lists(outputs(), max_size=2, unique_by=lambda each: each.name)  # newer than 2.51
        ),
        raw_input_contents=draw(st.lists(st.binary(max_size=16), max_size=3)),
    )
    if draw(st.booleans()):
        # No more than one that may be wrong.
        name = draw(st.sampled_from(RESERVED) | TEXT)
        message.parameters[name].CopyFrom(parameter(draw(VALUES)))
    return message


@pytest.mark.rule("5.2-random")
@examples(100)
@given(message=messages())
def test_random_requests(grpc_engines: Engines, message: Any) -> None:
    stub, native = (comparable(call(engine, "ModelInfer", message)) for engine in grpc_engines)
    assert stub == native


def comparable(answer: Any) -> Any:
    """Without what only a model has to say."""
    if isinstance(answer, Failure) and answer.details.startswith("Failed to process"):
        return answer.code, answer.details.splitlines()[0]
    return answer
