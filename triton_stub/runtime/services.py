"""The server, as the objects of one instance reach it: at the right times only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from triton_stub.pb_utils.errors import TritonModelException

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from triton_stub.pb_utils.host import Host
    from triton_stub.pb_utils.logger import LogSink
    from triton_stub.pb_utils.metrics import MetricStore
    from triton_stub.pb_utils.request import InferenceRequest
    from triton_stub.pb_utils.response import InferenceResponse
    from triton_stub.runtime.scope import ImportScope


class Services:
    """``pb_utils.host.Host`` of one instance, with what depends on the instance's own life.

    ``open`` is True between the end of ``initialize`` and the start of ``finalize``, from
    whatever thread (python_backend ``src/infer_request.cc``, ``Exec``).
    """

    def __init__(self, host: Host) -> None:
        self._host = host
        self.open = False
        #: Where the model imports from.
        self.scope: ImportScope | None = None

    @property
    def instance_name(self) -> str:
        """Name of the instance."""
        return self._host.instance_name

    @property
    def log(self) -> LogSink:
        """The server's log."""
        return self._host.log

    @property
    def metrics(self) -> MetricStore:
        """The server's metrics."""
        return self._host.metrics

    def infer(
        self, request: InferenceRequest, *, decoupled: bool
    ) -> Iterator[tuple[InferenceResponse, bool]]:
        """Send a request of the model's own; TritonModelException if it is too early or late."""
        if not self.open:
            raise TritonModelException("BLS is only supported during the 'execute' function.")
        return self._host.infer(request, decoupled=decoupled)

    def load_model(self, name: str, config: str, files: Mapping[str, bytes] | None) -> None:
        """Load a model; from ``initialize`` too, where the other model needs its turn to import."""
        if self.scope is None:
            self._host.load_model(name, config, files)
            return
        with self.scope.suspended():
            self._host.load_model(name, config, files)

    def unload_model(self, name: str, *, unload_dependents: bool) -> None:
        """Unload a model."""
        self._host.unload_model(name, unload_dependents=unload_dependents)

    def is_model_ready(self, name: str, version: str) -> bool:
        """True if a model takes requests."""
        return self._host.is_model_ready(name, version)
