"""Messages of gRPC: what the official client writes is read as it was, and the other way round."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from tritonclient.grpc import InferInput, InferResult, service_pb2

from triton_stub import datatypes
from triton_stub.core.request import InferenceResponse
from triton_stub.core.tensor import Tensor
from triton_stub.endpoints.grpc import codec
from triton_stub.errors import InferenceError

MODEL: Any = SimpleNamespace(name="m", config=None)
SERVER: Any = SimpleNamespace(find=lambda *_: MODEL)
# Of a shape in which there are no values a client makes no message.
SHAPES = arrays.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=4)
TYPED = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "INT64": "int64_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
}


@st.composite
def tensors(draw: Any, rows: Any = datatypes.DATATYPES) -> tuple[datatypes.Datatype, Any]:
    row = draw(st.sampled_from(rows))
    shape = draw(SHAPES)
    if row is datatypes.BYTES:
        return row, draw(arrays.arrays(object, shape, elements=st.binary(max_size=9)))
    size = int(np.prod(shape)) * row.itemsize
    raw = draw(st.binary(min_size=size, max_size=size))
    if row.name == "BOOL":
        return row, np.frombuffer(raw, np.uint8).reshape(shape) % 2 == 1
    return row, np.frombuffer(raw, row.numpy).reshape(shape)


def same(first: Any, second: Any) -> bool:
    """Bit by bit: NaN is not equal to itself."""
    if first.dtype == object:
        return bool(first.shape == second.shape and (first == second).all())
    return bool(first.shape == second.shape and first.tobytes() == second.tobytes())


@given(given=tensors())
def test_inputs_of_the_official_client(given: Any) -> None:
    row, array = given
    entry = InferInput("X", array.shape, row.name)
    entry.set_data_from_numpy(array)
    message = service_pb2.ModelInferRequest(
        model_name="m",
        inputs=[entry._get_tensor()],
        raw_input_contents=[entry._get_content()] if array.size else [b""],
    )
    request, _ = codec.decode(message, SERVER)
    assert request.inputs[0].datatype is row
    assert same(request.inputs[0].to_numpy(), array)


@given(given=tensors([row for row in datatypes.DATATYPES if row.name in TYPED]))
def test_typed_inputs(given: Any) -> None:
    row, array = given
    contents = service_pb2.InferTensorContents(**{TYPED[row.name]: array.ravel().tolist()})
    message = service_pb2.ModelInferRequest(model_name="m")
    entry = message.inputs.add(name="X", datatype=row.name, shape=array.shape, contents=contents)
    request, _ = codec.decode(message, SERVER)
    assert entry.HasField("contents")
    read = request.inputs[0].to_numpy()
    # A NaN may lose its payload on the way through a Python float.
    assert np.array_equal(read, array, equal_nan=row.numpy.kind == "f")


@given(given=st.lists(tensors(), max_size=3))
def test_outputs_for_the_official_client(given: Any) -> None:
    outputs = [
        Tensor(f"O{place}", row, array.shape, array) for place, (row, array) in enumerate(given)
    ]
    response = InferenceResponse(model_name="m", model_version="1", tensors=outputs)
    message = codec.encode(response, codec.OutputFormats(MODEL))
    result = InferResult(message)
    for place, (row, array) in enumerate(given):
        shown = result.get_output(f"O{place}")
        assert (shown.datatype, tuple(shown.shape)) == (row.name, array.shape)
        assert same(np.asarray(result.as_numpy(f"O{place}")), array)


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(text=TEXT)
def test_versions_are_numbers_or_refused(text: str) -> None:
    read = version_or_refusal(text)
    assert text in read if isinstance(read, str) else -1 <= read < 2**63


def version_or_refusal(text: str) -> int | str:
    try:
        return codec.version(text)
    except InferenceError as error:
        return error.message


@given(parameters=st.dictionaries(TEXT, st.booleans() | st.integers(-9, 9) | st.floats() | TEXT))
def test_parameters_of_a_response(parameters: dict[str, Any]) -> None:
    response = InferenceResponse(model_name="m", model_version="1", parameters=parameters)
    message = codec.encode(response, codec.OutputFormats(MODEL))
    read = {
        name: getattr(value, value.WhichOneof("parameter_choice"))
        for name, value in message.parameters.items()
    }
    assert repr(sorted(read.items())) == repr(sorted(parameters.items()))
