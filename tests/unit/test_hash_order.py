"""The order of inputs as a function of their names; conformance compares it with the server."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from triton_stub.core.hash_order import HashOrder, string_hash, visited


@given(st.lists(st.text(), unique=True, max_size=40))
def test_every_input_is_visited_once(names: list[str]) -> None:
    assert sorted(visited(tuple(names))) == list(range(len(names)))


def test_inputs_without_a_collision_come_last_in_first_out() -> None:
    assert visited(("A", "B")) == (1, 0)


def test_no_inputs() -> None:
    assert visited(()) == ()


def test_any_number_of_inputs() -> None:
    names = tuple(map(str, range(100_000)))
    assert sorted(visited(names)) == list(range(len(names)))


@given(st.lists(st.tuples(st.integers(0, 60), st.booleans()), max_size=120))
def test_what_is_taken_out_leaves_the_others_in_order(steps: list[tuple[int, bool]]) -> None:
    order, keys = HashOrder[int](), []
    for key, is_put_in in steps:
        if is_put_in and key not in keys:
            keys.append(key)
            before = list(order)
            order.insert(key, string_hash(str(key)))
            if len(keys) not in (14, 30, 60):  # it has not grown
                assert [each for each in order if each != key] == before
        elif not is_put_in and key in keys:
            keys.remove(key)
            before = list(order)
            order.remove(key)
            assert list(order) == [each for each in before if each != key]
    assert sorted(order) == sorted(keys)
