"""Random programs of requests to other models: what comes back is the same on both engines."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from asking import bls
from comparing import Engines
from hypothesis import given
from hypothesis import strategies as st
from probing import examples

DTYPES = ("?", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8", "S3", "O")
SHAPES = ((), (0,), (1,), (3,), (2, 0), (2, 3), (1, 2, 2))
FACTS = (
    "told((sorted((t.name(), t.shape(), t.as_numpy().tolist()) for t in request.inputs()[1:]), "
    "request.request_id(), request.correlation_id(), request.flags(), request.timeout(), "
    "request.parameters(), sorted(request.requested_output_names()), len(requests)))"
)
RUN = """
def made(call):
    tensors = [T(name, np.arange(int(np.prod(shape))).reshape(shape).astype(dtype))
               for name, dtype, shape in call["tensors"]]
    tensors += tensors[:1] * call["twice"]
    fields = dict(call["fields"])
    if call["cpu"]:
        fields["preferred_memory"] = pb_utils.PreferredMemory(pb_utils.TRITONSERVER_MEMORY_CPU, 1)
    return ask(call["code"], call["model"], tensors, call["outputs"], **fields)

def taken(answer):
    return seen(answer) if isinstance(answer, R) else [seen(each) for each in answer]

def run(calls, late):
    if late:  # all are sent before any iterator is read
        return [taken(answer) for answer in [made(call).exec(call["decoupled"]) for call in calls]]
    return [taken(made(call).exec(call["decoupled"])) for call in calls]

async def run_async(calls):
    sent = [made(call).async_exec(call["decoupled"]) for call in calls]
    return [taken(answer) for answer in await asyncio.gather(*sent)]

"""


def array(dtype: str, shape: tuple[int, ...]) -> str:
    return f"np.arange({int(np.prod(shape))}).reshape({shape}).astype({dtype!r})"


responses = st.lists(
    st.builds(
        lambda name, dtype, shape: f"T({name!r}, {array(dtype, shape)})",
        st.sampled_from(("OUT", "TOLD", "NO")),
        st.sampled_from(DTYPES),
        st.sampled_from(SHAPES),
    ),
    max_size=3,
).map(lambda tensors: f"R([{', '.join(tensors)}])")
texts = st.text(st.characters(codec="utf-8"), max_size=5)
plain_codes = st.one_of(
    st.just(FACTS),
    responses,
    texts.map(lambda text: f"R(error=E({text!r}))"),
    st.sampled_from(("1 / 0", "raise KeyError('k')", "'no response'", "R([None])", "T('', 1)")),
    st.just("request.get_response_sender().send(told(1), 1)"),
)
# An error that is not alone: 2.51 loses what comes after it.
streams = st.one_of(
    st.tuples(st.lists(responses, max_size=4), st.booleans()).map(
        lambda drawn: (
            "; ".join(f"send({each})" for each in drawn[0])
            + ("; " if drawn[0] else "")
            + ("send(flags=1)" if drawn[1] else "send(told('last'), 1)")
        )
    ),
    texts.map(lambda text: f"send(R(error=E({text!r})), 1)"),
    st.just("1 / 0"),
)
sane_tensors = st.sampled_from(
    ((), (("X", "f4", (3,)),), (("S", "S3", (2,)),), (("X", "f4", (0,)), ("S", "O", (1,))))
)
tensors = st.one_of(
    sane_tensors,
    sane_tensors,
    st.lists(
        st.tuples(
            st.sampled_from(("X", "S", "NO")), st.sampled_from(DTYPES), st.sampled_from(SHAPES)
        ),
        max_size=2,
        unique_by=lambda drawn: drawn[0],
    ),
)
integers = st.one_of(
    st.integers(-(2**64), 2**64), st.sampled_from((2**63 - 1, 2**63, -(2**63), -(2**63) - 1))
)
fields = st.fixed_dictionaries(
    {},
    optional={
        "request_id": texts,
        "correlation_id": st.one_of(st.integers(0, 2**64 - 1), texts),
        "flags": st.integers(0, 2**32 - 1),
        "timeout": st.integers(0, 2**64 - 1),
        "model_version": st.sampled_from((-2, -1, 0, 1, 1, 1, 2)),
        "parameters": st.dictionaries(
            st.text("ab", max_size=2), st.one_of(st.booleans(), integers, texts), max_size=3
        ),
    },
)
outputs = st.sampled_from(((), (), (), ("OUT",), ("TOLD",), ("OUT", "TOLD"), ("BAD",), ("", "OUT")))


@st.composite
def calls(draw: st.DrawFn) -> dict[str, Any]:
    """One request, to whom, and what that makes of it."""
    model = draw(st.sampled_from(("called", "called", "called", "called_decoupled", "none")))
    return {
        "model": model,
        "code": draw(streams if model == "called_decoupled" else plain_codes),
        "decoupled": draw(st.booleans()) or (model == "called_decoupled" and draw(st.booleans())),
        "tensors": draw(tensors),
        "twice": draw(st.integers(0, 9)) == 0,
        "fields": draw(fields),
        "outputs": [name for name in draw(outputs) if name],
        "cpu": draw(st.booleans()),
    }


def keep_one_iterator(program: list[dict[str, Any]]) -> None:
    """Of those over refusals the server keeps the last only, and 2.51 knows no other errors."""
    for call in program[1:]:
        call["decoupled"] = False


@pytest.mark.rule("3.6-never-raises", "3.6-output-order", "3.6-iterator", "3.6-validation")
@examples(250)
@given(program=st.lists(calls(), min_size=1, max_size=5), late=st.booleans())
def test_a_program(engines: Engines, program: list[dict[str, Any]], late: bool) -> None:
    if late:
        keep_one_iterator(program)
    engines.same(lambda engine: bls(engine, f"{RUN}run({program!r}, {late})"))


@pytest.mark.rule("3.6-async-future", "3.6-never-raises")
@examples(100)
@given(program=st.lists(calls(), min_size=1, max_size=5))
def test_an_async_program(engines: Engines, program: list[dict[str, Any]]) -> None:
    keep_one_iterator(program)
    code = f"{RUN}await run_async({program!r})"
    engines.same(lambda engine: bls(engine, code, model="probe_async"))
