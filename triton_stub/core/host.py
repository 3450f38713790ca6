"""What all models of one server share, and what one instance sees of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from triton_stub.core import bls
from triton_stub.core.metrics import Metrics
from triton_stub.errors import ServerError, StatusCode

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from triton_stub.core.log import Log
    from triton_stub.core.model import ServedModel
    from triton_stub.pb_utils import InferenceRequest, InferenceResponse


class Models(Protocol):
    """The models of a server, as models look for each other: its repository."""

    def find(self, name: str, version: int = -1) -> ServedModel:
        """A ready version of a model, the newest if none is asked for."""

    def load(self, name: str, config: str = "", files: Mapping[str, bytes] | None = None) -> None:
        """Load a model, with another configuration (JSON text) or other files if given."""

    def unload(self, name: str) -> None:
        """Unload a model."""

    def is_ready(self, name: str, version: str) -> bool:
        """True if a model, or the version of it, takes requests; an empty version means any."""


class ServerHost:
    """The log, the metrics and the models of one server.

    ``response_timeout`` is how many seconds anybody waits for a response; None waits for ever.
    ``explicit`` says whether models may be loaded and unloaded on request.
    """

    def __init__(
        self, log: Log, *, response_timeout: float | None = 300.0, explicit: bool = False
    ) -> None:
        self.log = log
        self.metrics = Metrics()
        self.response_timeout = response_timeout
        self.explicit = explicit
        #: Set by the repository that it belongs to.
        self.models: Models | None = None

    def check_explicit(self) -> None:
        """ServerError, in the server's words, unless models are loaded on request."""
        if not self.explicit:
            raise ServerError(
                "explicit model load / unload is not allowed if polling is enabled",
                StatusCode.UNAVAILABLE,
            )


class InstanceHost:
    """``pb_utils.host.Host`` for one instance of a model."""

    def __init__(self, server: ServerHost, instance_name: str) -> None:
        self.instance_name = instance_name
        self.log = server.log
        self.metrics = server.metrics
        self._server = server

    def infer(
        self, request: InferenceRequest, *, decoupled: bool
    ) -> Iterator[tuple[InferenceResponse, bool]]:
        """Send a request of the model's own; see ``pb_utils.host.Host``."""
        return bls.infer(self._models.find, request, decoupled=decoupled)

    def load_model(self, name: str, config: str, files: Mapping[str, bytes] | None) -> None:
        """Load a model of the server."""
        self._server.check_explicit()
        self._models.load(name, config, files)

    def unload_model(self, name: str, *, unload_dependents: bool) -> None:  # noqa: ARG002
        """Unload a model of the server. Only ensembles have dependents."""
        self._server.check_explicit()
        self._models.unload(name)

    def is_model_ready(self, name: str, version: str) -> bool:
        """True if a model of the server takes requests."""
        return self._models.is_ready(name, version)

    @property
    def _models(self) -> Models:
        models = self._server.models
        assert models is not None, "a host without a repository"
        return models
