"""Tensors, responses and frames of BYTES that Hypothesis draws: the same on both engines."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from comparing import Engines
from hypothesis import given
from hypothesis import strategies as st
from probing import examples, probe, probe_sent

from triton_stub.engines.engine import Engine

FIXED = ("?", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8")
REFUSED = (">u2", ">i4", ">f8", "c8", "c16", "M8[s]", "m8[ms]", "V3", "f4,i2")
SIZES = st.lists(st.integers(0, 4), max_size=3)


@st.composite
def arrays(draw: st.DrawFn, dtypes: tuple[str, ...] = FIXED) -> str:
    """An expression of an array: any values, any shape, any way to lie in memory."""
    dtype = np.dtype(draw(st.sampled_from(dtypes)))
    shape = draw(SIZES)
    count = int(np.prod(shape, dtype=int)) * dtype.itemsize
    data = draw(st.binary(min_size=count, max_size=count))
    if dtype == np.bool_:
        data = bytes(byte & 1 for byte in data)
    code = f"np.frombuffer({data!r}, {dtype.descr if dtype.fields else dtype.str!r})"
    code += f".reshape({shape}).copy({draw(st.sampled_from('CF'))!r})"
    if shape:
        code += f".transpose({draw(st.permutations(range(len(shape))))})"
        steps = st.sampled_from(["::", "::2", "::-1", "1:", ":-1", "::-2", "None, ::"])
        code += f"[{', '.join(draw(st.lists(steps, min_size=len(shape), max_size=len(shape))))}]"
        if draw(st.integers(0, 4)) == 0:
            code = f"(lambda a: np.broadcast_to(a, (2, *a.shape)))({code})"
    return code


# What to tell of a tensor t that was made of an array a.
TOLD = (
    "(t.shape(), t.as_numpy().dtype.str, t.as_numpy() is a, t.as_numpy().flags.c_contiguous, "
    "t.as_numpy().strides, t.as_numpy().tobytes().hex(), "
    "dlpack_peers.take(t).bytes.tobytes() == t.as_numpy().tobytes())"
)


def comparable(array: np.ndarray) -> Any:
    """An array as what ``==`` compares, NaN or not."""
    values = array.ravel().tolist() if array.dtype == object else array.tobytes()
    return str(array.dtype), array.shape, values


def told_and_sent(engine: Engine, code: str, **request: Any) -> Any:
    told, sent = probe_sent(engine, f"import dlpack_peers\n{code}", **request)
    return told, {name: comparable(array) for name, array in sent.items()}


@pytest.mark.rule("2.1-dtypes", "2.1-contiguity", "2.1-dims", "2.1-first-save", "2.3-capsule")
@examples(150)
@given(array=arrays())
def test_arrays(engines: Engines, array: str) -> None:
    code = f"a = {array}\nt = T('OUT', a)\nsent.append(t)\n{TOLD}"
    told, _ = engines.same(lambda engine: told_and_sent(engine, code))
    assert "Error" not in told


@pytest.mark.rule("2.1-refused-dtypes")
@examples(20)
@given(array=arrays(REFUSED))
def test_arrays_that_are_refused(engines: Engines, array: str) -> None:
    told = engines.same(lambda engine: probe(engine, f"T('x', {array})"))
    assert told.endswith("NumPy dtype is not supported.")


# Elements of BYTES


class Expression:
    """A text that shows without quotes, where ``repr`` puts it into a list."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


ODD = (
    "None",
    "True",
    "bytearray(b'q')",
    "np.bytes_(b'n')",
    "np.str_('s')",
    "[b'l', {}]",
    "Ellipsis",
)
elements = st.one_of(
    st.binary(max_size=12),
    st.text(st.characters(exclude_categories=()), max_size=8),
    st.integers(),
    st.floats(),
    st.sampled_from([Expression(text) for text in ODD]),
)


@st.composite
def object_arrays(draw: st.DrawFn, items: st.SearchStrategy[Any] = elements) -> str:
    shape = draw(SIZES)
    count = int(np.prod(shape, dtype=int))
    drawn = draw(st.lists(items, min_size=count, max_size=count))
    listed = repr(drawn).replace("inf", "np.inf").replace("nan", "np.nan") if drawn else "[]"
    code = f"a = np.empty({count}, object)\nfor i, item in enumerate({listed}): a[i] = item\n"
    turned = draw(st.sampled_from(["", ".T", "[::-1]" if shape else ""]))
    return f"{code}a = a.reshape({shape}){turned}\n"


@pytest.mark.rule("2.1-bytes-snapshot", "2.4-serialize", "2.4-framing", "2.4-elements")
@examples(120)
@given(array=object_arrays())
def test_objects(engines: Engines, array: str) -> None:
    code = (
        f"{array}framed = pb_utils.serialize_byte_tensor(a)\nt = T('OUT', a)\nsent.append(t)\n"
        "framed, t.shape(), t.as_numpy() is a, [type(item) for item in t.as_numpy().ravel()]"
    )
    engines.same(lambda engine: told_and_sent(engine, code))


@pytest.mark.rule("2.4-s-arrays")
@examples(40)
@given(array=object_arrays(st.binary(max_size=6)))
def test_byte_strings(engines: Engines, array: str) -> None:
    code = (
        f"{array}a = a.astype('S')\nt = T('OUT', a)\nsent.append(t)\n"
        "pb_utils.serialize_byte_tensor(a), t.as_numpy().tolist(), t.shape()"
    )
    engines.same(lambda engine: told_and_sent(engine, code))


@st.composite
def frames(draw: st.DrawFn) -> bytes:
    """Frames as they should be, cut short, or with a length that is not theirs."""
    items = draw(st.lists(st.binary(max_size=6), max_size=4))
    lengths = st.sampled_from([0, 0, 0, 0, 1, -1, 2**31])
    framed = [max(0, len(item) + draw(lengths)).to_bytes(4, "little") + item for item in items]
    data = b"".join(framed)
    return data[: len(data) - draw(st.integers(0, 3))]


@pytest.mark.rule("2.4-deserialize", "2.4-truncated")
@examples(120)
@given(data=frames(), kind=st.sampled_from(["bytes", "bytearray", "memoryview", "np.array"]))
def test_frames(engines: Engines, data: bytes, kind: str) -> None:
    source = f"np.frombuffer({data!r}, np.uint8)" if kind == "np.array" else f"{kind}({data!r})"
    told = f"pb_utils.deserialize_bytes_tensor({source}).tolist()"
    engines.same(lambda engine: probe(engine, told))


# What a client sends


@pytest.mark.rule("2.1-private-copy", "2.1-bytes-array", "2.1-bf16", "2.2-received-dtypes")
@examples(100)
@given(data=st.data())
def test_inputs_that_are_sent_back(engines: Engines, data: st.DataObject) -> None:
    numbers = np.array(data.draw(st.lists(st.floats(width=32), max_size=5)), np.float32)
    raw = data.draw(st.lists(st.integers(0, 2**16 - 1), max_size=5))
    items = data.draw(st.lists(st.binary(max_size=9), max_size=5))
    strings = np.empty(len(items), object)
    strings[:] = items
    name = data.draw(st.sampled_from("XSB"))
    back = "T.from_dlpack('OUT', t)" if name == "B" else "T('OUT', t.as_numpy())"
    if name == "X":
        back = data.draw(st.sampled_from([back, "T.from_dlpack('OUT', t)"]))
    seen = "None" if name == "B" else "(t.as_numpy().dtype.str, t.as_numpy().tolist())"
    engines.same(
        lambda engine: told_and_sent(
            engine,
            f"t = by_name(request, '{name}')\nsent.append({back})\nt.shape(), {seen}",
            X=numbers,
            S=strings,
            B=np.array(raw, np.uint16).view(ml_dtypes.bfloat16),
        )
    )


# What a framework sends


@st.composite
def capsules(draw: st.DrawFn) -> str:
    """A peer whose capsule is right, or wrong in one of the ways that the server looks at."""
    shape = draw(SIZES)
    dtype = draw(st.sampled_from(FIXED))
    strides = [int(np.prod(shape[place + 1 :], dtype=int)) for place in range(len(shape))]
    for place, size in enumerate(shape):
        # The first one is never looked at: see the deviation. It only matters if there are values.
        free = place > 0 or size <= 1 or 0 in shape
        if free and draw(st.integers(0, 3)) == 0:
            strides[place] = draw(st.integers(0, 5))
    keywords = {
        "strides": draw(st.sampled_from([False, tuple(strides)])) if shape else True,
        "device": (draw(st.sampled_from([1, 1, 1, 3, 4, 7, 14])), draw(st.integers(0, 2))),
        "label": "drawn",
    }
    if draw(st.integers(0, 2)) == 0:
        codes, lanes = st.sampled_from([2, 4, 5, 7]), st.sampled_from([1, 1, 2])
        keywords["dtype"] = (draw(codes), draw(st.sampled_from([8, 16, 24])), draw(lanes))
    arguments = ", ".join(f"{key}={value!r}" for key, value in keywords.items())
    # Of the memory, eight bytes an element are there whatever its dtype is said to be.
    return f"P.Peer(np.zeros({[*shape, 8]}, {dtype!r})[..., 0].copy(), {arguments})"


@pytest.mark.rule("2.3-contiguity", "2.3-other-device", "2.3-bad-dtypes", "2.3-dtypes")
@examples(150)
@given(peer=capsules())
def test_capsules(engines: Engines, peer: str) -> None:
    code = (
        f"import dlpack_peers as P\nt = T.from_dlpack('x', {peer})\n"
        "t.shape(), t.is_cpu(), t.__dlpack_device__(), P.told(t.to_dlpack())"
    )
    engines.same(lambda engine: probe(engine, code))


# What a model makes

tensors = st.sampled_from(
    ["T('OUT', np.zeros(1))", "T('x', np.zeros(2))", "None", "3", "'a'", "[]"]
)
errors = st.sampled_from(["None", "E('m')", "E('m', E.CANCELLED)", "'m'", "ValueError('m')", "E"])


@st.composite
def responses(draw: st.DrawFn) -> str:
    given = draw(st.lists(st.one_of(tensors, st.just("T('y', np.ones(1))")), max_size=3))
    kind = draw(st.sampled_from(["[{}]", "[{}]", "({})", "dict.fromkeys([{}])", "iter([{}])"]))
    listed = kind.format(", ".join(given) + ("," if given and kind == "({})" else ""))
    arguments = [listed, draw(errors)][: draw(st.integers(0, 2))]
    names = ["output_tensors", "error"]
    first_named = draw(st.integers(0, len(arguments)))
    told = arguments[:first_named]
    told += [
        f"{draw(st.sampled_from([name] * 5 + ['other']))}={value}"
        for name, value in list(zip(names, arguments, strict=False))[first_named:]
    ]
    return f"R({', '.join(told)})"


@pytest.mark.rule("1.4-response", "2.6-none-tensor", "2.6-error-type")
@examples(100)
@given(response=responses())
def test_responses(engines: Engines, response: str) -> None:
    code = (
        f"r = {response}\n[t.name() for t in r.output_tensors()], r.has_error(), "
        "r.error() and (r.error().message(), r.error().code())"
    )
    engines.same(lambda engine: probe(engine, code))


VALUES = st.one_of(
    st.integers(-(2**65), 2**65),
    st.sampled_from([2**n + d for n in (31, 32, 63, 64) for d in (-1, 0, 1)]),
    st.floats(),
    st.booleans(),
    st.text(max_size=3),
    st.binary(max_size=3),
    st.none(),
    st.lists(st.text(max_size=2), max_size=2),
    st.sampled_from([
        Expression(f"np.{kind}({number})")
        for kind in ("int8", "uint64", "float32", "float64", "bool_", "array", "str_", "bytes_")
        for number in (0, 3)
        if kind != "bytes_" or number == 3
    ]),
)  # fmt: skip
CALLS = (
    "request.set_flags({}); request.flags()",
    "E({}).message()",
    "T({}, np.zeros(1)).name()",
    "R({}).output_tensors()",
    "L.LogLevel({})",
    "c.MetricKind({}).value",
    "Q(inputs=[], requested_output_names={}, model_name='m').requested_output_names() == set()",
    "Q(inputs=[], requested_output_names=[], model_name='m', timeout={}).timeout()",
    "Q(inputs=[], requested_output_names=[], model_name={}).parameters()",
    "Q(inputs=[], requested_output_names=[], model_name='m', correlation_id={}).correlation_id()",
)


@pytest.mark.rule("1.4-int", "1.4-str", "1.4-list", "2.5-type-errors", "2.5-correlation-id")
@examples(150)
@given(call=st.sampled_from(CALLS), value=VALUES)
def test_arguments(engines: Engines, call: str, value: Any) -> None:
    shown = repr(value)
    if isinstance(value, float) and shown[-3:] in ("inf", "nan"):
        shown = f"float('{shown}')"
    engines.same(lambda engine: probe(engine, call.format(shown)))
