"""``PreferredMemory``: where a model wants the outputs of a request of its own."""

from __future__ import annotations

from typing import Any, ClassVar

from triton_stub.pb_utils import pybind


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

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        bound = pybind.bind(
            ("preferred_memory_type", "preferred_device_id"),
            {"preferred_device_id": 0},
            args,
            kwargs,
        )
        device_id = (
            None
            if bound is None
            else pybind.to_int(bound["preferred_device_id"], -(2**63), 2**63 - 1)
        )
        if (
            bound is None
            or device_id is None
            or not isinstance(bound["preferred_memory_type"], MemoryType)
        ):
            raise pybind.signature_error(
                "__init__",
                "c_python_backend_utils.PreferredMemory(preferred_memory_type: "
                "triton::backend::python::PreferredMemory::MemoryType, "
                "preferred_device_id: int = 0)",
                args,
                kwargs,
                kind="constructor",
            )
        self._memory_type: MemoryType = bound["preferred_memory_type"]
        self._device_id = device_id
