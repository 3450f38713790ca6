"""What the objects of one model instance ask of the server around it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from triton_stub.errors import ServerError
from triton_stub.pb_utils.errors import TritonModelException

if TYPE_CHECKING:
    from collections.abc import Mapping

    from triton_stub.pb_utils.logger import LogSink
    from triton_stub.pb_utils.metrics import MetricStore
    from triton_stub.pb_utils.request import InferenceRequest
    from triton_stub.pb_utils.response import InferenceResponse


class Call(Protocol):
    """A request of a model's own that was sent, and its responses as they come."""

    @property
    def was_taken(self) -> bool:
        """False if the server has refused the request."""

    def response(self) -> tuple[InferenceResponse, bool]:
        """Wait for the next response; it, and whether it is the last."""

    def cancel(self) -> None:
        """Tell the other model that nobody needs its responses any more."""


class Host(Protocol):
    """The server as one instance sees it; ``runtime`` hands it to the fake modules.

    Whatever fails on the server's side is raised as a ``ServerError`` with the server's text;
    the objects of this package put their own words around it.
    """

    @property
    def instance_name(self) -> str:
        """Name of the instance, such as ``resnet50_0``."""

    @property
    def ended(self) -> bool:
        """True after ``finalize``: what the model drops then is not told to the server."""

    @property
    def log(self) -> LogSink:
        """The server's log."""

    @property
    def metrics(self) -> MetricStore:
        """The server's metrics."""

    def infer(self, request: InferenceRequest, *, decoupled: bool) -> Call:
        """Send a request of the model's own.

        What goes wrong with the request is not raised: that is a response with an error.
        """

    def load_model(self, name: str, config: str, files: Mapping[str, bytes]) -> None:
        """Load a model, with another configuration (JSON text) or other files if given."""

    def unload_model(self, name: str, *, unload_dependents: bool) -> None:
        """Unload a model; nothing happens if there is none of that name."""

    def is_model_ready(self, name: str, version: int) -> bool:
        """True if a model, or the version of it, takes requests; -1 means any version."""


class told:  # noqa: N801 - read as a word: ``with told(host, prefix): ...``
    """Raise what the server refuses inside as a TritonModelException, in the backend's words.

    Source: python_backend ``src/pb_stub.h``, ``SendMessage``. See deviations.CONTROL_ERROR.
    """

    # No contextlib: its frames would be in what a client is told of the exception.
    __slots__ = ("_host", "_prefix")

    def __init__(self, host: Host, prefix: str) -> None:
        self._host = host
        self._prefix = prefix

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, ServerError):
            # A C string, which ends with the first zero.
            message = error.message.partition("\0")[0]
            raise TritonModelException(
                f"{self._prefix}Failed to process the request for model "
                f"'{self._host.instance_name}', message: {message}"
            ) from error
