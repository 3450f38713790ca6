"""A raw binary request: the whole body is the model's only input, without any JSON.

``Inference-Header-Content-Length: 0`` asks for it, and an empty body is one, too. Source: core
``src/infer_request.cc``, ``Normalize`` (2.51).
"""

from __future__ import annotations

import math
from typing import Any, NoReturn

from triton_stub import datatypes
from triton_stub.core.request import InferenceRequest
from triton_stub.core.tensor import Tensor
from triton_stub.datatypes import BYTES
from triton_stub.endpoints.http.outputs import OutputFormats
from triton_stub.errors import InferenceError, StatusCode

# The name that the server gives the input until it knows better.
_RAW_INPUT = "raw_input"
_LENGTH_SIZE = 4


def decode(
    body: bytes | memoryview, config: Any, model_version: int
) -> tuple[InferenceRequest, OutputFormats]:
    """A request of one batch row, its shape deduced from the configuration and the body's size.

    All outputs are wanted as binary data. InferenceError with the server's text if the model has
    not exactly one input, or its shape cannot be deduced, or the size does not fit.
    """
    if len(config.input) != 1:
        _refuse(
            "Raw request must only have 1 input (found 1) to be deduced but got "
            f"{len(config.input)} inputs in '{config.name}' model configuration"
        )
    entry = config.input[0]
    datatype = datatypes.from_number(entry.data_type)
    dims = list(entry.dims)
    fixed = math.prod(dim for dim in dims if dim != -1)
    data = body
    if dims.count(-1) > 1:
        _refuse(
            f"The shape of the raw input '{entry.name}' can not be deduced because there are "
            "more than one variable-sized dimension"
        )
    if datatype is BYTES:
        if dims.count(-1) or fixed != 1:
            _refuse(
                f"For BYTE datatype raw input '{entry.name}', the model must have input shape [1]"
            )
        data = b"".join((len(body).to_bytes(_LENGTH_SIZE, "little"), body))
    else:
        dims = [len(body) // fixed // datatype.itemsize if dim == -1 else dim for dim in dims]
        expected = math.prod(dims) * datatype.itemsize
        if len(body) != expected:
            _refuse(
                f"input byte size mismatch for input '{_RAW_INPUT}' for model '{config.name}'. "
                f"Expected {expected}, got {len(body)}"
            )
    batch = [1] if config.max_batch_size else []
    request = InferenceRequest(
        model_name=config.name,
        model_version=model_version,
        inputs=[Tensor(entry.name, datatype, (*batch, *dims), data)],
    )
    return request, OutputFormats(binary_by_default=True)


def _refuse(message: str) -> NoReturn:
    prefix = InferenceRequest(model_name="").log_prefix
    raise InferenceError(prefix + message, StatusCode.INVALID_ARG)
