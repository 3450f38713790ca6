"""Ensembles and their steps: who is looked at again when one of them changes."""

from pathlib import Path

import pytest

from triton_stub import config as model_config
from triton_stub import deviations
from triton_stub.core.repository.dependencies import Dependencies
from triton_stub.core.repository.polling import Known, Polled
from triton_stub.core.repository.source import ModelSource, ModelTimes
from triton_stub.errors import LoadError

TENSORS = (
    'input { name: "IN" data_type: TYPE_FP32 dims: 1 } '
    'output { name: "OUT" data_type: TYPE_FP32 dims: 1 } '
)
MODEL = model_config.parse(TENSORS)


def known(name, *steps, explicit=True):
    ends = ["IN", *(f"T{number}" for number in range(1, len(steps))), "OUT"]
    text = "".join(
        f'step {{ model_name: "{step}" model_version: -1 '
        f'input_map {{ key: "IN" value: "{ends[number]}" }} '
        f'output_map {{ key: "OUT" value: "{ends[number + 1]}" }} }}'
        for number, step in enumerate(steps)
    )
    text = f'platform: "ensemble" ensemble_scheduling {{ {text} }}' if steps else ""
    config = model_config.parse(f'name: "{name}" {TENSORS} {text}')
    source = ModelSource(Path(name), config, ModelTimes())
    return Known(source, ModelTimes(), ModelTimes(), explicit)


class Graph:
    """Dependencies of models that all load, but for those that fail."""

    def __init__(self, **steps):
        self.graph = Dependencies()
        self.add(**steps)

    def add(self, *, explicit=True, **steps):
        models = {n: known(n, *names.split(), explicit=explicit) for n, names in steps.items()}
        self.graph.update(Polled(known=models, added=set(models)))
        return self

    def change(self, name, *steps):
        self.graph.update(Polled(known={name: known(name, *steps)}, modified={name}))
        return self

    def run(self, *failing, busy=()):
        """The order in which models are tried, and what is wrong with which."""
        results = {}
        order, changed = [], None
        while due := self.graph.due(changed, busy, results, lambda _: MODEL):
            for name in due:
                node = self.graph.nodes[name]
                results[name] = node.error
                node.loaded = frozenset() if node.error else frozenset({1})
                if name in failing:
                    results[name], node.loaded = LoadError("why"), frozenset()
            order.append(" ".join(due))
            changed = due
        return order, {name: error.message for name, error in results.items() if error}


def test_steps_first():
    assert Graph(abc="ab c", ab="a b", a="", b="", c="").run() == (["a b c", "ab", "abc"], {})


def test_nothing_twice():
    graph = Graph(ab="a b", a="", b="")
    graph.run()
    assert graph.run() == ([], {})


def test_what_depends_on_a_change():
    graph = Graph(abc="ab c", ab="a b", a="", b="", c="")
    graph.run()
    assert graph.change("b").run() == (["b", "ab", "abc"], {})
    assert graph.change("ab", "c").run() == (["ab", "abc"], {})
    assert graph.change("a").run() == (["a"], {})


def test_a_step_that_is_missing():
    graph = Graph(ab="a b", abc="ab b", a="")
    order, errors = graph.run()
    assert order == ["a ab abc"]
    text = "ensemble {} contains models that are not available or ambiguous: b"
    assert errors == {"ab": text.format("ab"), "abc": text.format("abc")}
    assert graph.add(b="").run() == (["b", "ab", "abc"], {})


def test_a_step_that_fails():
    _, errors = Graph(ab="a b", abc="ab c", a="", b="", c="").run("b")
    told = (
        "ensemble 'ab' depends on 'b' which has no loaded version. Model 'b' loading failed with "
        "error: why"
    )
    assert errors == {
        "b": "why",
        "ab": told,
        "abc": "ensemble 'abc' depends on 'ab' which is not valid. Model 'ab' failed with error: "
        + told,
    }


@pytest.mark.parametrize("with_steps", [False, True])
def test_what_goes_with_an_ensemble(with_steps):
    graph = Graph(ab="a b", ac="a c", b="").add(explicit=False, a="", c="")
    removed, affected = graph.graph.unload("ac", with_steps=with_steps)
    assert removed == ({"ac", "c"} if with_steps else {"ac"})
    assert affected == set()


def test_what_goes_with_a_step():
    graph = Graph(ab="a b", abc="ab c", a="", b="", c="")
    graph.run()
    assert graph.graph.unload("a", with_steps=False) == ({"a"}, {"ab"})
    _, errors = graph.run()
    assert sorted(errors) == ["ab", "abc"]


def test_what_is_busy_is_left_alone():
    graph = Graph(ab="a b", a="", b="")
    assert graph.run(busy={"b"}) == (["a"], {})


@pytest.mark.parametrize(
    ("models", "told"),
    [
        ({"a": "a"}, {"a": "a -> ... -> a -> a"}),
        ({"a": "b", "b": "a"}, {"a": "a -> ... -> b -> a", "b": "b -> ... -> a -> b"}),
        (
            {"a": "b", "b": "c", "c": "a"},
            {"b": "a -> ... -> c -> a"} | dict.fromkeys("ac", "c -> ... -> b -> c"),
        ),
    ],
)
def test_rings(models, told):
    _, errors = Graph(**models).run()
    assert errors == {n: f"circular dependency between ensembles: {t}" for n, t in told.items()}


def test_what_leads_into_a_ring():
    _, errors = Graph(a="b", b="c", c="b").run()
    assert deviations.ENSEMBLE_CIRCLE.server in errors["a"]


def test_a_copy_is_on_its_own():
    graph = Graph(ab="a b", a="", b="")
    copy = graph.graph.copy()
    graph.run()
    assert not copy.nodes["ab"].checked
    copy.write_back(graph.graph, ["ab", "nobody"])
    assert copy.nodes["ab"].checked
    assert copy.nodes["ab"].loaded == {1}
