"""The body of an inference request and of its answer: JSON, and binary tensors behind it.

Source: server ``src/http_server.cc``, ``EVBufferToInput`` and ``FinalizeResponse`` (2.51); KServe
v2 "Inference Protocol"; Triton "Binary Tensor Data Extension" and "Parameters Extension".
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from triton_stub import datatypes
from triton_stub.core.request import InferenceRequest, own_correlation_id, own_parameter
from triton_stub.core.tensor import Tensor
from triton_stub.datatypes import Datatype
from triton_stub.endpoints.http import documents, values
from triton_stub.endpoints.http.documents import (
    INT64_MAX,
    as_array,
    as_bool,
    as_string,
    as_unsigned,
    optional,
    required,
)
from triton_stub.errors import InferenceError, StatusCode
from triton_stub.pb_utils.casters import c_string

if TYPE_CHECKING:
    from collections.abc import Mapping

    from triton_stub.core.request import InferenceResponse, Parameter

_SEQUENCE_START = 1
_SEQUENCE_END = 2
# What the server makes of a name that it does not know; the core then tells it to the client.
_INVALID = Datatype("<invalid>", "TYPE_INVALID", 0, np.dtype(np.uint8), 0)


@dataclass(frozen=True, slots=True)
class OutputFormats:
    """Which outputs the client wants as binary data, and which as JSON."""

    by_name: Mapping[str, bool] = field(default_factory=dict)
    binary_by_default: bool = False

    def is_binary(self, name: str) -> bool:
        """True if the output goes behind the JSON, as raw bytes."""
        return self.by_name.get(name, self.binary_by_default)


def decode(
    body: bytes, json_size: int, model_name: str, model_version: int
) -> tuple[InferenceRequest, OutputFormats]:
    """Read a request whose first ``json_size`` bytes are JSON, the rest binary tensors.

    The request's tensors are views of ``body``. InferenceError with the server's text if the
    body is refused.
    """
    # A body without binary tensors, which may be long, is not copied.
    document = documents.parse(body if json_size == len(body) else body[:json_size])
    request_id = c_string(optional(document, "id", as_string, ""))
    parameters = _Parameters(document)
    blobs = _Blobs(body, json_size, model_name)
    inputs = _inputs(document, blobs, request_id)
    blobs.check_all_used()
    outputs = _outputs(document)
    formats = OutputFormats(dict(outputs), parameters.binary_data_output)
    request = InferenceRequest(
        model_name=model_name,
        model_version=model_version,
        request_id=request_id,
        inputs=inputs,
        requested_outputs=[name for name, _ in outputs],
        parameters=parameters.own,
        correlation_id=parameters.sequence_id,
        flags=parameters.flags,
        priority=parameters.priority,
        timeout=parameters.timeout,
    )
    return request, formats


def encode(
    response: InferenceResponse, formats: OutputFormats
) -> tuple[bytes, list[bytes | memoryview]]:
    """The JSON of an answer, and the binary tensors to be sent behind it.

    InferenceError if an output cannot be sent as the client wants it.
    """
    document: dict[str, Any] = {"id": response.request_id} if response.request_id else {}
    document |= {"model_name": response.model_name, "model_version": response.model_version}
    if response.parameters:
        document["parameters"] = dict(response.parameters)
    blobs: list[bytes | memoryview] = []
    outputs: list[dict[str, Any]] = []
    for tensor in response.tensors:
        output: dict[str, Any] = {
            "name": tensor.name,
            "datatype": tensor.datatype.name,
            "shape": tensor.shape,
        }
        if formats.is_binary(tensor.name):
            blob = tensor.to_bytes()
            output["parameters"] = {"binary_data_size": len(blob)}
            if blob:
                blobs.append(blob)
        else:
            output["data"] = values.write(tensor)
        outputs.append(output)
    document["outputs"] = outputs
    return documents.dump(document), blobs


class _Blobs:
    """The binary tensors behind the JSON, taken one after the other."""

    def __init__(self, body: bytes, start: int, model_name: str) -> None:
        self._body = memoryview(body)
        self._offset = start
        self._model_name = model_name

    def take(self, name: str, size: int) -> memoryview:
        end = self._offset + size
        if end > len(self._body):
            raise _refused(
                f"unexpected size for input '{name}', expecting {end - len(self._body)} "
                f"additional bytes for model '{self._model_name}'"
            )
        blob = self._body[self._offset : end]
        self._offset = end
        return blob

    def check_all_used(self) -> None:
        if self._offset != len(self._body):
            raise _refused(f"unexpected additional input data for model '{self._model_name}'")


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
        raise _refused(
            "parameter keys starting with 'triton_' are reserved for Triton usage and should not "
            "be specified."
        )
    if name not in parameters:  # it went on after a zero
        raise InferenceError(f"parameter key '{name}' was not found in the JSON")
    return own_parameter(name, parameters[name])


def _inputs(document: Any, blobs: _Blobs, request_id: str) -> list[Tensor]:
    inputs: dict[str, Tensor] = {}
    for entry in required(document, "inputs", as_array):
        _check_one_source(entry)
        name = required(entry, "name", as_string)
        datatype = _datatype(required(entry, "datatype", as_string))
        shape = required(entry, "shape", _shape)
        if name in inputs:
            # The core's complaint, but before the next complaint of this module.
            prefix = InferenceRequest(model_name="", request_id=request_id).log_prefix
            raise _refused(f"{prefix}input '{name}' already exists in request")
        inputs[name] = Tensor(name, datatype, shape, _data(entry, name, datatype, shape, blobs))
    return list(inputs.values())


def _check_one_source(entry: Any) -> None:
    parameters = entry["parameters"] if documents.has(entry, "parameters") else None
    sources = [
        f"'{name}'"
        for place, name in (
            (entry, "data"),
            (parameters, "binary_data_size"),
            (parameters, "shared_memory_region"),
        )
        if documents.has(place, name)
    ]
    if len(sources) != 1:
        found = f"set {' '.join(sources)}" if sources else "no field is set"
        raise _refused(
            "Input must set only one of the following fields: 'data', 'binary_data_size' in "
            f"'parameters', 'shared_memory_region' in 'parameters'. But {found}"
        )


def _datatype(name: str) -> Datatype:
    try:
        return datatypes.from_name(name)
    except KeyError:
        return _INVALID


def _shape(value: Any) -> tuple[int, ...]:
    sizes = [as_unsigned(size) for size in as_array(value)]
    # Read without a sign, kept with one.
    return tuple([size if size <= INT64_MAX else size - 2**64 for size in sizes])


def _data(
    entry: dict[str, Any],
    name: str,
    datatype: Datatype,
    shape: tuple[int, ...],
    blobs: _Blobs,
) -> Any:
    parameters = entry.get("parameters")
    size = optional(parameters, "binary_data_size", as_unsigned, None)
    if size is not None:
        return blobs.take(name, size)
    if documents.has(parameters, "shared_memory_region"):
        raise _not_served(f"input '{name}' in shared memory")
    count = math.prod(shape) if shape else 0
    if count == 0:
        return b""  # the server does not even look at the data
    data = required(entry, "data", as_array)
    if datatype is _INVALID:
        raise _refused(f"invalid datatype for input {name}")
    return values.read(name, datatype, max(count, 0), data)


def _outputs(document: Any) -> list[tuple[str, bool]]:
    """Requested outputs, and whether each is wanted as binary data."""
    outputs: list[tuple[str, bool]] = []
    if not documents.has(document, "outputs"):
        return outputs
    for entry in required(document, "outputs", as_array):
        parameters = entry["parameters"] if documents.has(entry, "parameters") else None
        if documents.has(parameters, "shared_memory_region"):
            _check_shared_memory_alone(parameters)
        name = required(entry, "name", as_string)
        # The one complaint that says "set".
        classes = optional(parameters, "classification", as_unsigned, 0, verb="set")
        if classes:
            raise _not_served(f"output '{name}' as classification")
        if documents.has(parameters, "shared_memory_region"):
            raise _not_served(f"output '{name}' in shared memory")
        outputs.append((name, optional(parameters, "binary_data", as_bool, default=False)))
    return outputs


def _check_shared_memory_alone(parameters: dict[str, Any]) -> None:
    for name, is_set in (
        ("classification", "classification" in parameters),
        ("binary_data", parameters.get("binary_data") is True),
    ):
        if is_set:
            raise _refused(f"Output can't set both 'shared_memory_region' and '{name}'")


def _refused(message: str) -> InferenceError:
    return InferenceError(message, StatusCode.INVALID_ARG)


def _not_served(what: str) -> InferenceError:
    return InferenceError(
        f"{what}: this release of triton_stub does not serve that. Send tensors as JSON or binary "
        "data, or test with --triton-engine=native",
        StatusCode.UNSUPPORTED,
    )
