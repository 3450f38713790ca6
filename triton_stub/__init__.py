"""Run the real ``model.py`` of a Triton Python-backend model in this process, and trust the answer.

``import triton_stub as tritonserver`` is NVIDIA's in-process Python API. Its classes are imported
on first use, so that ``import triton_stub`` stays cheap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from triton_stub.errors import (
    AlreadyExistsError,
    ConfigError,
    InferenceError,
    InternalError,
    InvalidArgumentError,
    LoadError,
    NotFoundError,
    ServerError,
    StatusCode,
    TritonError,
    UnavailableError,
    UnknownError,
    UnsupportedError,
)

if TYPE_CHECKING:
    from triton_stub import testing
    from triton_stub.core.clock import ManualClock
    from triton_stub.core.result import Result
    from triton_stub.server import (
        DataType,
        DLDeviceType,
        InferenceRequest,
        InferenceResponse,
        InstanceGroupKind,
        LogFormat,
        MemoryBuffer,
        MemoryType,
        Metric,
        MetricFamily,
        MetricFormat,
        MetricKind,
        Model,
        ModelBatchFlag,
        ModelControlMode,
        ModelLoadDeviceLimit,
        ModelTxnPropertyFlag,
        Options,
        RateLimiterResource,
        RateLimitMode,
        Server,
        Tensor,
    )

__version__ = "0.1.0"

__all__ = [
    "AlreadyExistsError",
    "ConfigError",
    "DLDeviceType",
    "DataType",
    "InferenceError",
    "InferenceRequest",
    "InferenceResponse",
    "InstanceGroupKind",
    "InternalError",
    "InvalidArgumentError",
    "LoadError",
    "LogFormat",
    "ManualClock",
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
    "NotFoundError",
    "Options",
    "RateLimitMode",
    "RateLimiterResource",
    "Result",
    "Server",
    "ServerError",
    "StatusCode",
    "Tensor",
    "TritonError",
    "UnavailableError",
    "UnknownError",
    "UnsupportedError",
    "testing",
]


def __getattr__(name: str) -> Any:
    import importlib

    if name == "testing":
        return importlib.import_module("triton_stub.testing")
    if name == "ManualClock":
        return importlib.import_module("triton_stub.core.clock").ManualClock
    if name == "Result":
        return importlib.import_module("triton_stub.core.result").Result
    if name in __all__:
        return getattr(importlib.import_module("triton_stub.server"), name)
    raise AttributeError(f"module 'triton_stub' has no attribute {name!r}")
