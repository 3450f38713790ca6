"""Where an instance runs: in the thread that asks, or in a process (``process_executor.py``)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from triton_stub.errors import InferenceError
from triton_stub.pb_utils.request import RELEASE_RESCHEDULE
from triton_stub.runtime.instance import Instance

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from triton_stub.core.clock import Clock
    from triton_stub.core.conversion import Conversion
    from triton_stub.core.request import InferenceResponse
    from triton_stub.core.scheduling.scheduler import Pending
    from triton_stub.pb_utils.host import Host
    from triton_stub.pb_utils.request import InferenceRequest
    from triton_stub.runtime.instance import InstanceSpec


class Sender(Protocol):
    """The sender of a request that the model wants to see again."""

    @property
    def closed(self) -> bool:
        """True if it has sent the final response all the same."""

    def drop(self, instead: str) -> None:
        """Let go of the request; ``instead`` is for its client, if the model lets go of it, too."""


@dataclass(slots=True)
class Execution:
    """What became of one batch.

    Attributes:
        answers: a response to each request; None if it is answered otherwise, or later.
        infer_start: when ``execute`` was called, and
        infer_end: when it came back, both of the clock of the server.
        rescheduled: the senders of requests that are to be executed again.
        success: False if ``execute`` failed.
        lost: True if the model was not there any more, or did not come back.
    """

    answers: Sequence[InferenceResponse | None]
    infer_start: int
    infer_end: int
    rescheduled: Mapping[Pending, Sender] = field(default_factory=dict)
    success: bool = True
    lost: bool = False


class Executor(Protocol):
    """One instance of a model. All but the last three are called by one and the same thread."""

    def load(self) -> None:
        """Import the model and run ``initialize``; LoadError with the server's text if it fails."""

    def execute(self, batch: Sequence[Pending]) -> Execution:
        """Run one batch."""

    def die(self, text: str) -> None:
        """Refuse every later request: the real server is not there any more."""

    def unload(self) -> None:
        """Run ``finalize``."""

    def finish(self) -> None:
        """After ``unload``, or a ``load`` that failed: wait until the instance is really gone."""

    def check_ready(self) -> None:
        """ServerError, with the server's text, if the instance is not ready."""

    def where(self) -> str:
        """Where the model is in its code, for people who wait for it."""

    def give_up(self) -> None:
        """Nobody waits for the instance any more: free what it keeps from others."""


class ThreadExecutor:
    """An instance in the thread that calls it.

    In place of a process: deviations.THREADS, deviations.SIGNALS, deviations.ENVIRONMENT,
    deviations.CRASH. Unless ``is_alone``: then the process is the instance's own.
    """

    def __init__(
        self,
        spec: InstanceSpec,
        conversion: Conversion,
        host: Host,
        clock: Clock,
        *,
        is_alone: bool = False,
    ) -> None:
        self._clock = clock
        self._convert = conversion
        self._log = host.log
        self.instance = Instance(spec, host, is_alone=is_alone)
        self.load = self.instance.load
        self.die = self.instance.die
        self.unload = self.instance.unload
        self.check_ready = self.instance.check_ready
        self.where = self.instance.activity.where
        self.give_up = self.instance.activity.give_up

    def execute(self, batch: Sequence[Pending]) -> Execution:
        """Run one batch."""
        convert, instance = self._convert, self.instance
        requests = [convert.to_model(pending, instance.request_class) for pending in batch]
        infer_start = self._clock.now()
        try:
            responses = instance.execute(requests)
        except InferenceError as error:
            failures = [convert.failure(pending.request, error) for pending in batch]
            return Execution(failures, infer_start, self._clock.now(), success=False)
        # As the server counts: a response with an error of its own is a success.
        infer_end = self._clock.now()
        answers: list[InferenceResponse | None] = []
        again: dict[Pending, Sender] = {}
        for pending, request, response in zip(batch, requests, responses, strict=True):
            answers.append(
                None if response is None else convert.from_model(pending.request, response)
            )
            # A failed execute reschedules nothing.
            if (request._release_flags or 0) & RELEASE_RESCHEDULE:
                again[pending] = _LocalSender(request)
        return Execution(answers, infer_start, infer_end, again)

    def finish(self) -> None:
        """Wait for what the model has started, and tell of it."""
        self.instance.activity.finish(self._log)


class _LocalSender:
    """Keeps the request, too: without anybody who has it, it would be answered by an error."""

    def __init__(self, request: InferenceRequest) -> None:
        self._request = request

    @property
    def closed(self) -> bool:
        return self._request._sender._closed

    def drop(self, instead: str) -> None:
        self._request._sender._drop(instead)
