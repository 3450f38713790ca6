"""Between the JSON objects of the generate extension and requests and responses.

A key that names an input of the model is a tensor, every other one a parameter, and so are those
of the object ``parameters``. Source: server ``src/http_server.cc``, ``ConvertGenerateRequest`` and
``FinalizeResponse`` of ``GenerateRequestClass`` (26.08).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NoReturn

from triton_stub import datatypes
from triton_stub.core.request import InferenceRequest, own_parameter
from triton_stub.core.tensor import Tensor
from triton_stub.datatypes import BYTES
from triton_stub.endpoints.http import documents, values
from triton_stub.endpoints.http.documents import Members
from triton_stub.errors import InferenceError, StatusCode
from triton_stub.pb_utils.casters import c_string

if TYPE_CHECKING:
    from triton_stub.core.request import InferenceResponse, Parameter

#: The one key whose object is looked into.
NESTED = "parameters"
_ANY_SIZE = -1


def decode(body: bytes, config: Any, model_version: int, max_input_size: int) -> InferenceRequest:
    """A request out of a JSON object; InferenceError with the server's text if it is refused.

    ``config`` is the model's, ``max_input_size`` how many bytes its tensors may have. Parameters
    that other requests reserve, such as ``sequence_id``, are the model's own here.
    """
    document = documents.parse_members(body)
    request_id = c_string(documents.optional(document, "id", documents.as_string, ""))
    request = InferenceRequest(
        model_name=config.name, model_version=model_version, request_id=request_id
    )
    reader = _Reader(config, request.log_prefix, max_input_size)
    reader.read(document)
    request.inputs = list(reader.inputs.values())
    request.parameters = reader.parameters
    return request


def encode(response: InferenceResponse) -> dict[str, Any]:
    """The object of a response, its keys in the server's order.

    What the protocol itself has to tell hides parameters and outputs of the same name, and a
    parameter hides an output. InferenceError if an output has no form in JSON.
    """
    fields: dict[str, Any] = {tensor.name: tensor for tensor in reversed(response.tensors)}
    fields |= response.parameters
    fields |= {"model_name": response.model_name, "model_version": response.model_version}
    if response.request_id:
        fields["id"] = response.request_id
    ordered = sorted(fields, key=lambda name: name.encode(errors="surrogateescape"))
    return {name: _value(fields[name]) for name in ordered}


class _Reader:
    """Collects inputs and parameters, in the order in which the keys come."""

    def __init__(self, config: Any, log_prefix: str, max_size: int) -> None:
        self.inputs: dict[str, Tensor] = {}
        self.parameters: dict[str, Parameter] = {}
        self._entries = {entry.name: entry for entry in config.input}
        self._batch = (_ANY_SIZE,) if config.max_batch_size else ()
        self._log_prefix = log_prefix
        self._max_size = max_size
        self._size = 0

    def read(self, document: Any) -> None:
        if not isinstance(document, Members):
            raise InferenceError("attempt to get members for non-object", StatusCode.INTERNAL)
        for name in map(c_string, document.names):
            if name == NESTED:
                self._read_nested(document)
            else:
                self._read_member(document, name)

    def _read_nested(self, document: Members) -> None:
        if NESTED in self._entries:
            _refuse(f"Keyword '{NESTED}' for nested schema also given as input tensor name")
        nested = document.get(NESTED, ...)
        if not isinstance(nested, Members):
            reason = (
                f"attempt to access non-existing object member '{NESTED}'"
                if nested is ...
                else "attempt to access JSON non-object as object"
            )
            raise InferenceError(
                f"Expected JSON object for keyword: '{NESTED}': {reason}", StatusCode.INTERNAL
            )
        outside, self._size = self._size, 0  # what is inside is counted for itself
        try:
            for name in map(c_string, nested.names):
                self._read_member(nested, name)
        except InferenceError as error:
            raise InferenceError(
                f"Converting keyword: '{NESTED}': {error.message}", error.code
            ) from None
        self._size = outside

    def _read_member(self, members: Members, name: str) -> None:
        # A name may go on after a zero, which ends it for the server.
        if name not in self._entries:
            if name not in members:
                raise InferenceError(
                    f"parameter key '{name}' was not found in the JSON", StatusCode.INTERNAL
                )
            self.parameters[name] = own_parameter(name, members[name])
            return
        if name not in members:
            _refuse(f"unexpected key not found in generate request, expecting key '{name}'")
        tensor = self._tensor(self._entries[name], members[name])
        if name in self.inputs:
            _refuse(f"{self._log_prefix}input '{name}' already exists in request")
        self.inputs[name] = tensor

    def _tensor(self, entry: Any, value: Any) -> Tensor:
        datatype = datatypes.from_number(entry.data_type)
        data = value if type(value) is list else [value]
        # Texts are looked at before the shape is, other values after it.
        texts = values.frame(data) if datatype is BYTES else b""
        size = len(texts) if datatype is BYTES else len(data) * datatype.itemsize
        if not size:
            return Tensor(entry.name, datatype, (), b"")
        self._count(entry.name, size)
        shape = self._shape(entry, len(data))
        content = texts or values.read(entry.name, datatype, len(data), data)
        return Tensor(entry.name, datatype, shape, content)

    def _count(self, name: str, size: int) -> None:
        if self._size + size > self._max_size:
            _refuse(
                f"request size of {self._size} bytes with input '{name}' of size {size} bytes "
                f"exceeds the maximum allowed input size of {self._max_size}. "
                "Use --http-max-input-size to increase the limit."
            )
        self._size += size

    def _shape(self, entry: Any, count: int) -> tuple[int, ...]:
        """Fixed sizes take their part of ``count``, the last other one the rest."""
        shape = [*self._batch, *entry.dims]
        fixed = math.prod(size for size in shape if size != _ANY_SIZE)
        rest, left_over = divmod(count, fixed)
        for index in reversed(range(len(shape))):
            if shape[index] == _ANY_SIZE:
                shape[index], rest = rest, 1
        if left_over or rest != 1:
            _refuse(f"The schema can not convert input '{entry.name}' to tensor with proper shape")
        return tuple(shape)


def _value(field: Any) -> Any:
    if not isinstance(field, Tensor):
        return field
    data = values.write(field)
    return data[0] if math.prod(field.shape) == 1 else data


def _refuse(message: str) -> NoReturn:
    raise InferenceError(message, StatusCode.INVALID_ARG)
