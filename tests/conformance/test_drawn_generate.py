"""Random JSON for models of random inputs: the generate extension answers the same."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from broken_models import both_engines, write_models
from comparing import Engines
from generate_models import ECHO, NUMBERS, ask, config
from hypothesis import given
from hypothesis import strategies as st
from probing import examples

MODELS = 12
DATATYPES = (*NUMBERS, "FP32", "FP64", "BOOL", "STRING", "STRING", "FP16")


class Model(NamedTuple):
    name: str
    batch: int
    #: Datatype and sizes of each input.
    inputs: dict[str, tuple[str, list[int]]]


def draw_model(number: int) -> Model:
    """The same one in every run."""
    chance = random.Random(number)
    inputs = {
        name: (chance.choice(DATATYPES), chance.choices((-1, -1, 1, 2, 3), k=chance.randint(1, 3)))
        for name in ("text_input", "a", "b", "é")[: chance.randint(1, 4)]
    }
    return Model(f"drawn_{number}", chance.choice((0, 4)), inputs)


DRAWN = [draw_model(number) for number in range(MODELS)]


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    repository = tmp_path_factory.mktemp("drawn_generate")
    for model in DRAWN:
        inputs = {name: (datatype, str(dims)) for name, (datatype, dims) in model.inputs.items()}
        write_models(repository, {model.name: ECHO}, config(inputs, model.batch))
    with both_engines(repository) as both:
        yield both


INTEGERS = st.integers(-2, 300) | st.integers(-(2**64), 2**65)
PLAIN = st.none() | st.booleans() | INTEGERS | st.floats() | st.text(max_size=5)
ANY = st.recursive(
    PLAIN,
    lambda inner: (
        st.lists(inner, min_size=1, max_size=4)
        | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=6,
)
NAMES = st.sampled_from(("x", "sequence_id", "inputs", "")) | st.text(max_size=3)


def leaves(datatype: str) -> st.SearchStrategy[Any]:
    if datatype == "STRING":
        return st.text(max_size=5)
    if datatype == "BOOL":
        return st.booleans()
    return st.floats() | st.integers(-5, 5) if datatype.startswith("FP") else INTEGERS


@st.composite
def values(draw: st.DrawFn, datatype: str, dims: list[int]) -> Any:
    """As many values as an input takes, mostly, and of its datatype, mostly."""
    if draw(st.integers(0, 9)) == 0:
        return draw(ANY)
    count = draw(st.sampled_from((1, 1, 2, 3, 4)))
    for dim in dims:
        count *= max(dim, 1)
    count += draw(st.sampled_from((0, 0, 0, 0, 0, 1)))
    drawn = draw(st.lists(leaves(datatype), min_size=count, max_size=count))
    if count == 1 and draw(st.booleans()):
        return drawn[0]
    return [[value] for value in drawn] if draw(st.integers(0, 5)) == 0 else drawn


@st.composite
def bodies(draw: st.DrawFn, model: Model) -> dict[str, Any]:
    """Some inputs, some parameters, some of both nested."""
    given = draw(st.sets(st.sampled_from(sorted(model.inputs)), min_size=1))
    body = {name: draw(values(*model.inputs[name])) for name in sorted(given)}
    body |= draw(st.dictionaries(NAMES, PLAIN, max_size=2))
    if draw(st.booleans()):
        body["id"] = draw(st.text(max_size=4))
    if draw(st.booleans()):
        inside = set(draw(st.lists(st.sampled_from(sorted(body)), max_size=2)))
        nested = {name: body.pop(name) for name in sorted(inside)}
        body["parameters"] = nested | draw(st.dictionaries(NAMES, PLAIN, max_size=2))
    if draw(st.integers(0, 9)) == 0:
        body |= draw(st.dictionaries(st.sampled_from(("parameters", "id", "y")), ANY))
    return dict(draw(st.permutations(list(body.items()))))


@pytest.mark.rule("5.6-random")
@given(st.data())
@examples(150)
def test_the_same_answer(engines: Engines, data: st.DataObject) -> None:
    model = data.draw(st.sampled_from(DRAWN))
    body = data.draw(bodies(model))
    path = f"{model.name}/{data.draw(st.sampled_from(('generate', 'generate_stream')))}"
    stub, native = (ask(engine.http_url, path, body) for engine in engines)
    assert stub == native


def test_the_models_are_of_all_sorts() -> None:
    inputs = [each for model in DRAWN for each in model.inputs.values()]
    assert {model.batch > 0 for model in DRAWN} == {False, True}
    assert {len(dims) for _, dims in inputs} == {1, 2, 3}
    assert {"STRING", "BOOL", "FP32"} <= {datatype for datatype, _ in inputs}
    assert {-1 in dims for _, dims in inputs} == {False, True}
