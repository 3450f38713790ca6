"""Raw gRPC: the same message to the stub and to the real server, the same answer back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import grpc
import numpy as np
from comparing import Engines
from google.protobuf import json_format
from tritonclient.grpc import service_pb2, service_pb2_grpc

from triton_stub.engines.engine import Engine

SECONDS = 60
LIMITS = [
    ("grpc.max_receive_message_length", 2**31 - 1),
    ("grpc.max_send_message_length", 2**31 - 1),
]


class Failure(NamedTuple):
    """What a client is told of a call that fails."""

    code: str
    details: str


@contextmanager
def stub_of(engine: Engine) -> Iterator[Any]:
    """The methods of the service, for messages."""
    with grpc.insecure_channel(engine.grpc_url, LIMITS) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


def call(engine: Engine, method: str, message: Any, **keywords: Any) -> Any:
    """The answer as a dict, or how the call failed."""
    with stub_of(engine) as stub:
        try:
            answer = getattr(stub, method)(message, timeout=SECONDS, **keywords)
        except grpc.RpcError as error:
            return failure(error)
    return json_format.MessageToDict(
        answer, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


def failure(error: Any) -> Failure:
    return Failure(error.code().name, error.details())


def same(engines: Engines, method: str, message: Any) -> Any:
    """Both answers, which are the same."""
    stub, native = (call(engine, method, message) for engine in engines)
    assert stub == native, f"\nstub:        {stub}\nreal server: {native}"
    return native


def parameter(value: Any) -> service_pb2.InferParameter:
    """A parameter of the type of a value; a pair names another field, None sets none at all."""
    if value is None:
        return service_pb2.InferParameter()
    if isinstance(value, tuple):
        return service_pb2.InferParameter(**{value[0]: value[1]})
    kinds = {bool: "bool_param", int: "int64_param", str: "string_param", float: "double_param"}
    return service_pb2.InferParameter(**{kinds[type(value)]: value})


def tensor(
    name: str = "IN",
    datatype: str = "FP32",
    shape: tuple[int, ...] = (4,),
    parameters: Mapping[str, Any] | None = None,
    **contents: Any,
) -> service_pb2.ModelInferRequest.InferInputTensor:
    """An input; keywords are fields of its contents, of which ``contents={}`` sets none."""
    entry = service_pb2.ModelInferRequest.InferInputTensor(
        name=name, datatype=datatype, shape=shape
    )
    for key, value in (parameters or {}).items():
        entry.parameters[key].CopyFrom(parameter(value))
    if "contents" in contents:
        entry.contents.SetInParent()
    elif contents:
        entry.contents.CopyFrom(service_pb2.InferTensorContents(**contents))
    return entry


def output(name: str = "OUT", **parameters: Any) -> Any:
    """A requested output."""
    entry = service_pb2.ModelInferRequest.InferRequestedOutputTensor(name=name)
    for key, value in parameters.items():
        entry.parameters[key].CopyFrom(parameter(value))
    return entry


ROW = np.array([1, 2, 3, 4], np.float32).tobytes()


def request(
    model: str = "echo",
    *inputs: Any,
    raw: tuple[bytes, ...] | None = None,
    parameters: Mapping[str, Any] | None = None,
    **fields: Any,
) -> service_pb2.ModelInferRequest:
    """A request; of one input ``IN`` unless others are given, its values raw unless given."""
    message = service_pb2.ModelInferRequest(model_name=model, inputs=inputs or [tensor()], **fields)
    if raw is None:
        raw = () if inputs else (ROW,)
    message.raw_input_contents.extend(raw)
    for key, value in (parameters or {}).items():
        message.parameters[key].CopyFrom(parameter(value))
    return message


def infer(engines: Engines, *arguments: Any, **fields: Any) -> Any:
    return same(engines, "ModelInfer", request(*arguments, **fields))


def answered(engines: Engines, *arguments: Any, **fields: Any) -> Any:
    answer = infer(engines, *arguments, **fields)
    assert not isinstance(answer, Failure), answer
    return answer


def refused(engines: Engines, *arguments: Any, **fields: Any) -> Failure:
    answer = infer(engines, *arguments, **fields)
    assert isinstance(answer, Failure)
    return answer
