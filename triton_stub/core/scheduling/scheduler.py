"""What every scheduler of a model offers, and the requests that wait in it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NoReturn, Protocol

from triton_stub import deviations
from triton_stub.core.responses import Responses
from triton_stub.core.scheduling.hold import Holding
from triton_stub.errors import InferenceError, StatusCode

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from triton_stub.core.request import InferenceRequest
    from triton_stub.core.scheduling.batch_policy import BatchPolicy
    from triton_stub.core.scheduling.hold import Hold
    from triton_stub.core.validation import ValidatedRequest

# Of a request that is rescheduled: core ``src/infer_request.cc``.
NOT_HANDLED = (
    "Request is released with TRITONSERVER_REQUEST_RELEASE_RESCHEDULE, while the model is not "
    "configured to handle such a flag."
)


class Pending:
    """A request that waits for its execution. ``enqueued`` is in ``time.monotonic_ns``.

    ``correlation_id`` and ``flags`` are the client's, unless the scheduler sets its own. A
    request that only fills a gap in a batch ``is_null``: nobody waits for its answer.
    """

    __slots__ = (
        "answer",
        "batch_size",
        "correlation_id",
        "enqueued",
        "flags",
        "is_null",
        "request",
        "validated",
    )

    def __init__(
        self,
        request: InferenceRequest,
        validated: ValidatedRequest,
        enqueued: int | None = None,
        answer: Responses | None = None,
        *,
        is_null: bool = False,
    ) -> None:
        self.request = request
        self.validated = validated
        self.enqueued = time.monotonic_ns() if enqueued is None else enqueued
        self.answer = Responses() if answer is None else answer
        #: Rows that the request adds to a batch; 1 on a model without batching.
        self.batch_size = validated.batch_size or 1
        self.correlation_id = request.correlation_id
        self.flags = request.flags
        self.is_null = is_null


class Scheduler(Protocol):
    """The queue of one model. Its instances ask for batches, each by its number."""

    @property
    def is_iterative(self) -> bool:
        """True if a model may have its requests executed again."""

    @property
    def held(self) -> Hold | None:
        """Who holds the requests; None if they are executed."""

    def hold(self, what: str) -> Hold:
        """Execute nothing until the hold is released; ``what`` is the model's name for people."""

    def put(self, pending: Pending) -> None:
        """Queue one request; InferenceError if it is refused, as every request after ``close``."""

    def put_batch(self, batch: Sequence[Pending]) -> None:
        """Queue requests that shall be executed together, before all others.

        InferenceError after ``close``, and if the server would never execute them together.
        """

    def next_batch(self, instance: int = 0) -> list[Pending] | None:
        """Wait for the next batch of an instance; None when nothing will come any more."""

    def update(self, added: Collection[int], removed: Collection[int]) -> None:
        """Have other instances; those ``removed`` do what is left for them to do."""

    def discard(self, instances: Collection[int]) -> None:
        """These instances, which were not added, may end."""

    def reschedule(self, pending: Pending) -> str:
        """Execute a request again; why not, in the server's words, if it cannot be."""

    def instead(self, pending: Pending) -> str:
        """What the client of a request gets that cannot be executed again."""

    def release(self, pending: Pending) -> None:
        """A request has been executed, and is not rescheduled."""

    def close(self) -> None:
        """Take no more requests; those in the queue are still executed."""

    def drain(self) -> list[Pending]:
        """Empty the queue: the requests that nobody will execute."""


class OnceScheduler(Holding):
    """What schedulers share that execute each request once."""

    is_iterative = False

    def __init__(self, policy: BatchPolicy) -> None:
        self._policy = policy
        self._closed = False

    def reschedule(self, pending: Pending) -> str:  # noqa: ARG002 - another scheduler does it
        """Why a request is not executed again."""
        return NOT_HANDLED

    def instead(self, pending: Pending) -> str:  # noqa: ARG002 - as above
        """What the client of such a request gets if the model does not answer it, either."""
        return deviations.NO_RESCHEDULE.text(
            "the model asks for this request to be rescheduled, which the server does only with "
            "`sequence_batching { iterative_sequence: true }`",
            "Answer the request, or configure that.",
        )

    def release(self, pending: Pending) -> None:
        """A request has been executed, and is not rescheduled."""

    def _check(self, batch: Sequence[Pending]) -> None:
        # The server takes batches from nobody: deviations.EXACT_BATCH.
        if obstacle := self._policy.obstacle(batch):
            raise InferenceError(
                f"the server would never execute these {len(batch)} requests in one call: "
                f"{obstacle}.",
                StatusCode.INVALID_ARG,
            )

    def _refuse_if_closed(self, pending: Pending) -> None:
        if self._closed:
            refuse_late(pending)


def refuse_late(pending: Pending) -> NoReturn:
    """A request comes after the end of its model: InferenceError in the server's words."""
    raise InferenceError(
        f"{pending.request.log_prefix}Server is stopping, scheduler for model has stopped "
        "accepting new inference requests",
        StatusCode.UNAVAILABLE,
    )
