"""Which free slot is next."""

import pytest

from triton_stub.core.scheduling.sequence_slots import FreeSlots, Slot


def taken(instances, numbers):
    """Slots of so many instances, in the order in which sequences get them."""
    free = FreeSlots()
    for instance in range(instances):
        for number in range(numbers):
            free.push(Slot(instance, number))
    slots = [free.pop() for _ in range(instances * numbers)]
    assert free.pop() is None
    return slots, free


@pytest.mark.parametrize(
    ("instances", "numbers", "order"),
    [
        (1, 4, [0, 0, 0, 0]),
        # As tritonserver 2.51 with these instances, numbered as they come.
        (2, 2, [0, 1, 0, 1]),
        (3, 3, [0, 2, 1, 1, 2, 0, 0, 1, 2]),
    ],
)
def test_the_lowest_number_of_all_instances(instances, numbers, order):
    slots, _ = taken(instances, numbers)
    assert [slot.instance for slot in slots] == order
    assert [slot.number for slot in slots] == sorted(slot.number for slot in slots)


def test_a_slot_that_is_free_again():
    slots, free = taken(2, 3)
    for slot in reversed(slots):
        free.push(slot)
    assert len(free) == 6
    assert [free.pop().number for _ in range(6)] == [0, 0, 1, 1, 2, 2]
    assert len(free) == 0
