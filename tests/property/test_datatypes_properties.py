"""BYTES framing: nothing gets lost, and it is the framing of the real client."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.utils import deserialize_bytes_tensor, serialize_byte_tensor

from triton_stub import datatypes

elements = st.lists(st.binary(max_size=20), min_size=1, max_size=10)


def array_of(items):
    array = np.empty(len(items), object)
    array[:] = items
    return array


@given(elements)
def test_decoding_undoes_encoding(items):
    assert datatypes.decode_bytes(datatypes.encode_bytes(array_of(items))).tolist() == items


@given(elements)
def test_the_framing_is_the_real_clients(items):
    framed = datatypes.encode_bytes(array_of(items))
    assert framed == serialize_byte_tensor(array_of(items)).item()
    assert datatypes.decode_bytes(framed).tolist() == deserialize_bytes_tensor(framed).tolist()


@given(st.lists(st.text(max_size=10), min_size=1, max_size=10))
def test_text_comes_back_as_utf8(texts):
    decoded = datatypes.decode_bytes(datatypes.encode_bytes(np.array(texts, object)))
    assert [item.decode() for item in decoded] == texts


@given(elements, st.data())
def test_a_frame_cut_anywhere_but_between_elements_is_refused(items, data):
    framed = datatypes.encode_bytes(array_of(items))
    whole = {len(datatypes.encode_bytes(array_of(items[:count]))) for count in range(len(items))}
    cut = data.draw(st.sampled_from(sorted(set(range(len(framed))) - whole)))
    with pytest.raises(struct.error):
        datatypes.decode_bytes(framed[:cut])
