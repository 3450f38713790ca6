"""``PreferredMemory``: where a model wants the outputs of a request of its own."""

from __future__ import annotations

from typing import ClassVar

from triton_stub.pb_utils import pybind
from triton_stub.pb_utils.casters import INT64, instance_of


class MemoryType(pybind.PybindEnum):
    """``TRITONSERVER_MEMORY_GPU`` and ``TRITONSERVER_MEMORY_CPU``."""

    __slots__ = ()
    __module__ = "c_python_backend_utils"

    TRITONSERVER_MEMORY_GPU: ClassVar[MemoryType] = pybind.member(0)
    TRITONSERVER_MEMORY_CPU: ClassVar[MemoryType] = pybind.member(1)


class PreferredMemory(pybind.PybindObject):
    """``PreferredMemory(preferred_memory_type, preferred_device_id=0)``: a wish, without accessors.

    Taken and without effect: outputs are always in CPU memory.
    """

    __slots__ = ("_device_id", "_memory_type")
    __module__ = "c_python_backend_utils"

    _device_id: int
    _memory_type: MemoryType

    @pybind.constructor(
        preferred_memory_type=instance_of(
            MemoryType, none=False, text="triton::backend::python::PreferredMemory::MemoryType"
        ),
        preferred_device_id=(INT64, 0),
    )
    def __init__(self, preferred_memory_type: MemoryType, preferred_device_id: int = 0) -> None:
        self._memory_type = preferred_memory_type
        self._device_id = preferred_device_id
