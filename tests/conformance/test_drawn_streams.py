"""Whatever is asked on one stream: each request gets the same responses in the same order."""

from __future__ import annotations

import itertools
from typing import Any

import grpc
import pytest
from comparing import Engines
from hypothesis import given
from hypothesis import strategies as st
from probing import examples
from raw_stream import EMPTY, REFUSED, ask, by_id, request
from stream_models import MANY, ONCE

from triton_stub.engines.engine import Engine

CODES = ("INTERNAL", "NOT_FOUND", "INVALID_ARG", "UNAVAILABLE")
# What is refused because there is no such model counts as asked of one that answers once, and so
# must not be on a stream to decoupled ones. Nor is anything refused that is asked of the ensemble,
# or an error: after those the real server takes it to be at work for ever.
OF_DECOUPLED = sorted(name for name in REFUSED if "model" not in name and "version" not in name)
_SEQUENCES = itertools.count(1)

versions = st.sampled_from(["", "1"])
values = st.integers(-100, 100)
compressions = st.sampled_from([grpc.Compression.NoCompression, grpc.Compression.Gzip])


def refused(names: list[str], models: tuple[str, ...]) -> st.SearchStrategy[list[Any]]:
    """Something that does not get to a model."""
    return st.builds(
        lambda name, model: [REFUSED[name](model)], st.sampled_from(names), st.sampled_from(models)
    )


@st.composite
def asked_once(draw: st.DrawFn) -> list[Any]:
    """A request to a model that answers once."""
    given = draw(st.fixed_dictionaries({}, optional={EMPTY: st.booleans()}))
    if draw(st.booleans()):
        given |= {"error": draw(st.text("ab c", min_size=1)), "code": draw(st.sampled_from(CODES))}
    return [request(draw(st.sampled_from(ONCE)), draw(values), version=draw(versions), **given)]


@st.composite
def sequence(draw: st.DrawFn) -> list[Any]:
    """A whole sequence, since the model has a place for one only."""
    number = next(_SEQUENCES)
    numbers = draw(st.lists(values, min_size=1, max_size=4))
    messages = [request("sums", value, sequence_id=number) for value in numbers]
    messages[0].parameters["sequence_start"].bool_param = True
    messages[-1].parameters["sequence_end"].bool_param = True
    return messages


@st.composite
def asked_of_decoupled(draw: st.DrawFn) -> list[Any]:
    """A request to a model that answers any number of times."""
    given: dict[str, Any] = draw(
        st.fixed_dictionaries(
            {"count": st.integers(0, 5), "bare": st.booleans()},
            optional={EMPTY: st.booleans(), "error_at": st.integers(0, 5)},
        )
    )
    model = draw(st.sampled_from(MANY))
    if model == "steps":
        given.pop("error_at", None)
    return [request(model, draw(values), version=draw(versions), **given)]


once_programs = st.lists(
    asked_once() | sequence() | refused(sorted(REFUSED), ONCE), min_size=1, max_size=25
)
decoupled_programs = st.lists(
    asked_of_decoupled() | refused(OF_DECOUPLED, MANY[:2]), min_size=1, max_size=25
)


def numbered(program: list[list[Any]]) -> list[Any]:
    """All requests of a program, each with its number as its id."""
    messages = [message for part in program for message in part]
    for number, message in enumerate(messages):
        message.id = f"{number:02}"
    return messages


@pytest.mark.rule("5.3-drawn", "5.3-order")
@examples(30)
@given(program=once_programs, compression=compressions)
def test_models_that_answer_once(
    streams: Engines, program: list[list[Any]], compression: grpc.Compression
) -> None:
    messages = numbered(program)
    answers, code, _ = streams.same(
        lambda engine: ask(engine.grpc_url, *messages, compression=compression)
    )
    assert ([answer[3] for answer in answers], code) == ([each.id for each in messages], "OK")


@pytest.mark.rule("5.3-drawn", "5.3-turns")
@examples(30)
@given(program=decoupled_programs, compression=compressions)
def test_decoupled_models(
    streams: Engines, program: list[list[Any]], compression: grpc.Compression
) -> None:
    messages = numbered(program)

    def body(engine: Engine) -> Any:
        answers, *ending = ask(engine.grpc_url, *messages, compression=compression)
        return by_id(answers), ending

    assert streams.same(body)[1] == ["OK", ""]
