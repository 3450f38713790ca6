"""How much fits into a piece of memory: blocks, and the gaps between them.

Source: Boost.Interprocess, ``rbtree_best_fit``, with which the server's local cache hands out its
memory. Nothing is stored here; only the places are known.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left, insort

_UNIT = 16  # bytes
_HEADER = 128  # bytes, of the memory as a whole
_END = 1  # units, of the mark behind the last block
_SMALLEST = 3  # units, of a block
_OWN = 1  # units, of a block for itself
_BORROWED = 8  # bytes, of the next block's head


class Arena:
    """Memory of ``size`` bytes that is handed out in blocks.

    Attributes:
        size: bytes in all.
        used: bytes that are not free, those that the bookkeeping needs among them.
    """

    def __init__(self, size: int) -> None:
        """ValueError if not even one block has room."""
        units = (size - _HEADER) // _UNIT - _END
        if units < _SMALLEST:
            raise ValueError(f"{size} bytes have no room for a block")
        self.size = size
        self.used = _HEADER
        # Gaps by size, of equal ones the oldest first: size, number, place. All sizes in units.
        self._gaps: list[tuple[int, int, int]] = []
        self._numbers = itertools.count()
        self._gap_at: dict[int, tuple[int, int, int]] = {}
        self._gap_before: dict[int, int] = {}  # by where the gap ends
        self._block_at: dict[int, int] = {}
        self._open(0, units)

    def allocate(self, size: int) -> int | None:
        """The place of a new block of so many bytes; None if no gap is large enough."""
        units = max(_SMALLEST, -(-max(0, size - _BORROWED) // _UNIT) + _OWN)
        best = bisect_left(self._gaps, (units, 0, 0))
        if best == len(self._gaps):
            return None
        _, _, place = self._gaps[best]
        gap = self._close(place)
        if gap >= units + _SMALLEST:
            self._open(place + units, gap - units)
        else:
            units = gap
        self._block_at[place] = units
        self.used += units * _UNIT
        return place

    def free(self, place: int) -> None:
        """Give a block back."""
        units = self._block_at.pop(place)
        self.used -= units * _UNIT
        if (after := place + units) in self._gap_at:
            units += self._close(after)
        if place in self._gap_before:
            before = self._gap_before[place]
            units += self._close(before)
            place = before
        self._open(place, units)

    def _open(self, place: int, units: int) -> None:
        gap = units, next(self._numbers), place
        insort(self._gaps, gap)
        self._gap_at[place] = gap
        self._gap_before[place + units] = place

    def _close(self, place: int) -> int:
        gap = self._gap_at.pop(place)
        units = gap[0]
        del self._gap_before[place + units]
        del self._gaps[bisect_left(self._gaps, gap)]
        return units
