"""Programs of metric calls that Hypothesis draws: what they tell, and the pages they leave."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import MODELS
from hypothesis import given
from hypothesis import strategies as st
from mortal import MortalEngines, custom_metrics
from probing import examples, probe

from triton_stub.engines.engine import Engine

# Calls that fail inside the server are not drawn: it does not always survive them.
INTERPRETER = """
k, told = self.kept.setdefault('drawn', {}), []
for call, key, *arguments in json.loads(CALLS):
    try:
        if call == 'family':
            name, help, kind = arguments
            k[key] = pb_utils.MetricFamily(name, help, c.MetricKind(kind))
        elif call == 'metric':
            k[key] = k[arguments[0]].Metric(*arguments[1:])
        elif call == 'drop':
            del k[key]
        else:
            told.append(repr(getattr(k[key], call)(*arguments)))
    except pb_utils.TritonModelException as error:
        told.append(str(error))
told
"""
CALLS = {0: ("increment", "value"), 1: ("increment", "set", "value"), 2: ("observe",)}
NUMBERS = itertools.count()

names = st.sampled_from(["a", "b", "le", "_c", "D9"])
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
labels = st.none() | st.dictionaries(names, texts, max_size=3)
numbers = st.floats() | st.integers(-(2**53), 2**53) | st.booleans()
upwards = st.floats(min_value=0) | st.just(float("nan")) | st.integers(0, 2**53)
buckets = st.lists(st.floats(allow_nan=False), unique=True, max_size=5).map(sorted)


class Program:
    """Calls that the real server survives, drawn one after the other."""

    def __init__(self, draw: st.DrawFn) -> None:
        self._draw = draw
        self._keys = itertools.count()
        self._kinds: dict[str, int] = {}
        # By key: a family's name, and the series that were made through it; a metric's kind.
        self._families: dict[int, tuple[str, set[Any]]] = {}
        self._metrics: dict[int, int] = {}

    def part(self) -> list[list[Any]]:
        """Some calls."""
        return [self._call() for _ in range(self._draw(st.integers(1, 12)))]

    def _call(self) -> list[Any]:
        choices = ["family"]
        if self._families:
            choices += ["metric", "metric", "drop"]
        if self._metrics:
            choices += ["metric call"] * 5
        choice = self._draw(st.sampled_from(choices))
        if choice == "metric call":
            return self._metric_call()
        if choice == "family":
            return self._family()
        family = self._draw(st.sampled_from(sorted(self._families)))
        if choice == "drop" and not self._shares(family):
            del self._families[family]
            return ["drop", family]
        return self._metric(family)

    def _family(self) -> list[Any]:
        name = self._draw(st.sampled_from("xyz"))
        kind = self._kinds.setdefault(name, self._draw(st.integers(0, 2)))
        key = next(self._keys)
        self._families[key] = (name, set())
        return ["family", key, name, self._draw(texts), kind]

    def _metric(self, family: int) -> list[Any]:
        name, made = self._families[family]
        chosen = self._draw(labels)
        made.add(tuple(sorted((k, v.partition("\0")[0]) for k, v in (chosen or {}).items())))
        key = next(self._keys)
        self._metrics[key] = self._kinds[name]
        bounds = [self._draw(buckets)] if self._kinds[name] == 2 else []
        return ["metric", key, family, chosen, *bounds]

    def _metric_call(self) -> list[Any]:
        key = self._draw(st.sampled_from(sorted(self._metrics)))
        kind = self._metrics[key]
        call = self._draw(st.sampled_from(CALLS[kind]))
        if call == "value":
            return [call, key]
        return [call, key, self._draw(upwards if kind == 0 else numbers)]

    def _shares(self, family: int) -> bool:
        """True if another family of the name has one of its series: deviations.REMOVED_SERIES."""
        name, made = self._families[family]
        return any(
            key != family and other == name and made & series
            for key, (other, series) in self._families.items()
        )


@st.composite
def programs(draw: st.DrawFn) -> list[list[list[Any]]]:
    """Parts of a program; after each one the page is looked at."""
    program = Program(draw)
    return [program.part() for _ in range(draw(st.integers(1, 4)))]


@pytest.fixture(scope="module")
def engines() -> Iterator[MortalEngines]:
    """Both engines with the model that runs code."""
    with MortalEngines(MODELS, ["probe"]) as both:
        yield both


@pytest.mark.rule("2.11-same-family", "2.11-same-labels", "2.11-page", "2.11-deleted-series")
@pytest.mark.rule("2.11-counter", "2.11-gauge", "2.11-histogram", "2.11-deleted-family")
@given(parts=programs())
@examples(300)
def test_a_program_of_metric_calls(engines: MortalEngines, parts: list[list[list[Any]]]) -> None:
    number = next(NUMBERS)  # families are for ever, so each run has names of its own
    codes = []
    for part in parts:
        calls = [
            [*call[:2], f"{call[2]}_{number}", *call[3:]] if call[0] == "family" else call
            for call in part
        ]
        codes.append(INTERPRETER.replace("CALLS", repr(json.dumps(calls))))

    def run(engine: Engine) -> list[Any]:
        try:
            return [(probe(engine, code), custom_metrics(engine)) for code in codes]
        finally:
            probe(engine, "self.kept.clear()")

    engines.same(run)
