"""``MemoryBuffer``: where the values of a tensor are; and the ways to say so.

Source of rules and texts: core, ``python/tritonserver/_api/_memorybuffer.py`` and
``_datautils.py``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from triton_stub import datatypes
from triton_stub.errors import InvalidArgumentError
from triton_stub.pb_utils import dlpack
from triton_stub.server.enums import DataType, DLDeviceType, MemoryType

DeviceOrMemoryType = tuple[MemoryType, int] | MemoryType | tuple[DLDeviceType, int] | str

_MEMORY_OF = {DLDeviceType.kDLCPU: MemoryType.CPU, DLDeviceType.kDLCUDA: MemoryType.GPU}
_DEVICE_OF = {
    MemoryType.CPU: DLDeviceType.kDLCPU,
    MemoryType.CPU_PINNED: DLDeviceType.kDLCPU,
    MemoryType.GPU: DLDeviceType.kDLCUDA,
}


@dataclass
class MemoryBuffer:
    """``size`` bytes at ``data_ptr``, which stay there as long as ``owner`` lives."""

    data_ptr: int
    memory_type: MemoryType
    memory_type_id: int
    size: int
    owner: Any

    @staticmethod
    def from_dlpack(owner: Any) -> MemoryBuffer:
        """The memory of an object that has ``__dlpack__``; it is shared, not copied."""
        if not hasattr(owner, "__dlpack__"):
            raise InvalidArgumentError("Object does not support DLpack protocol")
        return shared(owner)[2]


def shared(owner: Any) -> tuple[DataType, list[int], MemoryBuffer]:
    """Datatype, shape and memory of an object that has ``__dlpack__``."""
    try:
        device, _ = owner.__dlpack_device__()
        if device == DLDeviceType.kDLCUDA:
            raise TypeError(
                "this is memory of a GPU, and triton_stub has no GPU: give it an array in CPU "
                "memory"
            )
        told = dlpack.describe(owner.__dlpack__())
    except Exception as error:  # noqa: BLE001 - one text for all that may go wrong
        raise InvalidArgumentError(f"Object does not support DLPack protocol: {error}") from None
    if not _contiguous(told):
        raise InvalidArgumentError("Only contiguous memory is supported")
    row = datatypes.from_dlpack(told.code, told.bits)
    if row is None:
        raise InvalidArgumentError(
            f"Unsupported DLPack data type. Can't convert {(told.code, told.bits)} to "
            "Triton server data type"
        )
    size = math.prod(told.shape) * row.itemsize
    memory = memory_of(told.device)
    buffer = MemoryBuffer(told.address, memory, told.device_id, size, owner)
    return DataType(row.number), list(told.shape), buffer


def _contiguous(told: dlpack.Described) -> bool:
    """As that API judges: dimensions of size 1 and tensors without elements are no exception."""
    expected = 1
    for size, stride in zip(told.shape[::-1], (told.strides or ())[::-1], strict=False):
        if stride != expected:
            return False
        expected *= size
    return True


def memory_of(device: int) -> MemoryType:
    """The memory of a DLPack device."""
    memory = _MEMORY_OF.get(device)  # type: ignore[call-overload]
    if memory is None:
        raise InvalidArgumentError(
            f"Unsupported DLPack device type. Can't convert {device} to Triton server memory type"
        )
    return MemoryType(memory)


def device_of(memory_type: MemoryType) -> DLDeviceType:
    """The DLPack device of a memory."""
    return _DEVICE_OF[memory_type]


def parse(asked: DeviceOrMemoryType) -> tuple[MemoryType, int]:
    """Memory and its number, from any of the ways to write them, such as ``"cpu"``."""
    if isinstance(asked, MemoryType):
        return asked, 0
    if isinstance(asked, tuple):
        if isinstance(asked[0], MemoryType):
            return asked[0], asked[1]
        if isinstance(asked[0], DLDeviceType):
            return memory_of(asked[0]), asked[1]
    elif isinstance(asked, str):
        return _named(asked)
    raise InvalidArgumentError(f"Invalid memory type {asked}")


def _named(text: str) -> tuple[MemoryType, int]:
    name, *numbers = text.split(":")
    if name.upper() not in MemoryType.__members__:
        raise InvalidArgumentError(
            f"Unsupported Memory Type String. Can't convert {name.upper()} to Triton server "
            "memory type"
        )
    try:
        (number,) = map(int, numbers or ["0"])
    except ValueError:
        raise InvalidArgumentError(f"Invalid memory type string {text}") from None
    return MemoryType[name.upper()], number
