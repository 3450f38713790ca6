"""The order of equal values, as a program in C++ has shown it (g++ 12, ``std::sort``)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from triton_stub.endpoints.ranking import descending

# Values, and the indices that come first.
SORTED: dict[str, tuple[Any, list[int]]] = {
    "few": ([1, 3, 2], [1, 2, 0]),
    "16 equal": ([1] * 16, list(range(16))),
    "40 equal": ([0] * 40, [30, 21, 22, 23, 24, 25, 26, 27]),
    "two by turns": ([1, 2] * 20, [1, 39, 37, 35, 33, 31, 29, 27]),
    "zeros but for one": ([0] * 30 + [1] + [0] * 30, [30, 46, 32, 33, 34, 35]),
    "a bell": (-np.abs(50 - np.arange(101)), [50, 51, 49, 52, 48, 53, 47, 54, 46]),
    "a bowl": (np.abs(20 - np.arange(41)), [0, 40, 1, 39, 2, 38, 3, 37, 4]),
    "a bell of a heap": (-np.abs(500 - np.arange(1001)), [500, 499, 501, 498, 502, 503, 497, 504]),
    "not a number": ([*range(20), math.nan, *range(20)], [40, 39, 38, 37, 36, 35, 34, 33, 32]),
}


@pytest.mark.parametrize(("values", "first"), SORTED.values(), ids=SORTED)
def test_what_a_program_in_c_has_shown(values: Any, first: list[int]) -> None:
    assert descending(np.array(values), len(first)) == first


@given(st.lists(st.integers(0, 9), max_size=200), st.integers(0, 250))
@example([], 3)
def test_the_greatest_come_first_each_once(values: list[int], count: int) -> None:
    first = descending(np.array(values, np.int64), count)
    assert len(set(first)) == len(first) == min(count, len(values))
    assert [values[index] for index in first] == sorted(values, reverse=True)[:count]


@given(st.lists(st.integers(0, 9), max_size=200), st.integers(0, 200))
def test_the_first_ones_do_not_depend_on_their_number(values: list[int], count: int) -> None:
    array = np.array(values, np.int64)
    assert descending(array, count) == descending(array, len(values))[:count]


@given(st.lists(st.sampled_from([0.0, 1.0, 2.0, math.nan]), max_size=200))
def test_what_is_not_a_number_neither_stops_it_nor_gets_lost(values: list[float]) -> None:
    assert sorted(descending(np.array(values), len(values))) == list(range(len(values)))
