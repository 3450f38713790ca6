"""gRPC: inference requests that are answered once, the same messages to both."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import pytest
from comparing import Engines
from grpc_asking import Failure, answered, call, infer, output, refused, request, tensor

MODELS = {
    "unknown": ("nope", ""),
    "none": ("", ""),
    "version": ("echo", "1"),
    "unknown version": ("echo", "2"),
    "version 0": ("echo", "0"),
    "version with a tail": ("echo", " +1abc"),
    "no number": ("echo", "x1"),
    "version blank": ("echo", " "),
    "negative": ("echo", "-1"),
    "negative with a tail": ("echo", "-7.5"),
    "too large": ("echo", "9223372036854775808"),
    "too small": ("echo", "-9223372036854775809"),
    "large": ("echo", "9223372036854775807"),
    "bad version of an unknown model": ("nope", "x"),
    "name with a zero": ("echo\0x", ""),
    "decoupled": ("decoupled", ""),
    "decoupled, bad version": ("decoupled", "3"),
}


@pytest.mark.rule("5.2-models")
@pytest.mark.parametrize(("name", "version"), MODELS.values(), ids=MODELS)
def test_models(grpc_engines: Engines, name: str, version: str) -> None:
    infer(grpc_engines, name, model_version=version)


PARAMETERS: dict[str, dict[str, Any]] = {
    "own": {"a": 1, "b": True, "c": "text", "d": 1.5, "e": -(2**63), "f": False, "g": ""},
    "unsigned": {"a": ("uint64_param", 1)},
    "of no type": {"a": None},
    "text with a zero": {"a": "x\0y"},
    "name with a zero": {"a\0b": 1},
    "no name": {"": 1},
    "reserved": {"triton_x": 1},
    "reserved prefix alone": {"triton_": 1},
    "empty final response": {"triton_enable_empty_final_response": True},
    "empty final response, a number": {"triton_enable_empty_final_response": 1},
    "sequence id": {"sequence_id": 5},
    "negative sequence id": {"sequence_id": -5},
    "text as sequence id": {"sequence_id": "abc"},
    "long sequence id": {"sequence_id": "a" * 129},
    "sequence id without text": {"sequence_id": ""},
    "sequence id, unsigned": {"sequence_id": ("uint64_param", 5)},
    "sequence id, bool": {"sequence_id": True},
    "sequence start": {"sequence_start": True, "sequence_end": True},
    "no start": {"sequence_start": False},
    "sequence start, a number": {"sequence_start": 1},
    "sequence end, text": {"sequence_end": "true"},
    "priority": {"priority": 1},
    "priority, unsigned": {"priority": ("uint64_param", 2)},
    "priority beyond all": {"priority": ("uint64_param", 2**64 - 1)},
    "negative priority": {"priority": -1},
    "priority, text": {"priority": "1"},
    "timeout": {"timeout": 2**40},
    "negative timeout": {"timeout": -1},
    "timeout, unsigned": {"timeout": ("uint64_param", 1)},
    "timeout, text": {"timeout": "1"},
    "binary_data_output": {"binary_data_output": True},
    "headers": {"Content-Type": "x"},
}


@pytest.mark.rule("5.2-parameters")
@pytest.mark.parametrize("given", PARAMETERS.values(), ids=PARAMETERS)
def test_parameters(grpc_engines: Engines, given: dict[str, Any]) -> None:
    infer(grpc_engines, parameters=given)
    infer(
        grpc_engines,
        "batched",
        tensor(shape=(1, 4)),
        raw=(b"\0" * 16,),
        parameters=given,
        id="batched",
    )


@pytest.mark.rule("5.2-request-id")
@pytest.mark.parametrize("request_id", ["", "1", "é", "a\0b", "x" * 300])
def test_request_ids(grpc_engines: Engines, request_id: str) -> None:
    infer(grpc_engines, id=request_id)
    refused(grpc_engines, "echo", tensor("X"), raw=(b"\0" * 16,), id=request_id)


@pytest.mark.rule("5.2-parameters")
def test_sequences(grpc_engines: Engines) -> None:
    for given in (
        {"sequence_id": 7, "sequence_start": True},
        {"sequence_id": 7},
        {"sequence_id": 7, "sequence_end": True},
        {"sequence_id": 7},
        {"sequence_id": "s", "sequence_start": True, "sequence_end": True},
        {"sequence_start": True},
        {},
    ):
        infer(grpc_engines, "sequence", tensor(shape=(1, 4)), raw=(b"\0" * 16,), parameters=given)


OUTPUTS = {
    "known": [output()],
    "unknown": [output("X")],
    "known and unknown": [output(), output("X")],
    "no name": [output("")],
    "name with a zero": [output("OUT\0x")],
    "binary_data": [output(binary_data=True)],
    "of no meaning": [output(foo="bar")],
    "classification": [output(classification=2)],
    "classification of all": [output(classification=9)],
    "classification of none": [output(classification=0)],
    "classification, negative": [output(classification=-1)],
    "classification, text": [output(classification="2")],
    "classification, beyond 32 bits": [output(classification=2**32 + 1)],
    "classification of an unknown output": [output("X", classification=0)],
    "region that there is not": [output(shared_memory_region="r", shared_memory_byte_size=16)],
    "region without size": [output(shared_memory_region="r")],
    "region, a number": [output(shared_memory_region=1, shared_memory_byte_size=16)],
    "offset without region": [output(shared_memory_offset=0)],
    "size without region": [output(shared_memory_byte_size=0)],
    "offset, text": [output(shared_memory_region="r", shared_memory_offset="0")],
    "size, text": [output(shared_memory_region="r", shared_memory_byte_size="0")],
    "region and classification": [
        output(shared_memory_region="r", shared_memory_byte_size=16, classification=1)
    ],
}


@pytest.mark.rule("5.2-outputs")
@pytest.mark.parametrize("outputs", OUTPUTS.values(), ids=OUTPUTS)
def test_outputs(grpc_engines: Engines, outputs: list[Any]) -> None:
    infer(grpc_engines, outputs=outputs)


REGIONS: dict[str, dict[str, Any]] = {
    "unknown": {"shared_memory_region": "r", "shared_memory_byte_size": 16},
    "without size": {"shared_memory_region": "r"},
    "a number": {"shared_memory_region": 1, "shared_memory_byte_size": 16},
    "offset without region": {"shared_memory_offset": 0},
    "size without region": {"shared_memory_byte_size": 0},
    "offset, text": {"shared_memory_region": "r", "shared_memory_offset": "0"},
    "size, bool": {"shared_memory_region": "r", "shared_memory_byte_size": True},
}


@pytest.mark.rule("5.2-regions")
@pytest.mark.parametrize("given", REGIONS.values(), ids=REGIONS)
def test_regions_of_inputs(grpc_engines: Engines, given: dict[str, Any]) -> None:
    refused(grpc_engines, "echo", tensor(parameters=given))
    refused(grpc_engines, "echo", tensor(parameters=given, fp32_contents=[1, 2, 3, 4]))


@pytest.mark.rule("5.2-response-parameters")
@pytest.mark.newer("25.02", "python_backend src/pb_stub.cc: InferenceResponse(parameters=)")
def test_response_parameters(grpc_engines: Engines) -> None:
    answer = call(grpc_engines.stub, "ModelInfer", request("answers", id="7"))
    assert answer["parameters"] == {
        "int": {"int64_param": str(2**40)},
        "negative": {"int64_param": "-1"},
        "bool": {"bool_param": True},
        "no": {"bool_param": False},
        "empty": {"string_param": ""},
        "text": {"string_param": "téxt"},
    }


@pytest.mark.rule("5.2-outputs")
@pytest.mark.newer("26.05", "core src/infer_request.cc: AddOriginalRequestedOutput")
def test_output_requested_twice(grpc_engines: Engines) -> None:
    # Before the complaint of the data.
    message = request("echo", tensor(), outputs=[output(), output()], id="7")
    assert call(grpc_engines.stub, "ModelInfer", message) == Failure(
        "INVALID_ARGUMENT", "[request id: 7] output 'OUT' already exists in request"
    )


@pytest.mark.rule("5.2-codes")
@pytest.mark.parametrize("code", range(-1, 8))
def test_codes(grpc_engines: Engines, code: int) -> None:
    raw = np.array([code, 0, 0, 0], np.float32).tobytes()
    stub, native = (refused_by(engine, request("fails", raw=(raw,))) for engine in grpc_engines)
    assert stub == native


def refused_by(engine: Any, message: Any) -> Any:
    answer = call(engine, "ModelInfer", message)
    if answer.details.startswith("Failed to process the request"):
        return answer.code, answer.details.splitlines()[0]
    return answer


@pytest.mark.rule("5.2-single-response")
@pytest.mark.parametrize("kind", range(5))
def test_senders(grpc_engines: Engines, kind: int) -> None:
    raw = np.array([kind, 0, 0, 0], np.float32).tobytes()
    infer(grpc_engines, "sends", raw=(raw,))


@pytest.mark.rule("5.2-answer")
def test_output_twice(grpc_engines: Engines) -> None:
    infer(grpc_engines, "doubled")


@pytest.mark.rule("5.2-parameters")
def test_what_the_model_sees(grpc_engines: Engines) -> None:
    answer = answered(
        grpc_engines,
        id="7",
        parameters={"a": 1, "sequence_id": "s", "timeout": 5},
        outputs=[output("TOLD")],
    )
    (told,) = answer["raw_output_contents"]
    assert json.loads(base64.b64decode(told)[4:]) == ["7", "s", 0, 5, {"a": 1}, ["TOLD"]]
