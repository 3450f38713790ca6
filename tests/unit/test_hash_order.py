"""The order of inputs as a function of their names; conformance compares it with the server."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from triton_stub.core.hash_order import visited


@given(st.lists(st.text(), unique=True, max_size=40))
def test_every_input_is_visited_once(names: list[str]) -> None:
    assert sorted(visited(tuple(names))) == list(range(len(names)))


def test_inputs_without_a_collision_come_last_in_first_out() -> None:
    assert visited(("A", "B")) == (1, 0)


def test_no_inputs() -> None:
    assert visited(()) == ()
