"""``Tensor``: what a model reads from a request and puts into a response.

Source of every rule: python_backend ``src/pb_tensor.cc`` and ``src/pb_stub.cc``.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from triton_stub import datatypes
from triton_stub.datatypes import BF16, BYTES, Datatype
from triton_stub.pb_utils import pybind
from triton_stub.pb_utils.casters import NDARRAY, STR, returned
from triton_stub.pb_utils.errors import TritonModelException

Array = np.ndarray[Any, Any]


class Tensor(pybind.PybindObject):
    """``Tensor(name, array)``, both positional.

    Keeps a reference to a C-contiguous ``array``: the values are read when the response leaves
    the model, not now. BYTES arrays (object or ``S<n>``) are framed here and now.
    """

    __slots__ = ("_array", "_datatype", "_framed", "_name", "_shape", "_source")
    __module__ = "c_python_backend_utils"

    _array: Array | None
    _datatype: Datatype
    _framed: bytes | None
    _name: str
    _shape: tuple[int, ...]
    _source: Array | None

    @pybind.constructor(STR, NDARRAY)
    def __init__(self, name: str, array: Array, /) -> None:
        if not name:
            raise TritonModelException("Tensor name cannot be an empty string.")
        datatype = _accepted(array.dtype)
        # Asked of the array's memory, as the backend does, which is how a masked array fails there.
        if not array.data.c_contiguous:
            # Of a 0-d array ascontiguousarray would make a 1-d one, but 0-d is always contiguous.
            array = np.ascontiguousarray(array)
        self._name = name
        self._datatype = datatype
        self._shape = array.shape
        self._array = array
        self._source = None
        self._framed = datatypes.encode_bytes(array) if datatype is BYTES else None

    @classmethod
    def _received(
        cls, name: str, datatype: Datatype, shape: tuple[int, ...], source: Array
    ) -> Self:
        """A tensor that arrives from the server; ``source`` is never written to."""
        tensor = cls.__new__(cls)
        tensor._name = name
        tensor._datatype = datatype
        tensor._shape = shape
        tensor._array = None
        tensor._source = source
        tensor._framed = None
        return tensor

    @pybind.method("str")
    def name(self) -> str:
        """The tensor's name."""
        return returned(self._name)

    @pybind.method("list[int]")
    def shape(self) -> list[int]:
        """A new list; the batch dimension comes first on batching models."""
        return list(self._shape)

    @pybind.method("bool")
    def is_cpu(self) -> bool:
        """True: this tensor's memory can be read by the CPU."""
        return True

    @pybind.method("numpy.ndarray")
    def as_numpy(self) -> Array:
        """The same array at every call.

        For a received tensor it is a writable private copy: changes do not reach anybody else.
        BYTES are object arrays of ``bytes``. Raises TritonModelException for BF16.
        """
        if self._datatype is BF16:
            raise TritonModelException(
                "Tensor dtype is BF16 and cannot be converted to NumPy. "
                "Use to_dlpack() and from_dlpack() instead."
            )
        if self._array is None:
            assert self._source is not None
            self._array = np.array(self._source).reshape(self._shape)
        return self._array

    @pybind.method("TRITONSERVER_datatype_enum")
    def triton_dtype(self) -> object:
        """Always a TypeError: the server never registers the enum that this should return."""
        raise TypeError(
            "Unable to convert function return value to a Python type! The signature was\n"
            "\t(self: c_python_backend_utils.Tensor) -> TRITONSERVER_datatype_enum"
        )

    def _snapshot(self) -> tuple[Datatype, tuple[int, ...], Array | bytes]:
        """Datatype, shape and a copy of the values, taken when a response leaves the model."""
        if self._framed is not None:
            return self._datatype, self._shape, self._framed
        # Of a received tensor what was received, whatever the model wrote into its private copy.
        array = self._array if self._source is None else self._source
        assert array is not None
        return self._datatype, self._shape, np.array(array, order="C").reshape(self._shape)


def _accepted(dtype: np.dtype[Any]) -> Datatype:
    # Not from_dtype(): the backend refuses text (<U) and has no numpy form of BF16.
    if dtype.type is np.bytes_:
        return BYTES
    datatype = datatypes.from_dtype(dtype) if dtype.kind != "U" and dtype.isnative else None
    if datatype is None or datatype is BF16:
        raise TritonModelException("NumPy dtype is not supported.")
    return datatype
