"""The inputs of an inference request: in JSON, as binary tensors behind it, or in shared memory.

Source: server ``src/http_server.cc``, ``ParseJsonTritonIO`` (2.51).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from triton_stub import datatypes
from triton_stub.core.request import InferenceRequest
from triton_stub.core.tensor import Tensor
from triton_stub.datatypes import Datatype, format_shape
from triton_stub.endpoints.http import bodies, documents, values
from triton_stub.endpoints.http.documents import (
    INT64_MAX,
    as_array,
    as_string,
    as_unsigned,
    optional,
    required,
)
from triton_stub.errors import InferenceError, StatusCode
from triton_stub.pb_utils.casters import c_string

if TYPE_CHECKING:
    from triton_stub.server.shared_memory import SharedMemory

# What the server makes of a name that it does not know; the core then tells it to the client.
_INVALID = Datatype("<invalid>", "TYPE_INVALID", 0, np.dtype(np.uint8), 0)


class Inputs:
    """Reads the inputs of a request, whose binary tensors are taken one after the other."""

    def __init__(
        self,
        body: bytes | memoryview,
        json_size: int,
        model_name: str,
        request_id: str,
        memory: SharedMemory,
        *,
        limit: int,
    ) -> None:
        self._body = memoryview(body)
        self._offset = json_size
        self._model_name = model_name
        self._request_id = request_id
        self._memory = memory
        self._limit = limit
        #: Views of the shared memory that was read.
        self.used: list[memoryview] = []

    def read(self, document: Any) -> list[Tensor]:
        """The tensors, views of the body; InferenceError if one is refused."""
        inputs: dict[str, Tensor] = {}
        for entry in required(document, "inputs", as_array):
            _check_one_source(entry)
            name = c_string(required(entry, "name", as_string))
            datatype = _datatype(c_string(required(entry, "datatype", as_string)))
            shape = required(entry, "shape", _shape)
            if name in inputs:
                raise already_there(self._request_id, f"input '{name}'")
            inputs[name] = Tensor(name, datatype, shape, self._data(entry, name, datatype, shape))
        if self._offset != len(self._body):
            raise refused(f"unexpected additional input data for model '{self._model_name}'")
        return list(inputs.values())

    def _data(
        self, entry: dict[str, Any], name: str, datatype: Datatype, shape: tuple[int, ...]
    ) -> Any:
        size = optional(entry.get("parameters"), "binary_data_size", as_unsigned, None)
        if size is not None:
            return self._take(name, size)
        shared = in_shared_memory(entry.get("parameters"), self._memory)
        if shared is not None:
            self.used.append(shared)
            return bytes(shared)  # it may change at any time
        count = _count(name, shape)
        if count == 0:
            return b""  # the server does not even look at the data
        data = required(entry, "data", as_array)
        if datatype is _INVALID:
            raise refused(f"invalid datatype for input {name}")
        # Not texts, which are hardly longer than their JSON.
        bodies.check_input(name, count * datatype.itemsize, self._limit)
        return values.read(name, datatype, max(count, 0), data)

    def _take(self, name: str, size: int) -> memoryview:
        end = self._offset + size
        if end > len(self._body):
            raise refused(
                f"unexpected size for input '{name}', expecting {end - len(self._body)} "
                f"additional bytes for model '{self._model_name}'"
            )
        blob = self._body[self._offset : end]
        self._offset = end
        return blob


def in_shared_memory(parameters: Any, memory: SharedMemory) -> memoryview | None:
    """The memory of a tensor with such parameters; None if it is not in shared memory."""
    region = optional(parameters, "shared_memory_region", as_string, None)
    offset = optional(parameters, "shared_memory_offset", as_unsigned, 0)
    byte_size = optional(parameters, "shared_memory_byte_size", as_unsigned, 0)
    return None if region is None else memory.view(c_string(region), offset, byte_size)


def already_there(request_id: str, what: str) -> InferenceError:
    """The core's complaint of a second tensor of a name; it comes before others of this package."""
    prefix = InferenceRequest(model_name="", request_id=request_id).log_prefix
    return refused(f"{prefix}{what} already exists in request")


def refused(message: str) -> InferenceError:
    """An error of the client's."""
    return InferenceError(message, StatusCode.INVALID_ARG)


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
        raise refused(
            "Input must set only one of the following fields: 'data', 'binary_data_size' in "
            f"'parameters', 'shared_memory_region' in 'parameters'. But {found}"
        )


def _count(name: str, shape: tuple[int, ...]) -> int:
    """How many values a shape has, -1 if it does not say; since 25.05 not more than 64 bits."""
    count = min(len(shape), 1)
    for size in shape:
        if size in (-1, 0):
            return size
        if size < 0:
            raise refused(
                f"invalid shape for input '{name}': shape {format_shape(shape)} contains one or "
                "more invalid dimensions"
            )
        if count > INT64_MAX // size:
            raise refused(
                f"invalid shape for input '{name}': shape {format_shape(shape)} causes total "
                f"element count to exceed maximum size of {INT64_MAX}"
            )
        count *= size
    return count


def _datatype(name: str) -> Datatype:
    try:
        return datatypes.from_name(name)
    except KeyError:
        return _INVALID


def _shape(value: Any) -> tuple[int, ...]:
    sizes = [as_unsigned(size) for size in as_array(value)]
    # Read without a sign, kept with one.
    return tuple([size if size <= INT64_MAX else size - 2**64 for size in sizes])
