"""The requests of one priority level that wait, and how long and how many of them may.

Source: core ``src/scheduler_utils.cc``, ``PriorityQueue::PolicyQueue``.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from triton_stub.errors import InferenceError, StatusCode

if TYPE_CHECKING:
    from triton_stub.core.scheduling.scheduler import Pending


@dataclass(frozen=True, slots=True)
class QueuePolicy:
    """``ModelQueuePolicy``: 0 means without end, for the time and for the number of requests.

    A client may only shorten the time, and only if there is one.
    """

    timeout_ns: int = 0
    delays: bool = False
    may_shorten: bool = False
    most: int = 0

    @classmethod
    def of(cls, policy: Any) -> Self:
        """Read one from a configuration."""
        return cls(
            timeout_ns=policy.default_timeout_microseconds * 1000,
            delays=policy.timeout_action == policy.TimeoutAction.Value("DELAY"),
            may_shorten=policy.allow_timeout_override,
            most=policy.max_queue_size,
        )

    @property
    def is_free(self) -> bool:
        """True if no request is ever refused or late; batches are then formed ahead of time."""
        return not (self.timeout_ns or self.may_shorten or self.most)

    def deadline(self, pending: Pending) -> int:
        """Until when a request may wait; 0 for ever."""
        limit = self.timeout_ns
        if self.may_shorten and pending.request.timeout:
            limit = min(limit, pending.request.timeout * 1000)
        return pending.enqueued + limit if limit else 0


class LevelQueue:
    """First those in time, in the order in which they came, then those that are delayed."""

    def __init__(self, policy: QueuePolicy) -> None:
        self._policy = policy
        self._fresh: deque[tuple[Pending, int]] = deque()
        self._delayed: deque[Pending] = deque()

    def __len__(self) -> int:
        return len(self._fresh) + len(self._delayed)

    @property
    def fresh(self) -> int:
        """How many are not delayed: the next one comes behind them."""
        return len(self._fresh)

    def put(self, pending: Pending) -> None:
        """Add a request; InferenceError if there are too many."""
        if 0 < self._policy.most <= len(self):
            raise InferenceError(
                f"{pending.request.log_prefix}Exceeds maximum queue size", StatusCode.UNAVAILABLE
            )
        self._fresh.append((pending, self._policy.deadline(pending)))

    def pop(self) -> Pending:
        """Take the first one."""
        return self._fresh.popleft()[0] if self._fresh else self._delayed.popleft()

    def at(self, index: int) -> tuple[Pending, int]:
        """A request and its deadline; what is delayed has none any more."""
        if index < len(self._fresh):
            return self._fresh[index]
        return self._delayed[index - len(self._fresh)], 0

    def settle(self, index: int, now: int, skipped: list[tuple[Pending, InferenceError]]) -> bool:
        """See to it that the request at ``index`` may be executed; False if there is none.

        What is cancelled or late goes into ``skipped``, with its answer, or to the delayed ones,
        at which nobody looks again.
        """
        while index < len(self._fresh):
            pending, deadline = self._fresh[index]
            is_late = 0 < deadline < now
            if not (pending.answer.cancelled or is_late):
                return True
            del self._fresh[index]
            if pending.answer.cancelled:
                # The text is empty on the server, too.
                skipped.append((pending, InferenceError("", StatusCode.CANCELLED)))
            elif self._policy.delays:
                self._delayed.append(pending)
            else:
                skipped.append((pending, _expired()))
        return index < len(self)

    def reject_late(self, now: int) -> list[tuple[Pending, InferenceError]]:
        """Take out those whose time is over, unless they are to be delayed."""
        if self._policy.delays or not self._policy.timeout_ns:
            return []
        late = [pending for pending, deadline in self._fresh if deadline < now]
        if late:
            self._fresh = deque(item for item in self._fresh if item[1] >= now)
        return [(pending, _expired()) for pending in late]

    def first_rejection(self) -> int | None:
        """When the first of them is to be rejected."""
        if self._policy.delays or not self._policy.timeout_ns or not self._fresh:
            return None
        return min(deadline for _, deadline in self._fresh)


def _expired() -> InferenceError:
    return InferenceError("Request timeout expired", StatusCode.UNAVAILABLE)
