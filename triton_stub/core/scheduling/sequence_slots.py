"""Where sequences are executed: the slots of the instances, and which of the free ones is next.

Source: core ``src/sequence_batch_scheduler/``.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from triton_stub.core.scheduling.scheduler import Pending


class Slot:
    """A place for one sequence in an instance.

    ``queue`` holds the sequence's requests, and None where it ends without a request that says so.
    """

    __slots__ = ("in_flight", "instance", "number", "queue")

    def __init__(self, instance: int, number: int) -> None:
        self.instance = instance
        self.number = number
        self.queue: deque[Pending | None] = deque()
        #: Of the oldest strategy: True while a request is queued for the instance, or executed.
        self.in_flight = False


class FreeSlots:
    """The free slots; the next one has the lowest number of all.

    Which of several instances gets a sequence first, depends on how C++ keeps them: a
    ``std::priority_queue`` that compares numbers alone (libstdc++, ``bits/stl_heap.h``).
    """

    def __init__(self) -> None:
        self._heap: list[Slot] = []

    def __len__(self) -> int:
        return len(self._heap)

    def push(self, slot: Slot) -> None:
        """A slot is free."""
        self._heap.append(slot)
        self._rise(len(self._heap) - 1, slot)

    def pop(self) -> Slot | None:
        """Take the next one; None if there is none."""
        heap = self._heap
        if not heap:
            return None
        first, last = heap[0], heap.pop()
        if heap:
            self._rise(self._sink(), last)
        return first

    def _rise(self, hole: int, slot: Slot) -> None:
        heap = self._heap
        while hole and heap[(hole - 1) // 2].number > slot.number:
            heap[hole] = heap[(hole - 1) // 2]
            hole = (hole - 1) // 2
        heap[hole] = slot

    def _sink(self) -> int:
        """Move the hole at the top to the bottom, always to the lower child, or the right one."""
        heap, hole = self._heap, 0
        while (right := 2 * hole + 2) < len(heap):
            child = right - 1 if heap[right].number > heap[right - 1].number else right
            heap[hole] = heap[child]
            hole = child
        if right == len(heap):
            heap[hole] = heap[right - 1]
            hole = right - 1
        return hole
