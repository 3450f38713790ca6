"""The wire format, against the official client's own reading and writing of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput

from triton_stub.core.request import InferenceRequest, InferenceResponse
from triton_stub.core.tensor import Tensor
from triton_stub.datatypes import BYTES, DATATYPES, from_dtype, from_name
from triton_stub.endpoints.http import codec, documents
from triton_stub.endpoints.http.outputs import OutputFormat, OutputFormats
from triton_stub.errors import InferenceError, StatusCode
from triton_stub.server.shared_memory import SharedMemory

if TYPE_CHECKING:
    from triton_stub.datatypes import Array

NOT_IN_JSON = ("FP16", "BF16")
shapes = st_numpy.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=4)


@st.composite
def arrays(draw: st.DrawFn, *, in_json: bool = False) -> Array:
    """An array of any datatype that Triton has, zero-size ones too."""
    row = draw(st.sampled_from([r for r in DATATYPES if not (in_json and r.name in NOT_IN_JSON)]))
    shape = draw(shapes)
    if row is BYTES:
        elements = st.text(max_size=5).map(str.encode) if in_json else st.binary(max_size=5)
        return draw(st_numpy.arrays(object, shape, elements=elements, fill=st.nothing()))
    if row.name == "BF16":
        bits: Array = draw(st_numpy.arrays(np.uint16, shape))
        return bits.view(ml_dtypes.bfloat16)
    if in_json and row.numpy.kind == "f":
        # RapidJSON's error is bounded by units in the last place, so not at the ends of the range.
        width, limit = (32, 2.0**100) if row.itemsize == 4 else (64, 2.0**1000)
        floats = st.floats(-limit, limit, width=width, allow_subnormal=False)
        special = st.sampled_from([float("nan"), float("inf"), -float("inf")])
        return draw(st_numpy.arrays(row.numpy, shape, elements=floats | special))
    return draw(st_numpy.arrays(row.numpy, shape))


def bits(array: Array) -> Any:
    """What is compared: NaN equals the same NaN, and -0.0 is not 0.0."""
    return array.tolist() if array.dtype.hasobject else array.tobytes()


def decode(body: bytes, json_size: int | None = None) -> tuple[InferenceRequest, OutputFormats]:
    return codec.decode(
        body, len(body) if json_size is None else json_size, "m", -1, SharedMemory()
    )


def encode(
    response: InferenceResponse, formats: OutputFormats
) -> tuple[bytes, list[bytes | memoryview]]:
    model: Any = None  # only classification looks at it
    return codec.encode(response, formats, model)


def decode_document(**document: Any) -> tuple[InferenceRequest, OutputFormats]:
    return decode(json.dumps(document).encode())


@given(st.lists(arrays(), max_size=3), st.text(max_size=5))
def test_reads_binary_inputs_of_the_official_client(values: list[Array], request_id: str) -> None:
    inputs = []
    for index, array in enumerate(values):
        datatype = from_dtype(array.dtype)
        assert datatype is not None
        tensor = InferInput(f"IN{index}", list(array.shape), datatype.name)
        inputs.append(tensor.set_data_from_numpy(array))
    body, json_size = InferenceServerClient.generate_request_body(inputs, request_id=request_id)
    request, _ = decode(body, json_size)
    assert request.request_id == request_id.partition("\0")[0]  # as texts of C end
    assert [tensor.name for tensor in request.inputs] == [f"IN{i}" for i in range(len(values))]
    for tensor, array in zip(request.inputs, values, strict=True):
        assert tensor.shape == array.shape
        assert tensor.to_numpy().dtype == array.dtype
        assert bits(tensor.to_numpy()) == bits(array)


@given(arrays(in_json=True))
def test_reads_json_inputs_of_the_official_client(array: Array) -> None:
    datatype = from_dtype(array.dtype)
    assert datatype is not None
    tensor = InferInput("IN", list(array.shape), datatype.name)
    tensor.set_data_from_numpy(array, binary_data=False)
    body, json_size = InferenceServerClient.generate_request_body([tensor])
    assert json_size is None
    (read,) = decode(body)[0].inputs
    if array.size == 0:
        assert read.byte_size == 0
    elif array.dtype.kind == "f":
        # RapidJSON, the server's parser, promises 3 units in the last place.
        finite = np.isfinite(array)
        np.testing.assert_array_equal(read.to_numpy()[~finite], array[~finite])
        np.testing.assert_array_max_ulp(read.to_numpy()[finite], array[finite], maxulp=3)
    else:
        assert bits(read.to_numpy()) == bits(array)


@given(st.lists(st.tuples(arrays(), st.booleans()), max_size=3), st.text(max_size=5))
def test_the_official_client_reads_answers(
    values: list[tuple[Array, bool]], request_id: str
) -> None:
    tensors = [Tensor.from_numpy(f"OUT{i}", array) for i, (array, _) in enumerate(values)]
    binary = {
        tensor.name: is_binary or tensor.datatype.name in NOT_IN_JSON or tensor.datatype is BYTES
        for tensor, (_, is_binary) in zip(tensors, values, strict=True)
    }
    response = InferenceResponse(
        model_name="m", model_version="1", request_id=request_id, tensors=tensors
    )
    document, blobs = encode(
        response,
        OutputFormats({name: OutputFormat(binary=flag) for name, flag in binary.items()}),
    )
    answer = InferenceServerClient.parse_response_body(
        b"".join((document, *blobs)), header_length=len(document) if blobs else None
    )
    header = answer.get_response()
    assert header.get("id", "") == request_id
    assert (header["model_name"], header["model_version"]) == ("m", "1")
    for tensor, (array, _) in zip(tensors, values, strict=True):
        read = answer.as_numpy(tensor.name)
        assert read.shape == array.shape
        if binary[tensor.name]:
            assert bits(np.asarray(read, array.dtype)) == bits(array)
        else:
            np.testing.assert_array_equal(read, array)  # NaN has one name in JSON


@given(arrays(in_json=True))
def test_json_answers_are_read_back(array: Array) -> None:
    response = InferenceResponse(
        model_name="m", model_version="1", tensors=[Tensor.from_numpy("OUT", array)]
    )
    document, blobs = encode(response, OutputFormats())
    assert not blobs
    (output,) = json.loads(document)["outputs"]
    read = np.empty(array.size, array.dtype)
    read[:] = [item.encode() if type(item) is str else item for item in output["data"]]
    assert tuple(output["shape"]) == array.shape
    np.testing.assert_array_equal(read, array.ravel())


def test_large_tensors_are_not_copied() -> None:
    array = np.arange(1000, dtype=np.float32)
    tensor = InferInput("IN", [1000], "FP32").set_data_from_numpy(array)
    body, json_size = InferenceServerClient.generate_request_body([tensor])
    (read,) = decode(body, json_size)[0].inputs
    assert np.shares_memory(read.to_numpy(), np.frombuffer(body, np.uint8))
    response = InferenceResponse(
        model_name="m", model_version="1", tensors=[Tensor.from_numpy("OUT", array)]
    )
    _, (blob,) = encode(response, OutputFormats(binary_by_default=True))
    assert np.shares_memory(np.frombuffer(blob, np.uint8), array)


def test_reserved_parameters_are_consumed() -> None:
    request, formats = decode_document(
        inputs=[],
        parameters={"sequence_id": 5, "sequence_start": True, "sequence_end": True, "priority": 2,
                    "timeout": 77, "binary_data_output": True, "z": 1, "a": "s", "b": False,
                    "c": 1.5},
    )  # fmt: skip
    assert (request.correlation_id, request.flags, request.priority, request.timeout) == (
        5, 3, 2, 77,
    )  # fmt: skip
    assert formats.binary_by_default
    assert list(request.parameters.items()) == [("z", 1), ("a", "s"), ("b", False), ("c", 1.5)]


def test_a_sequence_may_have_a_name() -> None:
    request, _ = decode_document(inputs=[], parameters={"sequence_id": "one"})
    assert request.correlation_id == "one"


def test_requested_outputs_and_their_formats() -> None:
    request, formats = decode_document(
        inputs=[],
        outputs=[{"name": "A", "parameters": {"binary_data": True}}, {"name": "B"}],
        parameters={"binary_data_output": True},
    )
    assert list(request.requested_outputs) == ["A", "B"]
    assert [formats.of(name).binary for name in "ABC"] == [True, False, True]


def test_an_output_asked_for_twice_is_refused_before_what_is_wrong_with_it() -> None:
    second = {"name": "A", "parameters": {"classification": "x"}}
    with pytest.raises(InferenceError, match="output 'A' already exists in request"):
        decode_document(inputs=[], outputs=[{"name": "A"}, second])


def test_reads_what_the_official_client_asks_for() -> None:
    body, _ = InferenceServerClient.generate_request_body(
        [], outputs=[InferRequestedOutput("A"), InferRequestedOutput("B", binary_data=False)]
    )
    request, formats = decode(body)
    assert list(request.requested_outputs) == ["A", "B"]
    assert [formats.of(name).binary for name in "AB"] == [True, False]


@pytest.mark.parametrize(
    ("name", "data", "prefix"),
    [("FP32", bytes(4), "Failed to write 'data' field: "), ("BYTES", b"\5\0\0\0ab", "")],
)
def test_an_output_whose_shape_is_not_its_size(name: str, data: bytes, prefix: str) -> None:
    """``reshape`` of the configuration is applied to outputs without a look at the data."""
    tensor = Tensor("OUT", from_name(name), (2,), data)
    response = InferenceResponse(model_name="m", model_version="1", tensors=[tensor])
    with pytest.raises(InferenceError) as caught:
        encode(response, OutputFormats())
    text = "output tensor shape does not match size of output for 'OUT'"
    assert caught.value.message == prefix + text


NESTED = b'{"inputs":[{"name":"IN","datatype":"%s","shape":[3],"data":%s}]}'


def test_data_may_be_nested() -> None:
    (read,) = decode(NESTED % (b"INT32", b"[[7," + b"[" * 97 + b"8" + b"]" * 97 + b"],9]"))[
        0
    ].inputs
    assert read.to_numpy().tolist() == [7, 8, 9]


@pytest.mark.parametrize(
    ("datatype", "prefix"), [(b"INT32", "Unable to parse 'data': "), (b"BYTES", "")]
)
def test_data_nested_too_deep(datatype: bytes, prefix: str) -> None:
    with pytest.raises(InferenceError) as caught:
        decode(NESTED % (datatype, b"[" * 100 + b"7" + b"]" * 100))
    assert caught.value.message == (
        f"{prefix}JSON nesting depth exceeds maximum allowed limit (100)"
    )
    assert caught.value.code is StatusCode.INVALID_ARG


@pytest.mark.parametrize(
    ("shape", "what"),
    [
        ([2, 2**63], "contains one or more invalid dimensions"),
        ([2**62, 2], f"causes total element count to exceed maximum size of {2**63 - 1}"),
        ([2**62] * 9999, f"causes total element count to exceed maximum size of {2**63 - 1}"),
    ],
)
def test_shapes_of_no_tensor(shape: list[int], what: str) -> None:
    entry = {"name": "IN", "datatype": "INT32", "shape": shape, "data": [1]}
    with pytest.raises(InferenceError) as caught:
        decode(json.dumps({"inputs": [entry]}).encode())
    told = ",".join(str(size if size < 2**63 else size - 2**64) for size in shape)
    assert caught.value.message == f"invalid shape for input 'IN': shape [{told}] {what}"


@given(st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
))  # fmt: skip
def test_json_is_read_as_the_standard_library_reads_it(value: Any) -> None:
    assert documents.parse(json.dumps(value).encode()) == value
    assert documents.parse(documents.dump(value)) == value


@given(st.binary(max_size=6))
def test_text_may_be_any_bytes(data: bytes) -> None:
    """The server looks at neither the bytes it reads nor those it writes."""
    text = data.decode(errors="surrogateescape")
    document = documents.dump({"a": text})
    assert documents.parse(document) == {"a": text}
