"""The body of an inference request and of its answer: JSON, and binary tensors behind it.

Source: server ``src/http_server.cc``, ``EVBufferToInput`` and ``FinalizeResponse`` (2.51); KServe
v2 "Inference Protocol"; Triton "Binary Tensor Data Extension" and "Parameters Extension".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from triton_stub.core.request import InferenceRequest, own_correlation_id, own_parameter
from triton_stub.endpoints.http import bodies, documents, outputs
from triton_stub.endpoints.http.documents import (
    as_bool,
    as_string,
    as_unsigned,
    optional,
    required,
)
from triton_stub.endpoints.http.inputs import Inputs, refused
from triton_stub.endpoints.http.outputs import OutputFormats
from triton_stub.errors import InferenceError
from triton_stub.pb_utils.casters import c_string

if TYPE_CHECKING:
    from triton_stub.core.model import ServedModel
    from triton_stub.core.request import InferenceResponse, Parameter
    from triton_stub.server.shared_memory import SharedMemory

_SEQUENCE_START = 1
_SEQUENCE_END = 2


def decode(
    body: bytes | memoryview,
    json_size: int,
    model_name: str,
    model_version: int,
    memory: SharedMemory,
    *,
    limit: int = bodies.MAX_INPUT_SIZE,
) -> tuple[InferenceRequest, OutputFormats]:
    """Read a request whose first ``json_size`` bytes are JSON, the rest binary tensors.

    The request's binary tensors are views of ``body``; ``limit`` is how many bytes an input in JSON
    may have. InferenceError with the server's text if the body is refused.
    """
    # Bytes without binary tensors behind them, which may be long, are not copied by that.
    document = documents.parse(bytes(body[:json_size]))
    request_id = c_string(optional(document, "id", as_string, ""))
    parameters = _Parameters(document)
    inputs = Inputs(body, json_size, model_name, request_id, memory, limit=limit)
    tensors = inputs.read(document)
    requested = outputs.read(document, memory, request_id)
    formats = OutputFormats(requested, parameters.binary_data_output, inputs.used)
    request = InferenceRequest(
        model_name=model_name,
        model_version=model_version,
        request_id=request_id,
        inputs=tensors,
        requested_outputs=list(requested),
        parameters=parameters.own,
        correlation_id=parameters.sequence_id,
        flags=parameters.flags,
        priority=parameters.priority,
        timeout=parameters.timeout,
    )
    return request, formats


def encode(
    response: InferenceResponse, formats: OutputFormats, model: ServedModel
) -> tuple[bytes, list[bytes | memoryview]]:
    """The JSON of an answer, and the binary tensors to be sent behind it.

    Other tensors go into shared memory here. InferenceError if an output cannot be sent as the
    client wants it.
    """
    document: dict[str, Any] = {"id": response.request_id} if response.request_id else {}
    document |= {"model_name": response.model_name, "model_version": response.model_version}
    if response.parameters:
        document["parameters"] = dict(response.parameters)
    written = [outputs.write(tensor, formats.of(tensor.name), model) for tensor in response.tensors]
    document["outputs"] = [output for output, _ in written]
    return documents.dump(document), [blob for _, blob in written if blob]


class _Parameters:
    """A request's parameters: those that the protocol reserves, and the client's own."""

    def __init__(self, document: Any) -> None:
        self.own: dict[str, Parameter] = {}
        self.sequence_id: int | str = 0
        self.flags = 0
        self.priority = 0
        self.timeout = 0
        self.binary_data_output = False
        if not documents.has(document, "parameters"):
            return
        parameters = document["parameters"]
        if type(parameters) is not dict:
            raise InferenceError(
                "failed to get request params.: attempt to get members for non-object"
            )
        for name in parameters:
            self._read(parameters, c_string(name))

    def _read(self, parameters: dict[str, Any], name: str) -> None:
        match name:
            case "sequence_id":
                self.sequence_id = own_correlation_id(required(parameters, name, _sequence_id))
            case "sequence_start":
                self.flags |= _SEQUENCE_START * required(parameters, name, as_bool)
            case "sequence_end":
                self.flags |= _SEQUENCE_END * required(parameters, name, as_bool)
            case "priority":
                self.priority = required(parameters, name, as_unsigned)
            case "timeout":
                self.timeout = required(parameters, name, as_unsigned)
            case "binary_data_output":
                self.binary_data_output = required(parameters, name, as_bool)
            case _:
                self.own[name] = _own_parameter(parameters, name)


def _sequence_id(value: Any) -> int | str:
    return as_unsigned(value) if type(value) is int and value >= 0 else as_string(value)


def _own_parameter(parameters: dict[str, Any], name: str) -> Parameter:
    if name.startswith("triton_"):
        raise refused(
            "parameter keys starting with 'triton_' are reserved for Triton usage and should not "
            "be specified."
        )
    if name not in parameters:  # it went on after a zero
        raise InferenceError(f"parameter key '{name}' was not found in the JSON")
    return own_parameter(name, parameters[name])
