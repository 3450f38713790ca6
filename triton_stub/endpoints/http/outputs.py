"""The outputs of an inference request, and how its answer has them.

Source: server ``src/http_server.cc``, ``ParseJsonTritonIO``, ``InferResponseAlloc`` and
``FinalizeResponse`` (2.51).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from triton_stub import deviations
from triton_stub.endpoints.classification import classify
from triton_stub.endpoints.http import documents, values
from triton_stub.endpoints.http.documents import (
    as_array,
    as_bool,
    as_string,
    as_unsigned,
    optional,
    required,
)
from triton_stub.endpoints.http.inputs import already_there, in_shared_memory, refused
from triton_stub.errors import InferenceError, StatusCode
from triton_stub.pb_utils.casters import c_string

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from triton_stub.core.model import ServedModel
    from triton_stub.core.tensor import Tensor
    from triton_stub.server.shared_memory import SharedMemory

_UINT32 = 2**32
# As JSON; few have more, such as texts.
_ELEMENT_BYTES = 20


@dataclass(frozen=True, slots=True)
class OutputFormat:
    """How an output is wanted: as the ``classes`` likeliest ones if that is not 0.

    ``region`` is where in shared memory it goes; else it is in the answer, behind the JSON if it
    is ``binary``.
    """

    binary: bool = False
    classes: int = 0
    region: memoryview | None = None


_JSON, _BINARY = OutputFormat(), OutputFormat(binary=True)


@dataclass(frozen=True, slots=True)
class OutputFormats:
    """The formats of the outputs that a request names, and of the others.

    ``used`` are views of inputs' shared memory, which is in use until the answer is written.
    """

    by_name: Mapping[str, OutputFormat] = field(default_factory=dict)
    binary_by_default: bool = False
    used: Sequence[memoryview] = ()

    def of(self, name: str) -> OutputFormat:
        """That of an output."""
        return self.by_name.get(name, _BINARY if self.binary_by_default else _JSON)

    def json_size(self, tensors: Iterable[Tensor]) -> int:
        """About how many bytes of JSON an answer with these tensors has."""
        return _ELEMENT_BYTES * sum(
            math.prod(tensor.shape) for tensor in tensors if self.of(tensor.name) == _JSON
        )


def read(document: Any, memory: SharedMemory, request_id: str) -> dict[str, OutputFormat]:
    """The formats of the requested outputs, by name; InferenceError if one is refused."""
    outputs: dict[str, OutputFormat] = {}
    if not documents.has(document, "outputs"):
        return outputs
    for entry in required(document, "outputs", as_array):
        parameters = entry["parameters"] if documents.has(entry, "parameters") else None
        if documents.has(parameters, "shared_memory_region"):
            _check_shared_memory_alone(parameters)
        name = c_string(required(entry, "name", as_string))
        if name in outputs:
            raise already_there(request_id, f"output '{name}'")
        outputs[name] = _format(parameters, memory)
    return outputs


def _check_shared_memory_alone(parameters: dict[str, Any]) -> None:
    both = "Output can't set both 'shared_memory_region' and"
    if "classification" in parameters:
        raise refused(f"{both} 'classification'")
    # Here, and of a number of classes, a complaint says "set".
    if optional(parameters, "binary_data", as_bool, default=False, verb="set"):
        raise refused(f"{both} 'binary_data'")


def _format(parameters: Any, memory: SharedMemory) -> OutputFormat:
    classes = optional(parameters, "classification", as_unsigned, 0, verb="set") % _UINT32
    region = in_shared_memory(parameters, memory)
    if region is not None:
        return OutputFormat(region=region)
    binary = optional(parameters, "binary_data", as_bool, default=False)
    return OutputFormat(binary, classes)


def write(
    tensor: Tensor, wanted: OutputFormat, model: ServedModel
) -> tuple[dict[str, Any], bytes | memoryview]:
    """An output in JSON, and what of it goes behind; InferenceError if that cannot be."""
    if wanted.classes:
        tensor = _classified(tensor, wanted.classes, model)
    output: dict[str, Any] = {
        "name": tensor.name,
        "datatype": tensor.datatype.name,
        "shape": tensor.shape,
    }
    if wanted.region is not None:
        _store(tensor, wanted.region)
    elif wanted.binary:
        blob = tensor.to_bytes()
        output["parameters"] = {"binary_data_size": len(blob)}
        return output, blob
    else:
        output["data"] = values.write(tensor)
    return output, b""


def _classified(tensor: Tensor, count: int, model: ServedModel) -> Tensor:
    classified = classify(tensor, count, model)
    if not math.prod(tensor.shape):
        text = deviations.NO_CLASSES.text(
            f"output '{tensor.name}' has no elements, and was asked for as classification",
            "Ask for its values, or over gRPC.",
        )
        raise InferenceError(text, StatusCode.INVALID_ARG)
    return classified


def _store(tensor: Tensor, region: memoryview) -> None:
    blob = tensor.to_bytes()
    if len(blob) > len(region):
        raise InferenceError(
            f"shared memory size specified with the request for output '{tensor.name}' "
            f"({len(region)} bytes) should be at least {len(blob)} bytes to hold the results",
            StatusCode.INTERNAL,
        )
    region[: len(blob)] = blob
