"""The plain-Python half of ``triton_python_backend_utils``, quirks included.

Behaviour source: python_backend ``src/resources/triton_python_backend_utils.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from triton_stub import datatypes

if TYPE_CHECKING:
    from triton_stub.pb_utils.request import InferenceRequest
    from triton_stub.pb_utils.response import InferenceResponse
    from triton_stub.pb_utils.tensor import Tensor

TRITONSERVER_REQUEST_FLAG_SEQUENCE_START = 1
TRITONSERVER_REQUEST_FLAG_SEQUENCE_END = 2
TRITONSERVER_RESPONSE_COMPLETE_FINAL = 1
TRITONSERVER_REQUEST_RELEASE_ALL = 1
TRITONSERVER_REQUEST_RELEASE_RESCHEDULE = 2

# TYPE_BOOL is the builtin, and there is no BF16, on the server too.
TRITON_STRING_TO_NUMPY: dict[str, Any] = {
    row.config_name: bool if row.name == "BOOL" else row.numpy.type
    for row in datatypes.DATATYPES
    if row is not datatypes.BF16
}
_NUMBER_TO_NUMPY = {
    row.number: row.numpy.type for row in datatypes.DATATYPES if row is not datatypes.BF16
}


def triton_string_to_numpy(triton_type_string: str) -> Any:
    """Numpy type of ``TYPE_FP32`` and the like; KeyError if unknown (also for ``TYPE_BF16``)."""
    return TRITON_STRING_TO_NUMPY[triton_type_string]


def triton_to_numpy_type(data_type: int) -> Any:
    """Numpy type of a datatype number 1 to 13; None otherwise."""
    return _NUMBER_TO_NUMPY.get(data_type)


def numpy_to_triton_type(data_type: Any) -> int | None:
    """Datatype number of a numpy type or dtype; None if unknown, and for ``'float32'`` texts."""
    if isinstance(data_type, str) or data_type is bool:
        return None
    for number, numpy_type in _NUMBER_TO_NUMPY.items():
        if data_type == numpy_type:
            return number
    return 13 if data_type == np.bytes_ else None


def serialize_byte_tensor(input_tensor: Any) -> Any:
    """Frame a BYTES array: ``bytes``; ``()`` if it is empty; None for any other dtype."""
    if input_tensor.size == 0:
        return ()
    if input_tensor.dtype == np.object_ or input_tensor.dtype.type == np.bytes_:
        return datatypes.encode_bytes(input_tensor)
    return None


def deserialize_bytes_tensor(encoded_tensor: Any) -> Any:
    """Undo ``serialize_byte_tensor``, also its () for nothing: a 1-d object array of ``bytes``."""
    return datatypes.decode_bytes(encoded_tensor)


def get_input_tensor_by_name(inference_request: InferenceRequest, name: str) -> Tensor | None:
    """The request's input of that name, or None."""
    return _by_name(inference_request.inputs(), name)


def get_output_tensor_by_name(inference_response: InferenceResponse, name: str) -> Tensor | None:
    """The response's first output of that name, or None."""
    return _by_name(inference_response.output_tensors(), name)


def _by_name(tensors: list[Tensor], name: str) -> Tensor | None:
    return next((tensor for tensor in tensors if tensor.name() == name), None)


def get_input_config_by_name(model_config: dict[str, Any], name: str) -> dict[str, Any] | None:
    """The configuration's entry of an input (the same dict), or None."""
    return _config_by_name(model_config, "input", name)


def get_output_config_by_name(model_config: dict[str, Any], name: str) -> dict[str, Any] | None:
    """The configuration's entry of an output (the same dict), or None."""
    return _config_by_name(model_config, "output", name)


def _config_by_name(
    model_config: dict[str, Any], direction: str, name: str
) -> dict[str, Any] | None:
    entries: list[dict[str, Any]] = model_config.get(direction, [])
    return next((entry for entry in entries if entry["name"] == name), None)


def using_decoupled_model_transaction_policy(model_config: dict[str, Any]) -> bool:
    """True if the configuration says that the model is decoupled."""
    if "model_transaction_policy" not in model_config:
        return False
    decoupled: bool = model_config["model_transaction_policy"]["decoupled"]
    return decoupled
