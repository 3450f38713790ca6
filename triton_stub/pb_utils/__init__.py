"""The fake ``triton_python_backend_utils`` and ``c_python_backend_utils``."""

from triton_stub.pb_utils.errors import TritonError, TritonModelException
from triton_stub.pb_utils.request import InferenceRequest
from triton_stub.pb_utils.response import InferenceResponse
from triton_stub.pb_utils.tensor import Tensor

__all__ = [
    "InferenceRequest",
    "InferenceResponse",
    "Tensor",
    "TritonError",
    "TritonModelException",
]
