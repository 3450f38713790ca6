"""What a client should not send: numbers, names and texts at the edges of what they may be."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import strategies as st

MODELS = ("simple", "simple_identity", "simple_dyna_sequence", "densenet_onnx", "echo", "words")
DATATYPES = (
    *("BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64"),
    *("FP16", "FP32", "FP64", "BYTES", "BF16"),
)
SIZES = st.sampled_from(
    (0, 1, 2, 3, 4, 16, 17, 255, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**53, 2**62,
     2**63 - 1, 2**63, 2**63 + 1, 2**64 - 2, 2**64 - 1, 2**64, 10**30, -1, -2, -(2**63))
)  # fmt: skip
TEXTS = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        ("", "\0", "a\0b", "..", "../..", "/", "%2e%2e%2f", "\\", "x" * 5000, "é", "\U0001f600",
         " ", "simple", "1", "-1", "1" * 5000, "1e9", "NaN", "null", "true", "/dev/zero",
         "/etc/passwd")
    ),
)  # fmt: skip
#: What stands where something else is expected.
WRONG = st.one_of(
    SIZES,
    TEXTS,
    st.none(),
    st.booleans(),
    st.floats(),
    st.sampled_from(([], {}, [[]], [None], {"": {}}, [1] * 1000, 1e308, 10**400)),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
        lambda inner: (
            st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4)
        ),
        max_leaves=8,
    ),
)
#: Names of models: those that are there, and tricks with paths.
NAMES = st.one_of(st.sampled_from((*MODELS, "restless")), TEXTS)


@st.composite
def mutated(draw: st.DrawFn, good: Any, most: int = 3) -> Any:
    """A document with up to so many of its values replaced, left out, doubled or made up."""
    value = copy.deepcopy(good)
    for _ in range(draw(st.integers(0, most))):
        parent, key = draw(st.sampled_from(list(_places(value)) or [(value, None)]))
        if key is None:
            return copy.deepcopy(draw(WRONG))
        match draw(st.sampled_from(("replace", "remove", "double", "many", "add"))):
            case "replace":
                parent[key] = copy.deepcopy(draw(WRONG))
            case "remove":
                del parent[key]
            case "double" if isinstance(parent, list):
                parent.insert(key, copy.deepcopy(parent[key]))
            case "many" if isinstance(parent, list):
                parent[key:key] = [copy.deepcopy(parent[key])] * 300
            case "add" if isinstance(parent, dict):
                parent[draw(TEXTS)] = copy.deepcopy(draw(WRONG))
    return value


def _places(value: Any) -> Any:
    """Every container and key inside of a document."""
    items: Any = ()
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value[:20]))
    for key, item in items:
        yield value, key
        yield from _places(item)


@st.composite
def damaged(draw: st.DrawFn, good: bytes) -> bytes:
    """Bytes that are cut, turned, doubled or filled up; as they are half of the time."""
    if draw(st.booleans()) or not good:
        return good
    place = draw(st.integers(0, len(good)))
    match draw(st.sampled_from(("cut", "turn", "insert", "double", "end"))):
        case "cut":
            return good[:place]
        case "turn":
            return good[:place] + bytes([draw(st.integers(0, 255))]) + good[place + 1 :]
        case "insert":
            return good[:place] + draw(_INSERTED) + good[place:]
        case "double":
            return good[:place] + good[place // 2 :]
        case _:
            return good + draw(_INSERTED)


_INSERTED = st.one_of(
    st.binary(max_size=8),
    st.sampled_from(
        (b"\xff", b"\0", b"[" * 2000, b'{"a":' * 2000, b"1" * 5000, b"-", b"\xed\xa0\x80",
         b"1e999", b"[" * 200 + b"]" * 200, b'"\\ud800"', b"\xef\xbb\xbf", b"[" * 99,
         b"[" * 100_000)
    ),
)  # fmt: skip
