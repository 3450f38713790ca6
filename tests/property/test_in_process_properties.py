"""Any array goes through a tensor of the in-process API, in and out, as it is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import triton_stub as tritonserver
from triton_stub import datatypes
from triton_stub.server.tensor import from_core, from_object, to_core

SHAPES = arrays.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=4)
NUMBERS = [row.numpy for row in datatypes.DATATYPES if row.name not in ("BYTES", "BF16")]
ARRAYS = st.sampled_from(NUMBERS).flatmap(lambda dtype: arrays.arrays(dtype, SHAPES))
WORDS = arrays.arrays(np.object_, SHAPES, elements=st.binary(max_size=5))


@given(ARRAYS)
def test_numbers(array: np.ndarray) -> None:
    tensor = from_object(array)
    core = to_core("x", tensor)
    back = from_core(core)
    assert core.datatype.name == tensor.data_type.name
    assert tensor.size == array.nbytes
    for again in (np.from_dlpack(tensor), core.to_numpy(), np.from_dlpack(back)):
        assert again.dtype == array.dtype
        np.testing.assert_array_equal(again, array)


@given(ARRAYS)
def test_the_core_has_memory_of_its_own(array: np.ndarray) -> None:
    core = to_core("x", array)
    before = array.copy()
    array[...] = 1
    np.testing.assert_array_equal(core.to_numpy(), before)


@given(WORDS)
def test_bytes(array: np.ndarray) -> None:
    tensor = tritonserver.Tensor.from_bytes_array(array)
    core = to_core("x", tensor)
    for again in (tensor.to_bytes_array(), core.to_numpy(), from_core(core).to_bytes_array()):
        assert again.shape == array.shape
        assert again.tolist() == array.tolist()


@given(ARRAYS, st.data())
def test_only_what_is_contiguous(array: np.ndarray, data: st.DataObject) -> None:
    axes = data.draw(st.permutations(range(array.ndim)))
    turned = array.transpose(axes)
    if turned.flags.c_contiguous:
        np.testing.assert_array_equal(np.from_dlpack(from_object(turned)), turned)
    else:
        with pytest.raises(tritonserver.InvalidArgumentError, match="not C-contiguous"):
            from_object(turned)
