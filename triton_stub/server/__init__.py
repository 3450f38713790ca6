"""A Triton server in this process, with the face of NVIDIA's own in-process Python API."""

from triton_stub.server.about import IMITATED_VERSION
from triton_stub.server.enums import (
    DataType,
    DLDeviceType,
    InstanceGroupKind,
    LogFormat,
    MemoryType,
    MetricFormat,
    MetricKind,
    ModelBatchFlag,
    ModelControlMode,
    ModelTxnPropertyFlag,
    RateLimitMode,
)
from triton_stub.server.memory import MemoryBuffer
from triton_stub.server.metrics import Metric, MetricFamily
from triton_stub.server.model import Model
from triton_stub.server.options import ModelLoadDeviceLimit, Options, RateLimiterResource
from triton_stub.server.request import InferenceRequest
from triton_stub.server.response import AsyncResponseIterator, InferenceResponse, ResponseIterator
from triton_stub.server.server import Server
from triton_stub.server.tensor import Tensor

__all__ = [
    "IMITATED_VERSION",
    "AsyncResponseIterator",
    "DLDeviceType",
    "DataType",
    "InferenceRequest",
    "InferenceResponse",
    "InstanceGroupKind",
    "LogFormat",
    "MemoryBuffer",
    "MemoryType",
    "Metric",
    "MetricFamily",
    "MetricFormat",
    "MetricKind",
    "Model",
    "ModelBatchFlag",
    "ModelControlMode",
    "ModelLoadDeviceLimit",
    "ModelTxnPropertyFlag",
    "Options",
    "RateLimitMode",
    "RateLimiterResource",
    "ResponseIterator",
    "Server",
    "Tensor",
]
