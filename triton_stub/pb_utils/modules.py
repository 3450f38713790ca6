"""The two fake modules of one model instance.

On the server the plain-Python names are there while ``model.py`` is imported; the C++ classes
are added to ``triton_python_backend_utils`` afterwards (python_backend ``src/pb_stub.cc``,
``StubSetup``), and are in ``c_python_backend_utils`` from the start.
"""

from __future__ import annotations

import json
import struct
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from triton_stub.pb_utils import helpers, pybind
from triton_stub.pb_utils.errors import TritonError, TritonModelException
from triton_stub.pb_utils.internals import SharedMemory, future_callback
from triton_stub.pb_utils.iterator import ResponseIterator
from triton_stub.pb_utils.logger import make_logger
from triton_stub.pb_utils.memory import MemoryType, PreferredMemory
from triton_stub.pb_utils.metrics import Metric, MetricFamily, MetricKind
from triton_stub.pb_utils.model_config import ModelConfig
from triton_stub.pb_utils.model_control import model_control
from triton_stub.pb_utils.request import InferenceRequest
from triton_stub.pb_utils.response import InferenceResponse
from triton_stub.pb_utils.sender import InferenceResponseSender
from triton_stub.pb_utils.tensor import Tensor
from triton_stub.pb_utils.trace import InferenceTrace

if TYPE_CHECKING:
    from pathlib import Path

    from triton_stub.pb_utils.host import Host

PB_UTILS = "triton_python_backend_utils"
C_PB_UTILS = "c_python_backend_utils"

# Where Triton's image has the file; an ImportError names it.
PB_UTILS_FILE = f"/opt/tritonserver/backends/python/{PB_UTILS}.py"

_HELPERS = {
    name: value
    for name, value in vars(helpers).items()
    if not name.startswith("_")
    and (name.startswith("TRITON") or getattr(value, "__module__", None) == helpers.__name__)
}


class BackendModules:
    """``triton_python_backend_utils`` and ``c_python_backend_utils`` for one model instance."""

    def __init__(self, version_directory: Path, host: Host) -> None:
        self.request_class = InferenceRequest._for_host(host)

        @pybind.function("str")
        def get_model_dir() -> str:
            """Path of the version directory, such as ``/models/resnet50/1``."""
            return str(version_directory)

        self._get_model_dir = get_model_dir
        self._classes = {
            "TritonError": TritonError,
            "TritonModelException": TritonModelException,
            "Tensor": Tensor,
            "InferenceRequest": self.request_class,
            "InferenceResponse": InferenceResponse,
            "Logger": make_logger(host.log),
            "PreferredMemory": PreferredMemory,
            "TRITONSERVER_MEMORY_GPU": MemoryType.TRITONSERVER_MEMORY_GPU,
            "TRITONSERVER_MEMORY_CPU": MemoryType.TRITONSERVER_MEMORY_CPU,
            "MetricFamily": MetricFamily._for_host(host),
            **model_control(host),
        }
        self.pb_utils = ModuleType(PB_UTILS)
        self.c_pb_utils = ModuleType(C_PB_UTILS)
        vars(self.pb_utils).update(
            _HELPERS,
            ModelConfig=ModelConfig,
            json=json,
            np=np,
            struct=struct,
            __file__=PB_UTILS_FILE,
        )
        vars(self.c_pb_utils).update(
            self._classes,
            InferenceResponseSender=InferenceResponseSender,
            InferenceTrace=InferenceTrace,
            MemoryType=MemoryType,
            Metric=Metric,
            MetricKind=MetricKind,
            **MetricKind.__members__,
            ResponseIterator=ResponseIterator,
            SharedMemory=SharedMemory,
            async_event_future_done_callback=future_callback(host),
        )

    def reveal_classes(self) -> None:
        """Add the names that exist only once ``model.py`` has been imported."""
        vars(self.pb_utils).update(self._classes, get_model_dir=self._get_model_dir)
        vars(self.c_pb_utils).update(shared_memory=SharedMemory.__new__(SharedMemory))
