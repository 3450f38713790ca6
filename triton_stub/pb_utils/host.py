"""What the objects of one model instance ask of the server around it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from triton_stub.pb_utils.logger import LogSink
    from triton_stub.pb_utils.metrics import MetricStore
    from triton_stub.pb_utils.request import InferenceRequest
    from triton_stub.pb_utils.response import InferenceResponse


class Host(Protocol):
    """The server as one instance sees it; ``runtime`` hands it to the fake modules.

    Whatever fails on the server's side is raised as a ``ServerError`` with the server's text;
    the objects of this package put their own words around it.
    """

    @property
    def instance_name(self) -> str:
        """Name of the instance, such as ``resnet50_0``."""

    @property
    def log(self) -> LogSink:
        """The server's log."""

    @property
    def metrics(self) -> MetricStore:
        """The server's metrics."""

    def infer(
        self, request: InferenceRequest, *, decoupled: bool
    ) -> Iterator[tuple[InferenceResponse, bool]]:
        """Send a request of the model's own, now; its responses, as they come.

        Each with whether it is the last. What goes wrong with the request is not raised: that
        is a response with an error.
        """

    def load_model(self, name: str, config: str, files: Mapping[str, bytes] | None) -> None:
        """Load a model, with another configuration (JSON text) or other files if given."""

    def unload_model(self, name: str, *, unload_dependents: bool) -> None:
        """Unload a model; nothing happens if there is none of that name."""

    def is_model_ready(self, name: str, version: str) -> bool:
        """True if a model, or the version of it, takes requests; an empty version means any."""
