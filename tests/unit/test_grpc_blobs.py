"""Messages whose raw tensors stay outside of protobuf: the same to read, the same on the wire."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from tritonclient.grpc.service_pb2 import ModelInferRequest, ModelInferResponse

from triton_stub.endpoints.grpc import blobs
from triton_stub.endpoints.grpc.blobs import LARGE, LargeRequest, LargeResponse

BIG = bytes(range(256)) * (LARGE // 256)


def request(*raw: bytes) -> ModelInferRequest:
    message = ModelInferRequest(model_name="mödel", id="7", raw_input_contents=raw)
    message.parameters["priority"].int64_param = 300
    message.inputs.add(name="X", datatype="INT8", shape=[len(BIG)])
    return message


@pytest.mark.parametrize("raw", [(BIG,), (BIG, b"", b"x" * 127, b"x" * 128)])
def test_a_large_request(raw: tuple[bytes, ...]) -> None:
    message = request(*raw)
    body = message.SerializeToString()
    read = blobs.read(body)
    assert isinstance(read, LargeRequest)
    assert [bytes(each) for each in read.raw_input_contents] == list(raw)
    for name in ("model_name", "model_version", "id", "inputs", "outputs"):
        assert getattr(read, name) == getattr(message, name)
    assert read.parameters["priority"].int64_param == 300


def test_its_tensors_are_where_they_came() -> None:
    body = request(BIG).SerializeToString()
    read = blobs.read(body)
    came = np.frombuffer(body, np.uint8)
    assert all(
        np.shares_memory(came, np.frombuffer(raw, np.uint8)) for raw in read.raw_input_contents
    )


def test_fields_in_any_order() -> None:
    early = ModelInferRequest(raw_input_contents=[BIG]).SerializeToString()
    late = ModelInferRequest(raw_input_contents=[b"late"]).SerializeToString()
    read = blobs.read(early + request().SerializeToString() + late)
    assert isinstance(read, LargeRequest)
    assert [bytes(each) for each in read.raw_input_contents] == [BIG, b"late"]
    assert read.model_name == "mödel"


def test_a_small_request_is_protobuf_s() -> None:
    message = request(b"1234")
    assert blobs.read(message.SerializeToString()) == message


@pytest.mark.parametrize(
    "broken",
    [
        request(BIG).SerializeToString()[:-1],
        request(BIG).SerializeToString() + b"\x3a",
        request(BIG).SerializeToString() + b"\x3a\x80",
        request(BIG).SerializeToString() + b"\x3a" + b"\xff" * 11,
        request(BIG).SerializeToString() + b"\xff" * 11,
        request(BIG).SerializeToString() + b"\xba\x80\x80\x80\x80\x00\x00",  # too long a tag
        request(BIG).SerializeToString() + b"\x0a\x01\xff",  # a name that is no text
        request(BIG).SerializeToString() + b"\x00\x00",
    ],
)
def test_what_is_no_message(broken: bytes) -> None:
    with pytest.raises(DecodeError):
        ModelInferRequest.FromString(broken)
    with pytest.raises(DecodeError):
        blobs.read(broken)


def test_fields_that_are_not_known() -> None:
    """Of another kind: protobuf alone reads them, and forgets them."""
    body = request(BIG).SerializeToString() + b"\xf8\x07\x01"
    read = blobs.read(body)
    assert isinstance(read, ModelInferRequest)
    assert read.raw_input_contents[0] == BIG


@pytest.mark.parametrize("raw", [(), (BIG,), (b"", BIG, b"x" * 127, memoryview(b"x" * 128))])
def test_an_answer_is_written_as_protobuf_writes_it(raw: tuple[Any, ...]) -> None:
    message = ModelInferResponse(model_name="m", id="7")
    message.outputs.add(name="Y", datatype="INT8", shape=[len(BIG)])
    written = blobs.write(LargeResponse(message, raw))
    message.raw_output_contents.extend(map(bytes, raw))
    assert written == message.SerializeToString() == blobs.write(message)
