"""``Tensor``: what a model reads from a request and puts into a response.

Source of every rule: python_backend ``src/pb_tensor.cc`` and ``src/pb_stub.cc``.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from triton_stub import datatypes
from triton_stub.datatypes import BF16, BYTES, Datatype
from triton_stub.pb_utils import dlpack, pybind
from triton_stub.pb_utils.casters import NDARRAY, OBJECT, STR, returned
from triton_stub.pb_utils.errors import TritonModelException

Array = np.ndarray[Any, Any]
_NO_NAME = "Tensor name cannot be an empty string."


class Tensor(pybind.PybindObject):
    """``Tensor(name, array)``, both positional.

    Keeps a reference to a C-contiguous ``array``: the values are read when the tensor is first
    sent, in a response or in a request of the model's own, and never again. BYTES arrays (object
    or ``S<n>``) are framed here and now.
    """

    # There is the memory that is sent and that DLPack shows, and the array that NumPy shows: one
    # thing in a tensor that the model has made, until it is sent, and two in every other.
    __slots__ = (
        "_array",
        "_datatype",
        "_memory",
        "_name",
        "_on_gpu",
        "_saved",
        "_shape",
        "_shared",
        "_source",
    )
    __module__ = "c_python_backend_utils"

    _array: Array | None  # what as_numpy returns; None: not asked for yet, or impossible
    _datatype: Datatype
    _memory: Array | bytes  # of BYTES that the model has made, the framed text
    _name: str
    _on_gpu: bool
    _saved: bool  # no more reference to the model's array, but a copy
    _shape: tuple[int, ...]
    _shared: bool  # somebody else reads the memory: nobody writes to it
    _source: Array  # of a received tensor: the memory as it arrived, for as_numpy

    @pybind.constructor(STR, NDARRAY)
    def __init__(self, name: str, array: Array, /) -> None:
        if not name:
            raise TritonModelException(_NO_NAME)
        datatype = _accepted(array.dtype)
        # Asked of the array's memory, as the backend does, which is how a masked array fails there.
        if not array.data.c_contiguous:
            # Of a 0-d array ascontiguousarray would make a 1-d one, but 0-d is always contiguous.
            array = np.ascontiguousarray(array)
        self._set(name, datatype, array.shape, array, array)
        if datatype is BYTES:
            self._memory = datatypes.encode_bytes(array)

    def _set(
        self,
        name: str,
        datatype: Datatype,
        shape: tuple[int, ...],
        memory: Array,
        array: Array | None,
    ) -> None:
        self._name = name
        self._datatype = datatype
        self._shape = shape
        self._memory = memory
        self._array = array
        self._on_gpu = self._saved = self._shared = False

    @classmethod
    def _received(
        cls,
        name: str,
        datatype: Datatype,
        shape: tuple[int, ...],
        memory: Array,
        *,
        on_gpu: bool = False,
    ) -> Self:
        """A tensor that arrives from the server; ``memory`` is never written to.

        ``on_gpu`` pretends that the memory is a GPU's; it is read as DLPack memory of the CPU.
        """
        tensor = cls.__new__(cls)
        tensor._set(name, datatype, shape, memory, None)
        tensor._source = memory
        tensor._saved = tensor._shared = True
        tensor._on_gpu = on_gpu
        return tensor

    @pybind.misbound("c_python_backend_utils.Tensor", STR, OBJECT)
    def from_dlpack(name: str, source: Any, /) -> Tensor:  # noqa: N805
        """``Tensor.from_dlpack(name, source)``: a tensor of another framework's memory.

        ``source`` is a DLPack capsule or has ``__dlpack__`` and ``__dlpack_device__``. The memory
        is read when the tensor is sent, but ``as_numpy`` shows it as it is now.
        """
        if not name:
            raise TritonModelException(_NO_NAME)
        datatype, memory, on_gpu = dlpack.receive(source)
        tensor = Tensor.__new__(Tensor)
        tensor._set(name, datatype, memory.shape, memory, None)
        tensor._on_gpu = on_gpu or (isinstance(source, Tensor) and source._on_gpu)
        if not tensor._on_gpu and datatype is not BF16:
            tensor._array = memory.copy()
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
        """True if this tensor's memory can be read by the CPU."""
        return not self._on_gpu

    @pybind.method("numpy.ndarray")
    def as_numpy(self) -> Array:
        """The same array at every call.

        For a received tensor it is a writable private copy: changes do not reach anybody else.
        BYTES are object arrays of ``bytes``. Raises TritonModelException for memory on a GPU and
        for BF16.
        """
        if self._array is None:
            if self._on_gpu:
                raise TritonModelException(
                    "Tensor is stored in GPU and cannot be converted to NumPy."
                )
            if self._datatype is BF16:
                raise TritonModelException(
                    "Tensor dtype is BF16 and cannot be converted to NumPy. "
                    "Use to_dlpack() and from_dlpack() instead."
                )
            self._array = np.array(self._source).reshape(self._shape)
        return self._array

    @pybind.method("TRITONSERVER_datatype_enum")
    def triton_dtype(self) -> object:
        """Always a TypeError: the server never registers the enum that this should return."""
        raise TypeError(
            "Unable to convert function return value to a Python type! The signature was\n"
            "\t(self: c_python_backend_utils.Tensor) -> TRITONSERVER_datatype_enum"
        )

    @pybind.method("capsule")
    def to_dlpack(self) -> Any:
        """A DLPack capsule of the tensor's memory; TritonModelException for BYTES."""
        return self._capsule()

    @pybind.method("capsule", stream=(OBJECT, None))
    def __dlpack__(self, stream: Any = None) -> Any:
        """The same, whatever the stream."""
        return self._capsule()

    @pybind.method("tuple[int, int]")
    def __dlpack_device__(self) -> tuple[int, int]:
        """``(1, 0)``, the CPU, which memory on a GPU is read by here, too."""
        return dlpack.CPU, 0

    def _capsule(self) -> Any:
        if self._datatype is BYTES:
            raise TritonModelException("DLPack does not have support for string tensors.")
        assert isinstance(self._memory, np.ndarray)
        if self._shared:  # DLPack lets the model write
            self._memory = self._memory.copy()
            self._shared = False
        return dlpack.capsule_of(self._memory.reshape(self._shape), self._datatype, self)

    def _snapshot(self) -> tuple[Datatype, tuple[int, ...], Array | bytes]:
        """Datatype, shape and the values as they are sent; taken whenever the tensor is sent.

        Whoever gets them must not write to them: at the first time the tensor has them, too.
        """
        if self._saved:
            return self._datatype, self._shape, self._copy()
        self._memory = self._copy()
        self._saved = self._shared = True
        return self._datatype, self._shape, self._memory

    def _copy(self) -> Array | bytes:
        memory = self._memory
        if isinstance(memory, np.ndarray):
            memory = np.array(memory, order="C")
            if memory.shape != self._shape:
                memory = memory.reshape(self._shape)
            if memory.dtype is not self._datatype.numpy:  # equal to it, but with fields or notes
                memory = memory.view(self._datatype.numpy)
        return memory


def _accepted(dtype: np.dtype[Any]) -> Datatype:
    # Not from_dtype(): the backend refuses text (<U) and has no numpy form of BF16.
    if dtype.type is np.bytes_:
        return BYTES
    datatype = datatypes.from_dtype(dtype) if dtype.kind != "U" and dtype.isnative else None
    if datatype is None:  # an integer that is a structure as well is equal to a plain one
        datatype = next((row for row in datatypes.DATATYPES if row.numpy == dtype), None)
    if datatype is None or datatype is BF16:
        raise TritonModelException("NumPy dtype is not supported.")
    return datatype
