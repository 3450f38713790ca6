"""Run the real ``model.py`` of a Triton Python-backend model in this process, and trust the answer.

``Server`` is imported on first use, so that ``import triton_stub`` stays cheap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from triton_stub.errors import ConfigError, InferenceError, LoadError, ServerError, StatusCode

if TYPE_CHECKING:
    from triton_stub import testing
    from triton_stub.core.result import Result
    from triton_stub.server import Model, Server

__version__ = "0.1.0"

__all__ = [
    "ConfigError",
    "InferenceError",
    "LoadError",
    "Model",
    "Result",
    "Server",
    "ServerError",
    "StatusCode",
    "testing",
]

_LAZY = {
    "Model": "triton_stub.server",
    "Result": "triton_stub.core.result",
    "Server": "triton_stub.server",
}


def __getattr__(name: str) -> Any:
    import importlib

    if name == "testing":
        return importlib.import_module("triton_stub.testing")
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'triton_stub' has no attribute {name!r}")
