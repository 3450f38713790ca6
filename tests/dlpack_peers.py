"""The other side of DLPack in plain ctypes: a framework as PyTorch is one, and worse ones.

``Peer`` hands out capsules of any content, as a framework does or should not; ``take`` reads a
capsule as PyTorch does. Runs in tests and inside a model, on either engine, so it imports nothing
of this project.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

CPU, CUDA, CUDA_HOST, VULKAN = 1, 2, 3, 7
CODES = {"i": 0, "u": 1, "f": 2, "c": 5, "b": 6}


class DLDevice(ctypes.Structure):
    _fields_ = (("device_type", ctypes.c_int32), ("device_id", ctypes.c_int32))


class DLDataType(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16))


class DLTensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device", DLDevice),
        ("ndim", ctypes.c_int32),
        ("dtype", DLDataType),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


class DLManagedTensor(ctypes.Structure):
    _fields_ = (
        ("dl_tensor", DLTensor),
        ("manager_ctx", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
    )


def _function(name: str, result: Any, *arguments: Any) -> Any:
    # Not the attributes of ctypes.pythonapi: their prototypes are the whole process's.
    return ctypes.PYFUNCTYPE(result, *arguments)((name, ctypes.pythonapi))


_object = ctypes.py_object
_new = _function("PyCapsule_New", _object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
_name = _function("PyCapsule_GetName", ctypes.c_char_p, _object)
_pointer = _function("PyCapsule_GetPointer", ctypes.c_void_p, _object, ctypes.c_char_p)
_rename = _function("PyCapsule_SetName", ctypes.c_int, _object, ctypes.c_char_p)
# For capsules that are being destroyed, which must not be referred to again.
_dying_is = _function("PyCapsule_IsValid", ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)
_dying_pointer = _function(
    "PyCapsule_GetPointer", ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p
)
_alive: dict[int, tuple[Any, ...]] = {}  # by address of the DLManagedTensor
deleted: list[str] = []  # labels of the peers whose memory was given back


@ctypes.CFUNCTYPE(None, ctypes.c_void_p)
def _delete(address: int) -> None:
    *_, label = _alive.pop(address)
    deleted.append(label)


@ctypes.PYFUNCTYPE(None, ctypes.c_void_p)
def _destroy(capsule: int) -> None:
    if _dying_is(capsule, b"dltensor"):  # nobody took it
        _delete(_dying_pointer(capsule, b"dltensor"))


_DELETE = ctypes.cast(_delete, ctypes.c_void_p).value
_DESTROY = ctypes.cast(_destroy, ctypes.c_void_p).value


class Peer:
    """An array of some framework's, on a device.

    Strides are always told, as PyTorch does, unless ``strides`` is False. The other keywords put
    something else into the capsule than is the array's.
    """

    def __init__(
        self,
        array: Any,
        *,
        device: tuple[int, int] = (CPU, 0),
        told: Any = None,
        dtype: tuple[int, int, int] | None = None,
        strides: Any = True,
        offset: int = 0,
        deleter: bool = True,
        label: str = "peer",
    ) -> None:
        self.array = np.asarray(array)
        self.device = device
        self.told = device if told is None else told
        kind = self.array.dtype
        self.dtype = dtype or (CODES.get(kind.kind, 0), 8 * kind.itemsize, 1)
        self.strides = strides
        self.offset = offset
        self.deleter = deleter
        self.label = label
        self.streams: list[Any] = []  # what __dlpack__ was asked with

    def __dlpack_device__(self) -> Any:
        return self.told

    def __dlpack__(self, *, stream: Any = -1) -> Any:
        self.streams.append(stream)
        return self.capsule()

    def capsule(self, name: bytes = b"dltensor") -> Any:
        """A capsule that gives the memory back when nobody has taken it."""
        array = self.array
        shape = (ctypes.c_int64 * array.ndim)(*array.shape)
        steps = (step // array.itemsize for step in array.strides)
        steps = steps if self.strides in (True, False) else self.strides
        strides = (ctypes.c_int64 * array.ndim)(*steps)
        managed = DLManagedTensor(
            DLTensor(
                array.ctypes.data - self.offset,
                DLDevice(*self.device),
                array.ndim,
                DLDataType(*self.dtype),
                shape,
                None if self.strides is False else strides,
                self.offset,
            ),
            None,
            _DELETE if self.deleter else None,
        )
        address = ctypes.addressof(managed)
        name = ctypes.create_string_buffer(name)
        _alive[address] = (managed, shape, strides, name, array, self.label)
        return _new(address, name, _DESTROY)


class OnGpu(Peer):
    """An array on a GPU whose values can be asked for, as JAX's can."""

    def __init__(self, array: Any) -> None:
        super().__init__(array, device=(CUDA, 0))
        self.shape = self.array.shape

    def __array__(self, *_arguments: Any, **_keywords: Any) -> Any:
        return self.array


def told(capsule: Any) -> dict[str, Any]:
    """What a capsule says, without taking it."""
    tensor = _managed(capsule).dl_tensor
    count = tensor.ndim
    return {
        "name": _name(capsule).decode(),
        "device": (tensor.device.device_type, tensor.device.device_id),
        "dtype": (tensor.dtype.code, tensor.dtype.bits, tensor.dtype.lanes),
        "shape": tensor.shape[:count] if count else [],
        "strides": tensor.strides[:count] if tensor.strides and count else None,
        "byte_offset": tensor.byte_offset,
    }


def address(capsule: Any) -> int:
    """Where a capsule's values are."""
    tensor = _managed(capsule).dl_tensor
    return (tensor.data or 0) + tensor.byte_offset


class Taken:
    """Bytes of a capsule that is used up, until ``give_back`` or the end of this object."""

    def __init__(self, source: Any) -> None:
        capsule = source.__dlpack__(stream=None) if hasattr(source, "__dlpack__") else source
        self._managed = _managed(capsule)
        _rename(capsule, b"used_dltensor")
        tensor = self._managed.dl_tensor
        count = tensor.dtype.bits // 8
        for size in tensor.shape[: tensor.ndim]:
            count *= size
        start = (tensor.data or 0) + tensor.byte_offset
        self.bytes = np.ctypeslib.as_array((ctypes.c_uint8 * count).from_address(start))

    def give_back(self) -> None:
        """Let the producer have its memory again."""
        managed, self._managed = self._managed, None
        if managed is not None and managed.deleter:
            ctypes.CFUNCTYPE(None, ctypes.c_void_p)(managed.deleter)(ctypes.addressof(managed))

    def __del__(self) -> None:
        self.give_back()


def take(source: Any) -> Taken:
    """Use up a capsule, or ask an object for one and use it up, as PyTorch does."""
    return Taken(source)


def _managed(capsule: Any) -> DLManagedTensor:
    return DLManagedTensor.from_address(_pointer(capsule, _name(capsule)))


def error(function: Any, *arguments: Any) -> str:
    """The text of what a call raises."""
    try:
        return repr(function(*arguments))
    except Exception as raised:  # noqa: BLE001 - whatever it is, it is told
        return str(raised)
