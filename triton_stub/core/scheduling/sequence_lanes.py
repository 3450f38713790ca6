"""What the sequence batcher has of each instance: its slots, and how they become batches.

Source: core ``src/sequence_batch_scheduler/``. Instances come and go while the model serves
(``SequenceBatchScheduler::Update``): one that goes keeps the sequences that it has.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from triton_stub.core.scheduling.sequence_direct import DirectStrategy
from triton_stub.core.scheduling.sequence_oldest import OldestStrategy
from triton_stub.core.scheduling.sequence_slots import FreeSlots, Slot

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from triton_stub.core.clock import Clock
    from triton_stub.core.scheduling.batch_policy import BatchPolicy
    from triton_stub.core.scheduling.scheduler import Pending
    from triton_stub.core.scheduling.sequence_controls import Extras


class Lane:
    """An instance. ``wake`` is what it waits on."""

    __slots__ = ("slots", "strategy", "wake")

    def __init__(
        self,
        slots: Sequence[Slot],
        strategy: DirectStrategy | OldestStrategy,
        wake: threading.Condition,
    ) -> None:
        self.slots = slots
        self.strategy = strategy
        self.wake = wake


class Lanes:
    """The instances by their number, and their free slots. Whoever calls holds the lock.

    ``release`` and ``cancel`` are as the strategies want them.
    """

    def __init__(
        self,
        config: Any,
        policy: BatchPolicy,
        extras: Extras,
        lock: threading.Lock,
        clock: Clock,
        *,
        release: Callable[[Slot], None],
        cancel: Callable[[Pending], None],
    ) -> None:
        self._config = config
        self._policy = policy
        self._extras = extras
        self._lock = lock
        self._clock = clock
        self._release = release
        self._cancel = cancel
        oldest = config.sequence_batching.oldest
        self._slots_each = oldest.max_candidate_sequences or max(1, config.max_batch_size)
        self._lanes: dict[int, Lane] = {}
        self._free = FreeSlots()
        # Of the instances that go: how many of their slots have a sequence still.
        self._leaving: dict[int, int] = {}

    def __getitem__(self, instance: int) -> Lane:
        """That of an instance, which gets no sequence before it is added."""
        lane = self._lanes.get(instance)
        if lane is None:
            lane = self._lanes[instance] = self._new(instance)
        return lane

    def __iter__(self) -> Iterator[Lane]:
        return iter(self._lanes.values())

    def add(self, instances: Collection[int]) -> None:
        """Have more instances, which get sequences from now on."""
        for instance in instances:
            for slot in self[instance].slots:
                self._free.push(slot)

    def update(self, added: Collection[int], removed: Collection[int]) -> None:
        """Have other instances; those ``removed`` get no new sequences."""
        self.add(added)
        self._leaving |= {instance: len(self[instance].slots) for instance in removed}
        # One by one into another heap, as on the server, where that is their order from now on.
        left = FreeSlots()
        while (slot := self._free.pop()) is not None:
            if not self.retire(slot):
                left.push(slot)
        self._free = left

    def discard(self, instances: Collection[int]) -> None:
        """Forget instances that were never added."""
        self._leaving |= dict.fromkeys(instances, 0)
        for instance in self._lanes.keys() & set(instances):
            self._lanes[instance].wake.notify()

    def take(self) -> Slot | None:
        """The next free slot; None if there is none."""
        return self._free.pop()

    def give_back(self, slot: Slot) -> None:
        """A slot is free."""
        self._free.push(slot)

    def retire(self, slot: Slot) -> bool:
        """True if a slot that is free is of no use any more, because its instance goes."""
        if slot.instance not in self._leaving:
            return False
        self._leaving[slot.instance] -= 1
        if not self._leaving[slot.instance]:
            self._lanes[slot.instance].wake.notify()
        return True

    def has_left(self, instance: int) -> bool:
        """True, once, if an instance goes that has nothing to do any more."""
        if self._leaving.get(instance) == 0 and self._lanes[instance].strategy.is_idle():
            del self._leaving[instance], self._lanes[instance]
            return True
        return False

    def notify_all(self) -> None:
        """Wake every instance."""
        for lane in self:
            lane.wake.notify_all()

    def _new(self, instance: int) -> Lane:
        slots = [Slot(instance, number) for number in range(self._slots_each)]
        wake = threading.Condition(self._lock)
        self._clock.attend(wake)
        return Lane(slots, self._strategy(slots), wake)

    def _strategy(self, slots: Sequence[Slot]) -> DirectStrategy | OldestStrategy:
        config, policy, extras = self._config, self._policy, self._extras
        if not config.sequence_batching.HasField("oldest"):
            return DirectStrategy(config, policy, slots, extras, self._release)
        return OldestStrategy(
            config, policy, extras, self._release, cancel=self._cancel, clock=self._clock
        )
