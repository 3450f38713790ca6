"""Which of many numbers come first, as ``std::sort`` of GNU's C++ library finds them.

What is equal it leaves in an order of its own, which a client sees of classes that are equally
likely. So this goes through its steps (``stl_algo.h``, ``stl_heap.h``: introsort), as far as the
first places depend on them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from triton_stub.datatypes import Array

# Ranges up to this length are left to the insertion sort at the end.
_THRESHOLD = 16


def descending(values: Array, count: int) -> list[int]:
    """Indices of the ``count`` greatest values, the greatest first."""
    count = min(count, len(values))
    order = np.argsort(values, kind="stable")[::-1][: count + 1]
    first = values[order]
    if bool(np.all(first[:-1] > first[1:])):  # not so for NaN
        indices: list[int] = order[:count].tolist()
        return indices
    # Beside NaN, which is neither before nor after anything, any place depends on all of them.
    needed = len(values) if np.isnan(values).any() else count
    return _Introsort(values.tolist(), needed).sorted()[:count]


class _Introsort:
    def __init__(self, values: list[float], count: int) -> None:
        # One more at the end, before which nothing comes: NaN may lead there.
        self._values = [*values, math.nan]
        self._indices = list(range(len(self._values)))
        self._count = count
        # What is behind the end has no place among the first ones that are needed.
        self._end = len(values)

    def sorted(self) -> list[int]:
        self._loop(0, self._end, 2 * (self._end.bit_length() - 1))
        self._insert_all()
        return self._indices

    def _before(self, one: int, other: int) -> bool:
        """Of two indices, not of two places."""
        return self._values[one] > self._values[other]

    def _loop(self, first: int, last: int, depth: int) -> None:
        while last - first > _THRESHOLD:
            if depth == 0:
                self._heap_sort(first, last)
                return
            depth -= 1
            self._choose_pivot(first, first + 1, (first + last) // 2, last - 1)
            cut = self._partition(first + 1, last, first)
            if cut < self._count:
                self._loop(cut, last, depth)
            else:
                self._end = min(self._end, cut)
            last = cut

    def _choose_pivot(self, place: int, a: int, b: int, c: int) -> None:
        """The median of three to the front."""
        of, before = self._indices, self._before
        if before(of[a], of[b]):
            chosen = b if before(of[b], of[c]) else c if before(of[a], of[c]) else a
        else:
            chosen = a if before(of[a], of[c]) else c if before(of[b], of[c]) else b
        self._swap(place, chosen)

    def _partition(self, first: int, last: int, pivot: int) -> int:
        of, before = self._indices, self._before
        while True:
            while before(of[first], of[pivot]):
                first += 1
            last -= 1
            while before(of[pivot], of[last]):
                last -= 1
            if first >= last:
                return first
            self._swap(first, last)
            first += 1

    def _swap(self, a: int, b: int) -> None:
        self._indices[a], self._indices[b] = self._indices[b], self._indices[a]

    def _insert_all(self) -> None:
        of = self._indices
        for place in range(1, self._end):
            index = of[place]
            # Of the first ones only: the others never get as far as the front.
            if place < _THRESHOLD and self._before(index, of[0]):
                of[1 : place + 1] = of[:place]
                of[0] = index
                continue
            hole = place
            while hole and self._before(index, of[hole - 1]):
                of[hole] = of[hole - 1]
                hole -= 1
            of[hole] = index

    def _heap_sort(self, first: int, last: int) -> None:
        """For values in an order in which partitions get nowhere."""
        heap = self._indices[first:last]
        for parent in reversed(range(len(heap) // 2)):
            self._sift(heap, parent, len(heap), heap[parent])
        for size in reversed(range(1, len(heap))):
            index, heap[size] = heap[size], heap[0]
            self._sift(heap, 0, size, index)
        self._indices[first:last] = heap

    def _sift(self, heap: list[int], top: int, size: int, index: int) -> None:
        """Move the hole at the top down to a leaf, and the index from there up to its place."""
        hole = top
        while (child := 2 * hole + 2) <= size:
            # Of two children the right one, unless it comes before the left one; or the only one.
            if child == size or self._before(heap[child], heap[child - 1]):
                child -= 1
            heap[hole] = heap[child]
            hole = child
        while hole > top and self._before(heap[parent := (hole - 1) // 2], index):
            heap[hole] = heap[parent]
            hole = parent
        heap[hole] = index
