"""Whatever a model takes can be written on a command line, and what is drawn fits."""

from __future__ import annotations

import json

import hypothesis.extra.numpy as st_numpy
import hypothesis.strategies as st
import numpy as np
from hypothesis import given

from triton_stub import config as model_config
from triton_stub.cli import tensors
from triton_stub.datatypes import BF16, BYTES, DATATYPES

ROWS = [row for row in DATATYPES if row not in (BF16, BYTES)]
SHAPES = st_numpy.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=3)


@st.composite
def configs(draw):
    """An input's datatype, a shape, and a configuration that the shape fits."""
    row, shape = draw(st.sampled_from(DATATYPES)), draw(SHAPES)
    dims = [draw(st.sampled_from([side, -1])) if side else -1 for side in shape]
    message = model_config.schema().ModelConfig(
        name="m", max_batch_size=draw(st.sampled_from([0, 4]))
    )
    message.input.add(name="IN", data_type=row.number, dims=dims)
    return row, shape, message


def request(config, text, batch_size=None):
    rng = np.random.default_rng(0)
    return tensors.request(config, {"IN": text}, batch_size=batch_size, rng=rng)["IN"]


@given(configs(), st.integers(1, 4))
def test_what_is_drawn_has_the_shape_that_is_asked_for(drawn, rows):
    row, shape, config = drawn
    text = "random:" + "x".join(map(str, shape))
    array = request(config, text, rows if config.max_batch_size else None)
    assert array.shape == ((rows, *shape) if config.max_batch_size else shape)
    assert array.dtype == row.numpy


@given(st.data(), st.sampled_from(ROWS), st_numpy.array_shapes(max_dims=3, max_side=3))
def test_arrays_as_json(data, row, shape):
    elements = {"allow_nan": True} if row.numpy.kind == "f" else {}
    array = data.draw(st_numpy.arrays(row.numpy, shape, elements=elements))
    config = model_config.schema().ModelConfig(name="m")
    config.input.add(name="IN", data_type=row.number, dims=[-1] * len(shape))
    made = request(config, json.dumps(array.tolist()))
    assert made.dtype == array.dtype
    np.testing.assert_array_equal(made, array)


@given(st.lists(st.text(), min_size=1))
def test_texts_as_json(texts):
    config = model_config.schema().ModelConfig(name="m")
    config.input.add(name="IN", data_type=BYTES.number, dims=[-1])
    assert request(config, json.dumps(texts)).tolist() == [text.encode() for text in texts]


@given(st.text())
def test_any_text_is_a_tensor_or_a_sentence(text):
    """Nothing but ValueError, whatever somebody types."""
    for row in (DATATYPES[10], BYTES):
        config = model_config.schema().ModelConfig(name="m")
        config.input.add(name="IN", data_type=row.number, dims=[-1])
        assert outcome(config, text).startswith(("one dimension", "input 'IN': "))


def outcome(config, text):
    try:
        return "one dimension" if request(config, text).ndim == 1 else "others"
    except ValueError as error:
        return str(error)
