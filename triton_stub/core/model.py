"""What every version of a model is to the rest of the server, whoever executes its requests."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from triton_stub import datatypes
from triton_stub.core.statistics import Statistics
from triton_stub.errors import InferenceError, StatusCode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from triton_stub.core.host import InstanceHost, ServerHost
    from triton_stub.core.labels import Labels
    from triton_stub.core.repository.source import ModelSource
    from triton_stub.core.request import InferenceRequest
    from triton_stub.core.responses import Responses
    from triton_stub.core.scheduling.hold import Hold
    from triton_stub.core.scheduling.scheduler import Pending


class ServedModel(ABC):
    """A version of a model. Requests go in by ``submit``, which returns the responses."""

    def __init__(self, config: Any, version: int, server: ServerHost) -> None:
        self.config = config
        self.name: str = config.name
        self.version = version
        self.statistics = Statistics(server.clock)
        #: Where it was loaded from: what is asked for again, and files that exist for it alone.
        self.source: ModelSource | None = None
        #: Of the classes of its outputs.
        self.labels: Labels = {}
        #: The configuration that was asked for when it was loaded, or updated, the last time.
        self.polled: Any = None
        #: Why it was not updated, if that has failed the last time.
        self.reason = ""
        #: True if a request may have any number of responses. Of an ensemble its steps tell.
        self.decoupled: bool = config.model_transaction_policy.decoupled
        self._server = server
        self._log = server.log
        self._use = threading.Lock()
        self._users = 0
        self._closing = False

    @abstractmethod
    def load(self) -> None:
        """Be ready for requests; LoadError, and nothing left running, if that fails."""

    def show_metrics(self) -> None:
        """Have the page of metrics show what the model counts, from its loading on."""
        cached: bool = self.config.response_cache.enable
        self._server.own_metrics.add(self.config, self.version, self.statistics, cached=cached)

    def traced(self, pending: Pending) -> Pending:
        """The same, which from now on tells its trace what happens to it, if it has one."""
        trace = pending.request.trace
        if trace is not None:
            pending.answer.trace = trace
            # The server's sequence batchers do not show their inputs.
            in_sequence = self.config.WhichOneof("scheduling_choice") == "sequence_batching"
            inputs = () if in_sequence else pending.validated.inputs
            request_id = pending.request.request_id
            trace.queued(self.name, self.version, request_id, inputs, pending.enqueued)
        return pending

    def hide_metrics(self) -> None:
        """The same does so no more: the model is gone."""
        self._server.own_metrics.remove(self.statistics)

    def close(self, *, at_once: bool = False) -> None:
        """Take no more requests; those in the queue are still executed.

        Its users may send theirs until they let go, unless this is to be ``at_once``, as at the
        end of the server.
        """
        with self._use:
            self._closing = True
            if self._users == 0 or at_once:
                self._stop()

    def use(self) -> bool:
        """Keep it from closing until ``let_go``, for requests to come; False if it is closed.

        On the server a request to an ensemble does so with the models of all of its steps.
        """
        with self._use:
            if self._closing:
                return False
            self._users += 1
            return True

    def let_go(self) -> None:
        """A user of it has no more requests."""
        with self._use:
            self._users -= 1
            if self._users == 0 and self._closing:
                self._stop()

    @abstractmethod
    def _stop(self) -> None:
        """Take no more requests, whoever has them; may be called more than once."""

    @abstractmethod
    def unload(self, timeout: float | None = None, *, since: float | None = None) -> bool:
        """Answer what is queued, and stop.

        What is not done after ``timeout`` seconds, counted from ``since`` (of
        ``time.monotonic``), is given up: whoever waits for it gets an error. True if there was
        none of this.
        """

    @abstractmethod
    def ready(self) -> bool:
        """True if it takes requests."""

    @abstractmethod
    def where(self) -> str:
        """Where each instance is in its code, for people who wait for the model."""

    def hold(self) -> Hold:
        """Collect requests in the queue; InferenceError if there is none, or it is done already."""
        raise InferenceError(
            f"model '{self.name}' has no queue of its own: hold the models of its steps",
            StatusCode.UNSUPPORTED,
        )

    def check_waiting(self) -> None:  # noqa: B027 - most can be waited for
        """InferenceError if the thread that asks would wait for itself: it holds the model."""

    @abstractmethod
    def hosts(self) -> list[InstanceHost]:
        """What its instances see of the server."""

    @abstractmethod
    def prepare(self, request: InferenceRequest) -> Pending:
        """Validate one request; InferenceError if it is refused."""

    @abstractmethod
    def enqueue(self, pending: Pending) -> None:
        """Queue one request that was prepared; InferenceError if it is refused."""

    def submit(self, request: InferenceRequest) -> Responses:
        """Validate and queue one request; InferenceError if it is refused."""
        pending = self.prepare(request)
        self.enqueue(pending)
        return pending.answer

    @abstractmethod
    def submit_batch(self, requests: Sequence[InferenceRequest]) -> list[Responses]:
        """Validate requests and have them executed in one call of ``execute``, in this order.

        InferenceError if one is refused, or if the server would never put them into one call.
        """


def metadata(model: ServedModel, versions: Sequence[int]) -> dict[str, Any]:
    """Model metadata as the KServe v2 protocol prints it; shapes include the batch dimension."""
    batch = [-1] if model.config.max_batch_size else []
    return {
        "name": model.name,
        "versions": [str(version) for version in versions],
        "platform": model.config.platform or model.config.backend,
        **{
            plural: [
                {
                    "name": entry.name,
                    "datatype": datatypes.from_number(entry.data_type).name,
                    "shape": [*batch, *entry.dims],
                }
                for entry in entries
            ]
            for plural, entries in (
                ("inputs", model.config.input),
                ("outputs", model.config.output),
            )
        },
    }
