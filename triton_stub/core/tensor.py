"""A tensor on its way between a client and a model."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from triton_stub import datatypes
from triton_stub.datatypes import BYTES, Datatype

if TYPE_CHECKING:
    from collections.abc import Sequence

    from triton_stub.datatypes import Array


@dataclass(frozen=True, slots=True, eq=False)
class OnGpu:
    """An array that a model is to get as if it were in the memory of a GPU."""

    array: Any

    def __array__(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        raise TypeError(
            "on_gpu(...) pretends that an array is on a GPU, and only a model of the stub that is "
            "asked in this process takes it: give the array itself to any other engine or client"
        )


# Never changed once made; to say so (frozen) would double the time to make one.
@dataclass(slots=True)
class Tensor:
    """Name, datatype, shape, and the values either as an array or as the wire's raw bytes.

    Raw bytes are kept as they came, so that their size can be checked against the shape before
    anything is made of them. ``on_gpu`` is a pretence: the values are in CPU memory.
    """

    name: str
    datatype: Datatype
    shape: tuple[int, ...]
    data: Array | bytes | memoryview
    on_gpu: bool = False

    @classmethod
    def from_numpy(cls, name: str, array: Any) -> Tensor:
        """A tensor of an array, or of what numpy makes an array of, in C order.

        TypeError if Triton has no such datatype, or if elements are masked. The values are
        shared with ``array`` where they need not be converted.
        """
        if type(array) is not np.ndarray:
            if isinstance(array, OnGpu):
                return replace(cls.from_numpy(name, array.array), on_gpu=True)
            if isinstance(array, np.ma.MaskedArray) and np.ma.is_masked(array):
                raise TypeError(
                    f"input {name!r} is an array with masked elements, and a tensor has no mask; "
                    "fill them first, for example with .filled(0)"
                )
        array = np.asarray(array, order="C")
        if not array.dtype.isnative:
            array = array.astype(array.dtype.newbyteorder("="))
        datatype = datatypes.from_dtype(array.dtype)
        if datatype is None:
            raise TypeError(
                f"input {name!r} is an array of dtype {array.dtype}, which no Triton datatype "
                "stands for; convert it first, for example with .astype(numpy.float32)"
            )
        # Whatever str() of an element raises, it raises here, to whom it belongs.
        return cls(
            name, datatype, array.shape, _as_byte_objects(array) if datatype is BYTES else array
        )

    @property
    def byte_size(self) -> int:
        """Size on the wire in bytes."""
        if not isinstance(self.data, np.ndarray):
            return len(self.data)
        return len(self.to_bytes()) if self.datatype is BYTES else self.data.nbytes

    def to_numpy(self) -> Array:
        """The values in ``shape``, without a copy where there need be none; do not write to it."""
        if not isinstance(self.data, np.ndarray):
            if self.datatype is BYTES:
                return datatypes.decode_bytes(self.data).reshape(self.shape)
            return np.frombuffer(self.data, self.datatype.numpy).reshape(self.shape)
        data = _as_byte_objects(self.data) if self.datatype is BYTES else self.data
        return data if data.shape == self.shape else data.reshape(self.shape)

    def to_own_numpy(self) -> Array:
        """The same for somebody who may write to it: a copy if anybody else has the values.

        That is so if the model keeps the tensor that it has sent, and may send it once more.
        """
        # One reference is this tensor's, one is that of the call, as CPython counts them; one that
        # counts otherwise fails test_copies_in_process.py.
        is_shared = sys.getrefcount(self.data) > 2
        array = self.to_numpy()
        return array.copy() if is_shared else array

    def to_bytes(self) -> bytes | memoryview:
        """The values as the binary tensor extension sends them: little endian, C order."""
        if not isinstance(self.data, np.ndarray):
            return self.data
        if self.datatype is BYTES:
            return datatypes.encode_bytes(self.data)
        # A view through uint8: a memoryview cannot cast bfloat16.
        return np.ascontiguousarray(self.data).reshape(-1).view(np.uint8).data

    def copy(self) -> Tensor:
        """The same values in memory of their own."""
        data = self.data.copy() if isinstance(self.data, np.ndarray) else bytes(self.data)
        return Tensor(self.name, self.datatype, self.shape, data, self.on_gpu)

    def with_shape(self, shape: tuple[int, ...]) -> Tensor:
        """The same values under another shape (``reshape`` of the configuration)."""
        return Tensor(self.name, self.datatype, shape, self.data, self.on_gpu)

    def __dlpack__(self, **kwargs: Any) -> Any:
        """``numpy.from_dlpack(tensor)``; BYTES and BF16 have no DLPack form in numpy."""
        return self.to_own_numpy().__dlpack__(**kwargs)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.to_numpy().__dlpack_device__()


def unreshaped(
    shape: tuple[int, ...], reshape: Sequence[int], dims: Sequence[int], *, batching: bool
) -> tuple[int, ...]:
    """An output's shape turned from ``reshape`` back to ``dims``, as blindly as the core."""
    batch, own = shape[:batching], shape[batching:]
    wild = iter(size for size, dim in zip(own, reshape, strict=False) if dim == -1)
    return (*batch, *(next(wild, 1) if dim == -1 else dim for dim in dims))


def _as_byte_objects(array: Array) -> Array:
    """Elements of a BYTES array as the model and the client see them: ``bytes``."""
    if array.dtype.kind == "O" and all(type(item) is bytes for item in array.ravel().tolist()):
        return array
    return datatypes.decode_bytes(datatypes.encode_bytes(array)).reshape(array.shape)
