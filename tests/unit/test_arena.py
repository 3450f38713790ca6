"""Blocks and gaps of a piece of memory."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triton_stub.core.arena import Arena


def test_a_block_of_its_own_size_and_a_head():
    arena = Arena(4096)
    assert arena.used == 128
    arena.allocate(100)
    assert arena.used == 128 + 16 + 96


@pytest.mark.parametrize("size", [0, 127, 191])
def test_too_small_for_any_block(size):
    with pytest.raises(ValueError, match="no room"):
        Arena(size)


def test_the_smallest_has_room_for_one_small_block():
    arena = Arena(192)
    place = arena.allocate(40)
    assert place is not None
    assert arena.allocate(1) is None
    arena.free(place)
    assert arena.allocate(41) is None
    assert arena.allocate(1) == place


def test_gaps_grow_together():
    arena = Arena(1024)
    places = [arena.allocate(200) for _ in range(4)]
    assert arena.allocate(200) is None
    arena.free(places[0])
    arena.free(places[2])
    assert arena.allocate(300) is None
    arena.free(places[1])
    assert arena.allocate(600) == places[0]


def test_the_gap_that_fits_best_is_taken():
    arena = Arena(2048)
    large, _, small, _ = (arena.allocate(size) for size in (500, 8, 200, 8))
    arena.free(large)
    arena.free(small)
    assert arena.allocate(190) == small


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 900)), max_size=60))
def test_blocks_never_overlap_and_all_memory_comes_back(steps):
    arena = Arena(4096)
    blocks: list[int] = []
    for frees, size in steps:
        if frees and blocks:
            arena.free(blocks.pop(size % len(blocks)))
        elif (place := arena.allocate(size)) is not None:
            blocks.append(place)
        taken = sorted(arena._block_at.items())
        ends = [place + units for place, units in taken]
        assert all(end <= start for end, (start, _) in zip(ends, taken[1:], strict=False))
        assert arena.used == 128 + 16 * sum(units for _, units in taken)
    for place in blocks:
        arena.free(place)
    assert arena.used == 128
    assert arena.allocate(4096 - 128 - 16 - 8) is not None
