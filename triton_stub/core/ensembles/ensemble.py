"""A version of an ensemble: its requests go through models that are its steps.

Source: core ``src/ensemble_scheduler/``.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from triton_stub import deviations
from triton_stub.core import labels
from triton_stub.core.cache import ModelCache
from triton_stub.core.ensembles.graph import Graph
from triton_stub.core.ensembles.request import EnsembleRequest
from triton_stub.core.model import ServedModel
from triton_stub.core.responses import Responses
from triton_stub.core.scheduling.scheduler import Pending, refuse_late
from triton_stub.core.validation import Validator
from triton_stub.errors import InferenceError, ServerError, StatusCode
from triton_stub.pb_utils.logger import LogLevel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from triton_stub.core.host import InstanceHost, ServerHost
    from triton_stub.core.labels import Labels
    from triton_stub.core.request import InferenceRequest


class EnsembleModel(ServedModel):
    """A version of an ensemble. It has neither instances nor a queue."""

    def __init__(self, config: Any, version: int, server: ServerHost) -> None:
        super().__init__(config, version, server)
        self._graph = Graph(config)
        self._validator = Validator(config, backend=False)
        self._changed = threading.Condition()
        self._requests: set[EnsembleRequest] = set()
        self._closed = False
        self._cache = ModelCache.of(self, server, is_ensemble=True)

    def load(self) -> None:
        """Begin to count; the steps are models that serve already."""
        most = getattr(self.config.ensemble_scheduling, "max_inflight_requests", 0)
        if most:
            self._log.note(
                LogLevel.INFO,
                f"Ensemble model '{self.name}' configured with max_inflight_requests: {most}",
            )
        self.labels = labels.with_labels_of_steps(self.config, self.labels, self._labels_of)
        self.show_metrics()

    def _labels_of(self, step: Any) -> Labels:
        assert self._server.models is not None, "an ensemble without a repository"
        return self._server.models.find(step.model_name, step.model_version).labels

    def _stop(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def unload(self, timeout: float | None = None, *, since: float | None = None) -> bool:
        """Wait until every request has gone through its steps; see ``ServedModel``."""
        self.close()
        timeout = self._server.exit_timeout if timeout is None else timeout
        until = (time.monotonic() if since is None else since) + timeout
        with self._changed:
            done = self._changed.wait_for(
                lambda: self._closed and not self._requests, max(0.0, until - time.monotonic())
            )
            stuck, self._requests, self._closed = self._requests, set(), True
        self.hide_metrics()
        if done:
            return True
        text = deviations.EXIT_LIMIT.text(
            f"ensemble '{self.name}' did not stop within {timeout:g} s",
            f"Correct the models of its steps, or raise exit_timeout if they need longer. "
            f"{self.where()}",
        )
        self._log.note(LogLevel.ERROR, text)
        for request in stuck:
            request.give_up(
                InferenceError(f"this request is given up: {text}", StatusCode.UNAVAILABLE)
            )
        return False

    def ready(self) -> bool:
        """True: without its steps it is not served at all."""
        return True

    def where(self) -> str:
        """Where each instance of its steps' models is in its code."""
        return "\n".join(filter(None, (model.where() for model in self._models())))

    def hosts(self) -> list[InstanceHost]:
        """What the instances of its steps' models see of the server."""
        return [host for model in self._models() for host in model.hosts()]

    def prepare(self, request: InferenceRequest) -> Pending:
        """Validate one request; InferenceError if it is refused."""
        validated = self._validator.validate(request)
        new_responses = Responses if self._cache is None else self._cache.new_responses
        answer = new_responses(self._server.response_timeout, self.where)
        return self.traced(Pending(request, validated, self._server.clock.now(), answer))

    def enqueue(self, pending: Pending) -> None:
        """Send one request on its way; InferenceError after ``close``."""
        if self._cache is not None and self._cache.answer(pending):
            return
        assert self._server.models is not None, "an ensemble without a repository"
        request = EnsembleRequest(
            self,
            self._graph,
            pending,
            find=self._server.models.find,
            log=self._log,
            ended=self._ended,
            closes_circle=self._server.closes_circle,
            start=self._server.clock.now(),
        )
        with self._changed:
            if self._closed:
                refuse_late(pending)
            self._requests.add(request)
        request.start()

    def check_waiting(self) -> None:
        """InferenceError in the thread that holds one of its steps' models."""
        for model in self._models():
            model.check_waiting()

    def submit_batch(self, requests: Sequence[InferenceRequest]) -> list[Responses]:
        """Validate and send one request; InferenceError for more of them.

        The server would never put two requests to an ensemble into one.
        """
        if len(requests) > 1:
            raise InferenceError(
                f"{len(requests)} requests to ensemble '{self.name}' go through its steps one by "
                "one, and no call executes them together: send them with infer() or async_infer()",
                StatusCode.INVALID_ARG,
            )
        return [self.submit(request) for request in requests]

    def _ended(self, request: EnsembleRequest) -> None:
        with self._changed:
            self._requests.discard(request)
            if self._closed:
                self._changed.notify_all()

    def _models(self) -> list[ServedModel]:
        """The models of its steps, as far as they are served."""
        assert self._server.models is not None, "an ensemble without a repository"
        found: dict[str, ServedModel] = {}
        for step in self._graph.steps:
            try:
                model = self._server.models.find(step.model_name, step.model_version)
            except ServerError:
                continue
            found[f"{model.name}/{model.version}"] = model
        return list(found.values())
