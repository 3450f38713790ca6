"""The server, as the objects of one instance reach it: at the right times only."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from triton_stub import deviations
from triton_stub.pb_utils.errors import TritonModelException

if TYPE_CHECKING:
    from collections.abc import Mapping

    from triton_stub.pb_utils.host import Call, Host
    from triton_stub.pb_utils.logger import LogLevel, LogSink
    from triton_stub.pb_utils.metrics import MetricStore
    from triton_stub.pb_utils.request import InferenceRequest
    from triton_stub.runtime.own_process import OwnScope
    from triton_stub.runtime.scope import ImportScope


class Services:
    """``pb_utils.host.Host`` of one instance, with what depends on the instance's own life.

    ``started`` is True from ``initialize`` on: the server listens (``src/pb_stub.cc``). ``open``
    is True between the end of ``initialize`` and the start of ``finalize``, from whatever thread
    (``src/infer_request.cc``, ``Exec``). ``ended`` is True after ``finalize``: the process is gone.
    """

    def __init__(self, host: Host) -> None:
        self._host = host
        self._log = _ModelLog(self, host.log)
        self._pid = os.getpid()
        self.started = False
        self.open = False
        self.ended = False
        #: Where the model imports from.
        self.scope: ImportScope | OwnScope | None = None

    @property
    def instance_name(self) -> str:
        """Name of the instance."""
        return self._host.instance_name

    @property
    def log(self) -> LogSink:
        """The server's log, which does not listen before ``initialize``."""
        return self._log

    @property
    def metrics(self) -> MetricStore:
        """The server's metrics."""
        self._check_started()
        return self._host.metrics

    def infer(self, request: InferenceRequest, *, decoupled: bool) -> Call:
        """Send a request of the model's own; TritonModelException if it is too early or late."""
        if not self.open:
            raise TritonModelException("BLS is only supported during the 'execute' function.")
        return self._host.infer(request, decoupled=decoupled)

    def load_model(self, name: str, config: str, files: Mapping[str, bytes]) -> None:
        """Load a model; from ``initialize`` too, where the other model needs its turn to import."""
        self._check_started()
        if self.scope is None:
            self._host.load_model(name, config, files)
            return
        with self.scope.suspended():
            self._host.load_model(name, config, files)

    def unload_model(self, name: str, *, unload_dependents: bool) -> None:
        """Unload a model."""
        self._check_started()
        self._host.unload_model(name, unload_dependents=unload_dependents)

    def is_model_ready(self, name: str, version: int) -> bool:
        """True if a model takes requests."""
        self._check_started()
        return self._host.is_model_ready(name, version)

    def _check_started(self) -> None:
        if os.getpid() != self._pid:
            raise TritonModelException(
                deviations.FORKED_WORKER.text(
                    "a worker that this model has forked asks the server for metrics or other "
                    "models",
                    "Do it in the model's own process.",
                )
            )
        if not self.started:
            raise TritonModelException(
                deviations.TOO_EARLY.text(
                    "this model asks the server for metrics or other models before initialize",
                    "Do it in initialize.",
                )
            )


class _ModelLog:
    """The server's log for one model: a ``LogSink``."""

    def __init__(self, services: Services, sink: LogSink) -> None:
        self._services = services
        self._sink = sink
        self.note = sink.note

    def write(self, level: LogLevel, message: str, file: str, line: int) -> None:
        write = self._sink.write if self._services.started else self._sink.write_early
        write(level, message, file, line)

    write_early = write
