"""The tensors and steps of an ensemble, and which of them a request needs."""

import numpy as np
import pytest

from triton_stub import config as model_config
from triton_stub import datatypes
from triton_stub.core.ensembles.graph import Graph, as_input, converted
from triton_stub.core.tensor import Tensor

FP32 = datatypes.from_dtype(np.dtype(np.float32))
CONFIG = """
name: "e" platform: "ensemble"
input [ { name: "A" data_type: TYPE_FP32 dims: [ -1 ] },
        { name: "M" data_type: TYPE_FP32 dims: [ -1 ] optional: true } ]
output [ { name: "B" data_type: TYPE_FP32 dims: [ 4 ] reshape { shape: [ 2, 2 ] } },
         { name: "C" data_type: TYPE_FP32 dims: [ -1 ] },
         { name: "D" data_type: TYPE_FP32 dims: [ -1 ] } ]
ensemble_scheduling { step [
  { model_name: "first" model_version: -1
    input_map { key: "IN" value: "A" } output_map { key: "OUT" value: "B" } },
  { model_name: "second" model_version: 2
    input_map { key: "IN" value: "B" } output_map { key: "OUT" value: "C" } },
  { model_name: "third" model_version: -1
    input_map [ { key: "IN" value: "A" }, { key: "MORE" value: "M" } ]
    output_map { key: "OUT" value: "D" } }
] }
"""


@pytest.fixture
def graph():
    return Graph(model_config.parse(CONFIG))


def takers(graph, *requested):
    return {name: set(steps) for name, steps in graph.takers(frozenset(requested)).items()}


def test_what_is_in_it(graph):
    assert [(step.model_name, step.model_version) for step in graph.steps] == [
        ("first", -1),
        ("second", 2),
        ("third", -1),
    ]
    assert graph.steps[2].inputs == {"IN": "A", "MORE": "M"}
    assert graph.optional == ["M"]
    # In the order of the server's hash map: see hash_order.
    assert list(graph.outputs) == ["D", "C", "B"]
    assert set(graph.tensors) == {"A", "M", "B", "C", "D"}


def test_all_steps_for_all_outputs(graph):
    assert takers(graph, "B", "C", "D") == {"A": {0, 2}, "M": {2}, "B": {1}, "C": set(), "D": set()}


def test_steps_that_nobody_needs_go(graph):
    assert takers(graph, "D") == {"A": {2}, "M": {2}, "B": set(), "C": set(), "D": set()}


def test_the_maker_of_an_output_goes_even_if_a_step_needs_it(graph):
    assert takers(graph, "C", "D") == {"A": {2}, "M": {2}, "B": {1}, "C": set(), "D": set()}


def test_with_its_last_taker_an_output_goes_whoever_asks_for_it(graph):
    # Without C nobody takes B, and so the first step goes, too.
    assert takers(graph, "B", "D") == {"A": {2}, "M": {2}, "B": set(), "C": set(), "D": set()}


def test_the_server_takes_the_first_step_for_the_maker_of_an_input(graph):
    # With the third step M goes, which no step makes, and so the first step goes, too.
    assert takers(graph, "B", "C") == {"A": set(), "M": set(), "B": {1}, "C": set(), "D": set()}


def test_what_is_taken_is_not_changed_for_the_next_request(graph):
    before = takers(graph, "B", "C", "D")
    takers(graph, "D")
    assert takers(graph, "B", "C", "D") == before


@pytest.mark.parametrize(
    ("shape", "batch_size", "dims", "batching", "expected"),
    [
        ((3,), 0, [3], False, (3,)),
        ((2, 3), 2, [3], True, (2, 3)),
        ((3,), 0, [3], True, (1, 3)),
        ((3,), 0, [-1], True, (1, 3)),
        ((2, 3), 0, [3], True, (2, 3)),  # it has its batch already
        ((1, 3), 1, [3], False, (3,)),
        ((1, 3), 1, [-1, 3], False, (1, 3)),
        ((2, 3), 2, [3], False, (2, 3)),  # refused by the model
    ],
)
def test_between_models_with_a_batch_and_without(shape, batch_size, dims, batching, expected):
    assert converted(shape, batch_size, dims, batching=batching) == expected
    model = model_config.parse(
        f'max_batch_size: {8 * batching} input {{ name: "IN" data_type: TYPE_FP32 dims: {dims} }}'
    )
    tensor = Tensor("OUT", FP32, shape, np.zeros(shape, np.float32))
    assert as_input(model, "IN", tensor, batch_size).shape == expected


def test_an_output_is_shaped_back(graph):
    assert graph.outputs["B"].shape((2, 2), made=0, batch_size=0) == (4,)
    assert graph.outputs["C"].shape((2, 2), made=0, batch_size=0) == (2, 2)


def test_one_limit_for_each_step():
    text = CONFIG.replace("ensemble_scheduling {", "ensemble_scheduling { max_inflight_requests: 2")
    limits = [step.limit for step in Graph(model_config.parse(text)).steps]
    assert None not in limits
    assert len(set(map(id, limits))) == 3
