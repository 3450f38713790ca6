"""Inference requests and responses as messages of KServe v2's gRPC protocol.

Source: server ``src/grpc/infer_handler.cc``, ``SetInferenceRequestMetadata``;
``src/grpc/infer_handler.h``, ``InferAllocatorPayload``, ``InferResponseCompleteCommon``;
``src/common.cc``, ``GetModelVersionFromString`` (26.08, which differs from 2.51 in nothing that
shows).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tritonclient.grpc.service_pb2 import ModelInferResponse

from triton_stub.core.request import (
    SEQUENCE_END,
    SEQUENCE_START,
    InferenceRequest,
    own_correlation_id,
    own_parameter,
)
from triton_stub.core.tensor import Tensor
from triton_stub.endpoints import numbers
from triton_stub.endpoints.grpc import tensors
from triton_stub.endpoints.grpc.tensors import refused
from triton_stub.errors import InferenceError, StatusCode
from triton_stub.pb_utils.casters import c_string

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tritonclient.grpc.service_pb2 import ModelInferRequest

    from triton_stub.core.model import ServedModel
    from triton_stub.core.request import InferenceResponse, Parameter
    from triton_stub.server import Server

#: No message may be larger, in bytes.
LARGEST_MESSAGE = 2**31 - 1
_NEWEST = -1
_EMPTY_FINAL_RESPONSE = "triton_enable_empty_final_response"
_LONG = re.compile(r"[ \t\n\v\f\r]*([+-]?[0-9]+)")
_INT64 = range(-(2**63), 2**63)
_UINT64 = 2**64


@dataclass(frozen=True, slots=True)
class OutputFormats:
    """What the client wants of the answer beside the outputs' names.

    ``classes`` are how many classes of an output, ``regions`` where in shared memory an output
    goes. ``empty_final_response`` is for streams: a response that only says that it was the last.
    ``used`` are views of inputs' shared memory, which is in use until the answer is there.
    """

    model: ServedModel
    classes: Mapping[str, int] = field(default_factory=dict)
    regions: Mapping[str, memoryview] = field(default_factory=dict)
    empty_final_response: bool = False
    used: Sequence[memoryview] = ()


def version(text: str) -> int:
    """A version as a message has it, -1 for none; InferenceError if it is no number."""
    if not text:
        return _NEWEST
    found = _LONG.match(text)
    number = numbers.read(found[1]) if found else _NEWEST
    if found is None or number not in _INT64:
        raise refused(
            f"failed to get model version from specified version string '{text}' (details: stol), "
            "version should be an integral value > 0"
        )
    if number < 0:
        raise refused(
            f"invalid model version specified '{text}' , version should be an integral value > 0"
        )
    return number


def decode(
    message: ModelInferRequest, server: Server, forwarded: Mapping[str, Parameter] | None = None
) -> tuple[InferenceRequest, OutputFormats]:
    """Read a request; InferenceError with the server's text if it is refused.

    ``forwarded`` are parameters beside those of the message.
    """
    model_version = version(message.model_version)
    model_name = c_string(message.model_name)
    model = server.find(model_name, model_version)
    request_id = c_string(message.id)
    parameters = _Parameters(message.parameters)
    names = _names("input", message.inputs, request_id)
    requested = _names("output", message.outputs, request_id)
    data = tensors.InputData(message, server)
    inputs = [
        Tensor(name, tensors.datatype(entry.datatype), tuple(entry.shape), data.of(entry))
        for name, entry in zip(names, message.inputs, strict=True)
    ]
    classes, regions = _outputs(message, server)
    request = InferenceRequest(
        model_name=model_name,
        model_version=model_version,
        request_id=request_id,
        inputs=inputs,
        requested_outputs=requested,
        parameters=parameters.own | dict(forwarded or {}),
        correlation_id=parameters.sequence_id,
        flags=parameters.flags,
        priority=parameters.priority,
        timeout=parameters.timeout,
    )
    final = parameters.empty_final_response
    return request, OutputFormats(model, classes, regions, final, data.used)


def encode(response: InferenceResponse, formats: OutputFormats) -> ModelInferResponse:
    """The message of a response.

    InferenceError if the response is one, or if an output cannot be sent as the client wants it.
    """
    message, raw = encode_parts(response, formats)
    message.raw_output_contents.extend(map(bytes, raw))
    return message


def encode_parts(
    response: InferenceResponse, formats: OutputFormats
) -> tuple[ModelInferResponse, list[bytes | memoryview]]:
    """The same, its raw outputs beside it."""
    response.raise_error()
    message = ModelInferResponse(
        id=response.request_id,
        model_name=response.model_name,
        model_version=response.model_version,
    )
    for name, value in response.parameters.items():
        setattr(message.parameters[name], _field(value), value)
    blobs: list[bytes | memoryview] = []
    by_name: dict[str, Any] = {}
    for tensor in response.tensors:
        shown, blob = _output(tensor, formats)
        # The server looks for an output by its name: the first of a name is told of them all.
        entry = by_name.setdefault(tensor.name, message.outputs.add(name=tensor.name))
        entry.datatype = shown.datatype.name
        entry.shape.extend(shown.shape)
        blobs.append(blob)
    _check_size(message, blobs)
    return message, blobs


class _Parameters:
    """A request's parameters: those that the protocol reserves, and the client's own."""

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        self.own: dict[str, Parameter] = {}
        self.sequence_id: int | str = 0
        self.flags = 0
        self.priority = 0
        self.timeout = 0
        self.empty_final_response = False
        for name, parameter in parameters.items():
            self._read(name, parameter)

    def _read(self, name: str, parameter: Any) -> None:
        match name:
            case "sequence_id":
                value = _value(name, parameter, "int64_param", "string_param")
                text = isinstance(value, str)
                self.sequence_id = own_correlation_id(value) if text else value % _UINT64
            case "sequence_start":
                self.flags |= SEQUENCE_START * _value(name, parameter, "bool_param")
            case "sequence_end":
                self.flags |= SEQUENCE_END * _value(name, parameter, "bool_param")
            case "priority":
                self.priority = _value(name, parameter, "int64_param", "uint64_param")
                if self.priority < 0:
                    raise refused("invalid value for 'priority', expected value >= 0.")
            case "timeout":
                self.timeout = _value(name, parameter, "int64_param") % _UINT64
            case str() if name.startswith("triton_"):
                if name != _EMPTY_FINAL_RESPONSE:
                    raise refused(
                        "parameter keys starting with 'triton_' are reserved for Triton usage. "
                        "Only the following keys starting with 'triton_' are allowed: "
                        f"{_EMPTY_FINAL_RESPONSE}"
                    )
                self.empty_final_response = _value(name, parameter, "bool_param")
            case _:
                kind = parameter.WhichOneof("parameter_choice")
                if kind not in ("int64_param", "bool_param", "string_param", "double_param"):
                    raise refused(
                        f"invalid value type for '{name}' parameter, expected int64_param, "
                        "bool_param, or string_param."
                    )
                own = c_string(name)
                self.own[own] = own_parameter(own, getattr(parameter, kind))


def _value(name: str, parameter: Any, *kinds: str) -> Any:
    kind = parameter.WhichOneof("parameter_choice")
    if kind not in kinds:
        raise refused(f"invalid value type for '{name}' parameter, expected {' or '.join(kinds)}.")
    return getattr(parameter, kind)


def _names(what: str, entries: Any, request_id: str) -> list[str]:
    """Names of inputs or outputs; the core's complaint of one that is there twice.

    It comes before the complaints of the data. Of outputs since 26.05; before, that was no matter.
    """
    names: list[str] = []
    for entry in entries:
        name = c_string(entry.name)
        if name in names:
            prefix = InferenceRequest(model_name="", request_id=request_id).log_prefix
            raise refused(f"{prefix}{what} '{name}' already exists in request")
        names.append(name)
    return names


def _outputs(
    message: ModelInferRequest, server: Server
) -> tuple[dict[str, int], dict[str, memoryview]]:
    """Which outputs are to be classes, and which go into shared memory; the first of a name."""
    classes: dict[str, int] = {}
    regions: dict[str, memoryview] = {}
    for entry in message.outputs:
        if not entry.parameters:
            continue
        place = tensors.place(entry)
        count = _classes(entry.parameters)
        if place is not None and count is not None:
            raise refused("output can't set both 'shared_memory_region' and 'classification'")
        if place is not None:
            regions.setdefault(entry.name, server.shared_memory.view(*place))
        elif count is not None:
            classes.setdefault(entry.name, count)
    return classes, regions


def _classes(parameters: Mapping[str, Any]) -> int | None:
    if "classification" not in parameters:
        return None
    parameter = parameters["classification"]
    if parameter.WhichOneof("parameter_choice") != "int64_param":
        raise refused("invalid value type for 'classification' parameter, expected int64_param")
    if parameter.int64_param <= 0:
        raise refused("invalid value for 'classification' parameter, expected >= 0")
    count: int = parameter.int64_param % 2**32
    return count


def _output(tensor: Tensor, formats: OutputFormats) -> tuple[Tensor, bytes | memoryview]:
    """An output as it is described, and its raw bytes: none if they are in shared memory."""
    if tensor.name in formats.classes:
        # Not at the top, because it is needed by few.
        from triton_stub.endpoints.classification import classify

        tensor = classify(tensor, formats.classes[tensor.name], formats.model)
    blob = tensor.to_bytes()
    region = formats.regions.get(tensor.name)
    if region is None or not blob:
        return tensor, blob
    if len(blob) > len(region):
        raise InferenceError(
            f"shared memory size specified with the request for output '{tensor.name}' "
            f"({len(region)} bytes) should be at least {len(blob)} bytes to hold the results"
        )
    region[: len(blob)] = blob
    return tensor, b""


def _field(value: Parameter) -> str:
    if isinstance(value, bool):
        return "bool_param"
    if isinstance(value, int):
        return "int64_param"
    return "double_param" if isinstance(value, float) else "string_param"


def _check_size(message: ModelInferResponse, blobs: list[bytes | memoryview]) -> None:
    sizes = [len(blob) for blob in blobs]
    if sum(sizes) < LARGEST_MESSAGE // 2:
        return
    # Added up before anything is copied: each raw output has its tag and its length before it.
    size = message.ByteSize() + sum(1 + _varint_size(size) + size for size in sizes)
    if size > LARGEST_MESSAGE:
        raise InferenceError(
            f"Response has byte size {size} which exceeds gRPC's byte size limit "
            f"{LARGEST_MESSAGE}.",
            StatusCode.INVALID_ARG,
        )


def _varint_size(number: int) -> int:
    return max(1, -(-number.bit_length() // 7))
