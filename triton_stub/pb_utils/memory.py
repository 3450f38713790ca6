"""``PreferredMemory``: where a model wants the outputs of a request of its own."""

from __future__ import annotations

from typing import ClassVar, Final

from triton_stub.pb_utils import pybind
from triton_stub.pb_utils.casters import INT64, instance_of
from triton_stub.pb_utils.enums import PybindEnum, member


class MemoryType(PybindEnum):
    """``TRITONSERVER_MEMORY_GPU`` and ``TRITONSERVER_MEMORY_CPU``."""

    __slots__ = ()
    __module__ = "c_python_backend_utils"

    TRITONSERVER_MEMORY_GPU: ClassVar[MemoryType] = member(0)
    TRITONSERVER_MEMORY_CPU: ClassVar[MemoryType] = member(1)


class PreferredMemory(pybind.PybindObject):
    """``PreferredMemory(preferred_memory_type, preferred_device_id=0)``: a wish, without accessors.

    What comes of it is in ``core/bls.py``; the device is never looked at.
    """

    __slots__ = ("_memory_type",)
    __module__ = "c_python_backend_utils"

    @pybind.constructor(
        preferred_memory_type=instance_of(
            MemoryType, none=False, text="triton::backend::python::PreferredMemory::MemoryType"
        ),
        preferred_device_id=(INT64, 0),
    )
    def __init__(
        self,
        preferred_memory_type: MemoryType,
        preferred_device_id: int = 0,  # noqa: ARG002 - it is NVIDIA's
    ) -> None:
        self._memory_type = preferred_memory_type.value


# C++ has a third type, which has no name in Python.
NO_PREFERENCE: Final = PreferredMemory(MemoryType(2))
