"""Messages of gRPC in both directions, without any port."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from tritonclient.grpc.service_pb2 import ModelInferRequest

from triton_stub import InferenceError, datatypes
from triton_stub.core.request import InferenceResponse
from triton_stub.core.tensor import Tensor
from triton_stub.endpoints.grpc import codec, tensors
from triton_stub.errors import StatusCode

MODEL: Any = SimpleNamespace(name="m", config=None)


class FakeServer:
    """Knows one model, and a region of 16 bytes."""

    def __init__(self) -> None:
        self.memory = bytearray(16)
        self.shared_memory = self
        self.asked: list[Any] = []

    def find(self, *model: Any) -> Any:
        self.asked.append(model)
        return MODEL

    def view(self, name: str, offset: int, byte_size: int) -> memoryview:
        self.asked.append((name, offset, byte_size))
        return memoryview(self.memory)[offset : offset + byte_size]


@pytest.fixture
def server() -> Any:
    return FakeServer()


def message(*inputs: dict[str, Any], **fields: Any) -> ModelInferRequest:
    return ModelInferRequest(model_name="m", inputs=inputs, **fields)


def fp32(**fields: Any) -> dict[str, Any]:
    return {"name": "X", "datatype": "FP32", "shape": [2], **fields}


def test_a_request(server: Any) -> None:
    request, formats = codec.decode(
        message(
            fp32(),
            {"name": "Y", "datatype": "BYTES", "shape": [1]},
            id="7",
            model_version="3",
            raw_input_contents=[np.array([1, 2], np.float32).tobytes(), b"\2\0\0\0ab"],
            outputs=[{"name": "OUT"}],
            parameters={
                "sequence_id": {"int64_param": -1},
                "sequence_start": {"bool_param": True},
                "sequence_end": {"bool_param": True},
                "priority": {"uint64_param": 2**64 - 1},
                "timeout": {"int64_param": 5},
                "own": {"double_param": 1.5},
                "triton_enable_empty_final_response": {"bool_param": True},
            },
        ),
        server,
    )
    assert server.asked == [("m", 3)]
    assert (request.model_name, request.model_version, request.request_id) == ("m", 3, "7")
    assert request.correlation_id == 2**64 - 1
    assert request.flags == 3
    assert request.priority == 2**64 - 1
    assert request.timeout == 5
    assert request.parameters == {"own": 1.5}
    assert request.requested_outputs == ["OUT"]
    x, y = request.inputs
    assert x.to_numpy().tolist() == [1, 2]
    assert y.to_numpy().tolist() == [b"ab"]
    assert formats.empty_final_response
    assert formats.model is MODEL


@pytest.mark.parametrize("row", datatypes.DATATYPES, ids=lambda row: row.name)
def test_raw_values_of_every_datatype(server: Any, row: datatypes.Datatype) -> None:
    array = np.array([b"a", b""], object) if row.name == "BYTES" else np.ones(2, row.numpy)
    raw = bytes(Tensor.from_numpy("X", array).to_bytes())
    request, _ = codec.decode(
        message({"name": "X", "datatype": row.name, "shape": [2]}, raw_input_contents=[raw]),
        server,
    )
    (tensor,) = request.inputs
    assert tensor.datatype is row
    assert tensor.to_numpy().tolist() == array.tolist()


@pytest.mark.parametrize(
    ("name", "contents", "expected"),
    [
        ("BOOL", {"bool_contents": [True, False]}, [True, False]),
        ("INT8", {"int_contents": [-1, 257]}, [-1, 1]),
        ("INT16", {"int_contents": [-1, 65537]}, [-1, 1]),
        ("INT32", {"int_contents": [-1, 1]}, [-1, 1]),
        ("INT64", {"int64_contents": [-(2**63), 1]}, [-(2**63), 1]),
        ("UINT8", {"uint_contents": [255, 256]}, [255, 0]),
        ("UINT16", {"uint_contents": [65535, 65536]}, [65535, 0]),
        ("UINT32", {"uint_contents": [2**32 - 1, 0]}, [2**32 - 1, 0]),
        ("UINT64", {"uint64_contents": [2**64 - 1, 0]}, [2**64 - 1, 0]),
        ("FP32", {"fp32_contents": [0.5, 1]}, [0.5, 1]),
        ("FP64", {"fp64_contents": [0.1, 1]}, [0.1, 1]),
        ("BYTES", {"bytes_contents": [b"", b"\xff\0"]}, [b"", b"\xff\0"]),
    ],
)
def test_typed_values(
    server: Any, name: str, contents: dict[str, Any], expected: list[Any]
) -> None:
    entry = {"name": "X", "datatype": name, "shape": [2], "contents": contents}
    request, _ = codec.decode(message(entry), server)
    assert request.inputs[0].to_numpy().tolist() == expected


@pytest.mark.parametrize("text", ["", "1", " 2x", "+3"])
def test_versions(text: str) -> None:
    assert codec.version(text) == int(text.strip().rstrip("x") or -1)


@pytest.mark.parametrize("text", ["x", "-1", " ", str(2**63), "٣"])
def test_no_versions(text: str) -> None:
    with pytest.raises(InferenceError, match="version should be an integral value > 0") as caught:
        codec.version(text)
    assert caught.value.code == StatusCode.INVALID_ARG


def response(*outputs: Tensor, **fields: Any) -> InferenceResponse:
    return InferenceResponse(model_name="m", model_version="1", tensors=outputs, **fields)


def test_an_answer() -> None:
    array = np.array([[1, 2]], ml_dtypes.bfloat16)
    answer = codec.encode(
        response(
            Tensor.from_numpy("A", array),
            Tensor.from_numpy("B", np.array([], np.int8)),
            request_id="7",
            parameters={"b": True, "i": -1, "s": "é", "f": 0.5},
        ),
        codec.OutputFormats(MODEL),
    )
    assert (answer.id, answer.model_name, answer.model_version) == ("7", "m", "1")
    assert [(each.name, each.datatype, list(each.shape)) for each in answer.outputs] == [
        ("A", "BF16", [1, 2]),
        ("B", "INT8", [0]),
    ]
    assert list(answer.raw_output_contents) == [array.tobytes(), b""]
    kinds = {key: value.WhichOneof("parameter_choice") for key, value in answer.parameters.items()}
    assert kinds == {
        "b": "bool_param",
        "i": "int64_param",
        "s": "string_param",
        "f": "double_param",
    }


def test_an_error_is_raised() -> None:
    error = InferenceError("no", StatusCode.NOT_FOUND)
    with pytest.raises(InferenceError, match=r"^no$") as caught:
        codec.encode(response(error=error), codec.OutputFormats(MODEL))
    assert caught.value.code == StatusCode.NOT_FOUND


def test_shared_memory(server: Any) -> None:
    server.memory[:8] = np.array([1, 2], np.float32).tobytes()
    given = {
        "shared_memory_region": {"string_param": "r"},
        "shared_memory_byte_size": {"int64_param": 8},
    }
    at_8 = given | {"shared_memory_offset": {"int64_param": 8}}
    request, formats = codec.decode(
        message(fp32(parameters=given), outputs=[{"name": "OUT", "parameters": at_8}]), server
    )
    assert server.asked[1:] == [("r", 0, 8), ("r", 8, 8)]
    answer = codec.encode(response(Tensor.from_numpy("OUT", np.int16([7]))), formats)
    assert list(answer.raw_output_contents) == [b""]
    assert server.memory[8:] == np.int16([7]).tobytes() + bytes(6)
    assert request.inputs[0].to_numpy().tolist() == [1, 2]
    with pytest.raises(InferenceError, match=r"'OUT' \(8 bytes\) should be at least 9 bytes"):
        codec.encode(response(Tensor.from_numpy("OUT", np.zeros(9, np.int8))), formats)


def test_too_large_an_answer() -> None:
    # Never touched: no memory is behind these zeros.
    zeros = np.zeros(2**31, np.uint8)
    tensor = Tensor.from_numpy("X", zeros)
    with pytest.raises(InferenceError) as caught:
        codec.encode(response(tensor), codec.OutputFormats(MODEL))
    small = codec.encode(
        response(Tensor("X", tensor.datatype, (2**31,), b"")), codec.OutputFormats(MODEL)
    )
    # Of the raw output that is not in the small one: a length of five bytes, and the values.
    size = small.ByteSize() + 4 + 2**31
    assert caught.value.message == (
        f"Response has byte size {size} which exceeds gRPC's byte size limit {2**31 - 1}."
    )
    assert caught.value.code == StatusCode.INVALID_ARG


def test_an_unknown_datatype_is_the_core_s_affair() -> None:
    assert tensors.datatype("FOO").name == "<invalid>"
