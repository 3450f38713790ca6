"""The two fake modules of one model instance.

On the server the plain-Python names are there while ``model.py`` is imported; the C++ classes
are added to ``triton_python_backend_utils`` afterwards (python_backend ``src/pb_stub.cc``,
``StubSetup``), and are in ``c_python_backend_utils`` from the start.
"""

from __future__ import annotations

import json
import struct
from types import ModuleType
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from triton_stub.pb_utils import helpers
from triton_stub.pb_utils.errors import TritonError, TritonModelException
from triton_stub.pb_utils.logger import LogSink, make_logger
from triton_stub.pb_utils.request import InferenceRequest
from triton_stub.pb_utils.response import InferenceResponse
from triton_stub.pb_utils.tensor import Tensor

if TYPE_CHECKING:
    from pathlib import Path

PB_UTILS = "triton_python_backend_utils"
C_PB_UTILS = "c_python_backend_utils"

# Names of the real modules that this release does not imitate: asking for one says so.
MISSING = frozenset(
    {
        "ModelConfig",
        "PreferredMemory",
        "TRITONSERVER_MEMORY_CPU",
        "TRITONSERVER_MEMORY_GPU",
        "MetricFamily",
        "Metric",
        "MetricKind",
        "MemoryType",
        "InferenceTrace",
        "InferenceResponseSender",
        "ResponseIterator",
        "SharedMemory",
        "load_model",
        "unload_model",
        "is_model_ready",
    }
)


class BackendModules:
    """``triton_python_backend_utils`` and ``c_python_backend_utils`` for one model instance."""

    def __init__(self, version_directory: Path, sink: LogSink) -> None:
        self._version_directory = version_directory
        self._classes = {
            "TritonError": TritonError,
            "TritonModelException": TritonModelException,
            "Tensor": Tensor,
            "InferenceRequest": InferenceRequest,
            "InferenceResponse": InferenceResponse,
            "Logger": make_logger(sink),
        }
        self.pb_utils = _module(PB_UTILS, "The Python backend's utilities, imitated.")
        self.c_pb_utils = _module(C_PB_UTILS, "The Python backend's classes, imitated.")
        vars(self.pb_utils).update(
            {name: value for name, value in vars(helpers).items() if name in _HELPERS},
            json=json,
            np=np,
            struct=struct,
        )
        vars(self.c_pb_utils).update(self._classes)

    def reveal_classes(self) -> None:
        """Add the names that exist only once ``model.py`` has been imported."""
        vars(self.pb_utils).update(self._classes, get_model_dir=self._get_model_dir)

    def _get_model_dir(self) -> str:
        """Path of the version directory, such as ``/models/resnet50/1``."""
        return str(self._version_directory)


_HELPERS = frozenset(
    name
    for name, value in vars(helpers).items()
    if getattr(value, "__module__", None) == helpers.__name__ or name.startswith("TRITON")
)


def _module(name: str, doc: str) -> ModuleType:
    module = ModuleType(name, doc)

    def missing(attribute: str) -> NoReturn:
        text = f"module {name!r} has no attribute {attribute!r}"
        if attribute in MISSING:
            text += (
                "; the real one has it, but this release of triton_stub does not imitate it: "
                "test this model with --triton-engine=native"
            )
        raise AttributeError(text)

    module_dict: dict[str, Any] = vars(module)
    module_dict["__getattr__"] = missing
    return module
