"""DLPack: a tensor's memory for other frameworks, and theirs for a tensor.

Source of every rule: python_backend ``src/pb_tensor.cc`` and ``src/pb_stub_utils.cc``.
"""

from __future__ import annotations

import ctypes
import math
from typing import Any, Final, NamedTuple

import numpy as np

from triton_stub import datatypes, deviations
from triton_stub.pb_utils import pybind
from triton_stub.pb_utils.casters import INT32, INT64, REFUSED, pair_of
from triton_stub.pb_utils.errors import TritonModelException

Array = np.ndarray[Any, Any]
Datatype = datatypes.Datatype

CPU: Final = 1
CUDA: Final = 2
_CUDA_HOST: Final = 3
_UNUSED: Final = b"dltensor"
_USED: Final = b"used_dltensor"
_DEVICE: Final = pair_of(INT32, INT64)


# The structures of dlpack.h, and what of Python's C functions deals with capsules


class _Device(ctypes.Structure):
    _fields_ = (("kind", ctypes.c_int32), ("number", ctypes.c_int32))


class _Datatype(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16))


class _ManagedTensor(ctypes.Structure):
    """``DLManagedTensor``; all but the last two are the ``DLTensor``."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device", _Device),
        ("ndim", ctypes.c_int32),
        ("dtype", _Datatype),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
        ("manager_ctx", ctypes.c_void_p),
        ("deleter", ctypes.CFUNCTYPE(None, ctypes.c_void_p)),
    )


def _python(name: str, result: Any, *arguments: Any) -> Any:
    # A prototype of our own: those of ctypes.pythonapi's attributes are the whole process's.
    return ctypes.PYFUNCTYPE(result, *arguments)((name, ctypes.pythonapi))


_get_name = _python("PyCapsule_GetName", ctypes.c_char_p, ctypes.py_object)
_set_name = _python("PyCapsule_SetName", ctypes.c_int, ctypes.py_object, ctypes.c_char_p)
_get_pointer = _python("PyCapsule_GetPointer", ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)
_get_destructor = _python("PyCapsule_GetDestructor", ctypes.c_void_p, ctypes.py_object)
_get_context = _python("PyCapsule_GetContext", ctypes.c_void_p, ctypes.py_object)
_set_context = _python("PyCapsule_SetContext", ctypes.c_int, ctypes.py_object, ctypes.c_void_p)
_CAPSULE: Final = type(np.empty(0).__dlpack__())
_NUMPYS_DESTRUCTOR: Final = _get_destructor(np.empty(0).__dlpack__())
# The context of our own capsules, which NumPy makes, too.
_OURS: Final = ctypes.create_string_buffer(b"triton_stub")


# Out


def capsule_of(memory: Array, datatype: Datatype, owner: object) -> Any:
    """A capsule of C-contiguous ``memory``; it refers to ``owner`` until it is given back."""
    # NumPy makes the capsule: its deleter may be called even after the end of the interpreter. It
    # exports neither BF16 nor what is read-only, so it gets neither to see.
    plain = np.dtype(f"u{datatype.itemsize}")
    values: Array = np.ndarray(
        memory.shape, plain, memory_at(memory.ctypes.data, memory.nbytes, owner)
    )
    capsule = values.__dlpack__()
    managed = _ManagedTensor.from_address(_get_pointer(capsule, _UNUSED))
    managed.dtype = _Datatype(*datatype.dlpack, 1)
    managed.strides = None
    _set_context(capsule, _OURS)
    return capsule


# In


class Described(NamedTuple):
    """What a capsule says of its memory; the strides are None if it is C-contiguous."""

    address: int
    device: int
    device_id: int
    code: int
    bits: int
    shape: tuple[int, ...]
    strides: tuple[int, ...] | None


def describe(capsule: Any) -> Described:
    """Read a capsule, and leave it to its owner."""
    managed = _ManagedTensor.from_address(_get_pointer(capsule, _UNUSED))
    return Described(
        (managed.data or 0) + managed.byte_offset,
        managed.device.kind,
        managed.device.number,
        managed.dtype.code,
        managed.dtype.bits,
        tuple(managed.shape[: managed.ndim]),
        tuple(managed.strides[: managed.ndim]) if managed.strides else None,
    )


class Received(NamedTuple):
    """What a capsule holds. ``memory`` gives it back when nothing refers to it any more."""

    datatype: Datatype
    memory: Array
    on_gpu: bool


def receive(source: Any) -> Received:
    """Memory of a capsule, or of an object of another framework; the server's checks and texts."""
    if isinstance(source, _CAPSULE):
        return _of_capsule(source)
    if not hasattr(source, "__dlpack__") or not hasattr(source, "__dlpack_device__"):
        # The gap is the server's own: a line that goes on in its source.
        raise TritonModelException(
            "Provided tensor is not supported. Tensor must be a DLPack capsule         or have "
            "`__dlpack__` and `__dlpack_device__` attributes"
        )
    told = source.__dlpack_device__()
    device = _DEVICE.load(told)
    if device is REFUSED:
        raise pybind.cast_error(told)
    if device[0] == CUDA:
        return _of_gpu(source)
    if device[0] not in (CPU, _CUDA_HOST):
        raise _device_error(device[0])
    capsule = source.__dlpack__(stream=None)
    if not isinstance(capsule, _CAPSULE):
        raise TypeError(
            f"Object of type '{type(capsule).__name__}' is not an instance of 'capsule'"
        )
    return _of_capsule(capsule)


def _of_capsule(capsule: Any) -> Received:
    name = _get_name(capsule)
    managed = _ManagedTensor.from_address(_get_pointer(capsule, name))
    if name != _UNUSED or not managed.deleter:
        raise TritonModelException(
            deviations.DLPACK_CAPSULE.text(
                f"Tensor.from_dlpack got {capsule!r}, which is no DLPack capsule, has been used, "
                "or cannot be given back",
                "Give it the array itself, or a new capsule each time.",
            )
        )
    shape = tuple(managed.shape[: managed.ndim])
    strides = managed.strides[: managed.ndim] if managed.strides and managed.ndim else None
    _check_inner_strides(shape, strides)
    if managed.device.kind not in (CPU, CUDA, _CUDA_HOST):
        raise _device_error(managed.device.kind)
    datatype = _datatype(managed.dtype)
    _check_deviations(capsule, managed, shape, strides)
    _set_name(capsule, _USED)
    count = math.prod(shape) * datatype.itemsize
    start = (managed.data or 0) + managed.byte_offset
    raw = memory_at(start, count, _Loan(managed))
    return Received(datatype, np.ndarray(shape, datatype.numpy, raw), on_gpu=False)


def _of_gpu(source: Any) -> Received:
    """Values of an array that is, or says that it is, on a GPU."""
    # deviations.GPU_ARRAYS
    if not hasattr(source, "__array__"):
        raise TritonModelException("Failed to get current CUDA device id.")
    values: Array = np.array(source, order="C")
    datatype = datatypes.from_dtype(values.dtype)
    if datatype is None or datatype is datatypes.BYTES:
        raise TritonModelException("Dtype is invalid.")
    return Received(datatype, values, on_gpu=True)


def _check_inner_strides(shape: tuple[int, ...], strides: list[int] | None) -> None:
    # As the server does it: never the first dimension, and empty tensors as well.
    expected = 1
    for size, stride in zip(shape[:0:-1], (strides or [])[:0:-1], strict=False):
        if size != 1:
            if stride != expected:
                raise TritonModelException(
                    "DLPack tensor is not contiguous. Only contiguous DLPack tensors that are "
                    "stored in C-Order are supported."
                )
            expected *= size


def _datatype(dtype: _Datatype) -> Datatype:
    row = datatypes.from_dlpack(dtype.code, dtype.bits) if dtype.lanes == 1 else None
    if row is not None:
        return row
    if dtype.lanes == 1 and dtype.code == datatypes.BF16.dlpack[0]:
        raise TritonModelException(f"Expected BF16 tensor to have 16 bits, but had: {dtype.bits}")
    raise TritonModelException("Dtype is invalid.")


def _check_deviations(
    capsule: Any, managed: _ManagedTensor, shape: tuple[int, ...], strides: list[int] | None
) -> None:
    """What the server takes, and should not."""
    if _get_destructor(capsule) == _NUMPYS_DESTRUCTOR and not _get_context(capsule):
        raise TritonModelException(
            deviations.DLPACK_NUMPY.text(
                "Tensor.from_dlpack got an array of NumPy",
                "Make it with pb_utils.Tensor(name, array).",
            )
        )
    if strides and shape[0] > 1 and 0 not in shape and strides[0] != math.prod(shape[1:]):
        raise TritonModelException(
            deviations.DLPACK_FIRST_STRIDE.text(
                f"Tensor.from_dlpack got a tensor of shape {list(shape)} with a stride of "
                f"{strides[0]} elements in its first dimension",
                "Make it contiguous first.",
            )
        )
    if managed.device.kind == CUDA:
        raise TritonModelException(
            deviations.GPU_ARRAYS.text(
                "Tensor.from_dlpack got a capsule of GPU memory",
                "Give it the array itself, whose values can be asked for.",
            )
        )


def _device_error(kind: int) -> TritonModelException:
    return TritonModelException(f"DLDevice type {kind} is not support by Python backend.")


class _Loan:
    """Memory of another framework's, until nothing refers to this any more."""

    def __init__(self, managed: _ManagedTensor) -> None:
        self._address = ctypes.addressof(managed)
        self._deleter = managed.deleter

    def __del__(self) -> None:
        self._deleter(self._address)


def memory_at(address: int, count: int, owner: object) -> Any:
    """A buffer of ``count`` bytes of memory, which refers to what owns them."""
    raw: Any = (ctypes.c_uint8 * count).from_address(address)
    raw.owner = owner
    return raw
