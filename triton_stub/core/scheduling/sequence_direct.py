"""The direct strategy: a sequence's requests have a fixed place in the batches of an instance.

Source: core ``src/sequence_batch_scheduler/``, ``DirectSequenceBatch``. The server's thread waits
until a batch is executed before it makes the next one; here the instance asks for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from triton_stub.core.hash_order import visited
from triton_stub.core.request import SEQUENCE_END, InferenceRequest
from triton_stub.core.scheduling.scheduler import Pending
from triton_stub.core.scheduling.sequence_controls import zeros
from triton_stub.core.validation import ValidatedRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from triton_stub.core.scheduling.batch_policy import BatchPolicy
    from triton_stub.core.scheduling.sequence_controls import Extras
    from triton_stub.core.scheduling.sequence_slots import Slot
    from triton_stub.core.tensor import Tensor


class DirectStrategy:
    """The slots of one instance. Whoever calls holds the scheduler's lock.

    ``release`` gives a slot that its sequence has left to the next one.
    """

    def __init__(
        self,
        config: Any,
        policy: BatchPolicy,
        slots: Sequence[Slot],
        extras: Extras,
        release: Callable[[Slot], None],
    ) -> None:
        direct = config.sequence_batching.direct
        self._policy = policy
        self._slots = slots
        self._extras = extras
        self._release = release
        # In single precision, as the server divides.
        self._rows = np.float32(max(1, config.max_batch_size))
        self._least = np.float32(direct.minimum_slot_utilization)
        self._delay_ns = direct.max_queue_delay_microseconds * 1000 if self._least else 0

    def enqueue(self, slot: Slot, pending: Pending | None) -> None:
        """Queue a request of a sequence, or with None its end."""
        slot.queue.append(pending)

    def complete(self, pending: Pending) -> None:
        """A request has been executed."""

    def settle(self) -> None:
        """Free the slots whose sequence is over, because what was executed is done."""
        self._heads()

    def is_idle(self) -> bool:
        """True if nothing is queued."""
        return not any(slot.queue for slot in self._slots)

    def drain(self) -> list[Pending]:
        """Empty the queues, apart from those of the slots."""
        return []

    def form(self, now: int, *, at_once: bool) -> tuple[list[Pending], int]:
        """The next batch, and how many nanoseconds to wait for one; ``at_once`` ends all delays."""
        heads = self._heads()
        if not heads:
            return [], 0
        if self._delay_ns and not at_once:
            age = now - min(head.enqueued for _, head in heads)
            if age < self._delay_ns and np.float32(len(heads)) / self._rows < self._least:
                return [], self._delay_ns - age
        last, first = heads[-1][0], heads[0][1]
        like, group = first.validated, self._policy.group(first)
        batch: list[Pending] = []
        for slot in self._slots[: last + 1]:
            pending = self._take(slot, group) or null_request(first.request, like)
            self._extras.add(pending)
            batch.append(pending)
            if pending.flags & SEQUENCE_END:
                self._release(slot)
        return batch, 0

    def _heads(self) -> list[tuple[int, Pending]]:
        """The next request of each slot that has one, with the slot's place."""
        heads: list[tuple[int, Pending]] = []
        for place, slot in enumerate(self._slots):
            if slot.queue:
                head = slot.queue[0]
                if head is None:
                    slot.queue.popleft()
                    self._release(slot)
                elif head.answer.cancelled:
                    self._release(slot)
            if slot.queue:
                head = slot.queue[0]
                assert head is not None, "a sequence without a request"
                heads.append((place, head))
        return heads

    def _take(self, slot: Slot, group: object) -> Pending | None:
        """The next request of a slot, None if there is none that fits to the others."""
        head = slot.queue[0] if slot.queue else None
        if head is None or self._policy.group(head) != group:
            return None
        slot.queue.popleft()
        return head


def null_request(like: InferenceRequest, validated: ValidatedRequest) -> Pending:
    """A request that only fills a slot: inputs of the same shapes, and no outputs.

    The server leaves their values as they are in its memory, save those of texts; here all are 0.
    """
    given = {tensor.name: tensor for tensor in validated.inputs}
    inputs = [_zeros(given[tensor.name]) for tensor in _in_order(like.inputs)]
    request = InferenceRequest(model_name=like.model_name, inputs=inputs)
    # From one map into another, as those of a client's request, whose map they come from.
    seen = _in_order(_in_order(inputs))
    return Pending(request, ValidatedRequest(validated.batch_size, seen, frozenset()), is_null=True)


def _zeros(tensor: Tensor) -> Tensor:
    return zeros(tensor.name, tensor.datatype, tensor.shape)


def _in_order(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [tensors[index] for index in visited(tuple([tensor.name for tensor in tensors]))]
