"""A strategy for model configurations: what a server loads, and the smallest of it that matters."""

from __future__ import annotations

from math import prod

import hypothesis.strategies as st

from triton_stub.datatypes import DATATYPES

DATATYPE_NAMES = [row.config_name for row in DATATYPES]


@st.composite
def model_configs(draw):
    """A configuration as a dict: any number of inputs of any datatype, with and without batching.

    Sizes are small or left open; some inputs are optional, some are reshaped.
    """
    max_batch_size = draw(st.integers(0, 5))
    names = draw(
        st.lists(st.sampled_from("abcdef"), min_size=bool(max_batch_size), max_size=4, unique=True)
    )
    return {
        "name": "drawn",
        "max_batch_size": max_batch_size,
        "input": [draw(_inputs(name, max_batch_size > 0)) for name in names],
        "output": [{"name": "seen", "data_type": "TYPE_STRING", "dims": [1]}],
    }


@st.composite
def _inputs(draw, name, batching):
    dims = draw(st.lists(st.sampled_from([-1, 1, 2, 3, 4]), min_size=1, max_size=3))
    given = {
        "name": name,
        "data_type": draw(st.sampled_from(DATATYPE_NAMES)),
        "dims": dims,
        "optional": draw(st.booleans()),
    }
    if draw(st.booleans()):
        given["reshape"] = {"shape": draw(_reshapes(dims, batching))}
    return given


@st.composite
def _reshapes(draw, dims, batching):
    """Another shape of the same size: ones come and go, and a shape that is fixed may be flat."""
    choices = [[size for size in dims if size != 1]]
    if -1 not in dims:
        choices.append([prod(dims)])
    shape = draw(st.sampled_from(choices))
    shape = [*([1] * draw(st.integers(0, 2))), *shape]
    return shape if shape or batching else [1]
