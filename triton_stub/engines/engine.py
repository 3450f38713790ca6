"""What a test may ask of a Triton, whichever one it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, Self, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence
    from types import TracebackType

    import numpy as np

    from triton_stub.core.result import Result
    from triton_stub.endpoints.clients import ClientMaker
    from triton_stub.errors import InferenceError


@runtime_checkable
class Engine(Protocol):
    """A running Triton with its models: ``stub``, ``native``, or one behind a URL.

    Every method may be called from any number of threads at once. Dictionaries are the bodies of
    Triton's HTTP answers, so two engines can be compared with ``==``.
    """

    @property
    def name(self) -> str:
        """``"stub"``, ``"native"``, or the URL."""

    @property
    def http_url(self) -> str:
        """``"host:port"`` of the HTTP endpoint, without a scheme, as tritonclient takes it."""

    @property
    def grpc_url(self) -> str | None:
        """``"host:port"`` of the gRPC endpoint; ``None`` where there is none or none is known."""

    def infer(
        self,
        model_name: str,
        inputs: Mapping[str, np.ndarray] | None = None,
        /,
        *,
        model_version: str = "",
        outputs: Sequence[str] | None = None,
        request_id: str = "",
        parameters: Mapping[str, object] | None = None,
        sequence_id: int | str = 0,
        sequence_start: bool = False,
        sequence_end: bool = False,
        priority: int = 0,
        timeout: int = 0,
        **tensors: np.ndarray,
    ) -> Result:
        """Send one request and wait for its answer.

        ``inputs`` and ``tensors`` are one set of input tensors: the mapping is for names that are
        no Python identifiers or are keywords of this method. ``outputs`` names the tensors to send
        back; ``None`` or empty asks for all. ``sequence_id`` and the two flags make the request one
        of a sequence; ``timeout`` is in microseconds.

        Raises:
            InferenceError: the answer is an error; ``str(error)`` is exactly the server's text.
        """

    def stream(
        self,
        model_name: str,
        inputs: Mapping[str, np.ndarray] | None = None,
        /,
        *,
        model_version: str = "",
        outputs: Sequence[str] | None = None,
        request_id: str = "",
        parameters: Mapping[str, object] | None = None,
        sequence_id: int | str = 0,
        sequence_start: bool = False,
        sequence_end: bool = False,
        priority: int = 0,
        timeout: int = 0,
        **tensors: np.ndarray,
    ) -> Generator[Result | InferenceError]:
        """Send one request; yield its responses as they come, any number on a decoupled model.

        A response with an error is yielded, too, because others may follow it; so is a refusal
        of the request. The last one may be empty. Closing the iterator cancels the request.
        Compare messages, not codes: gRPC's stream carries the text of an error alone.
        """

    def server_metadata(self) -> dict[str, Any]:
        """``GET /v2``."""

    def metadata(self, model: str, version: str = "") -> dict[str, Any]:
        """``GET /v2/models/MODEL``; raises ``ServerError`` with the server's text."""

    def config(self, model: str, version: str = "") -> dict[str, Any]:
        """``GET /v2/models/MODEL/config``; raises ``ServerError`` with the server's text."""

    def statistics(self, model: str = "", version: str = "") -> dict[str, Any]:
        """``GET /v2/models[/MODEL]/stats``; raises ``ServerError`` with the server's text."""

    def ready(self, model: str = "", version: str = "") -> bool:
        """Whether the server, or one of its models, takes requests."""

    @property
    def client(self) -> ClientMaker:
        """``client("http" | "grpc" | "http.aio" | "grpc.aio")``: a new tritonclient.

        For what this face does not offer. It is the caller's: close it, and use one for HTTP, which
        is the default, from one thread only.
        """

    def log(self) -> str:
        """Return everything the server has logged so far; empty where it cannot be seen."""

    def metrics(self) -> str:
        """The page of metrics in Prometheus' text format; empty where it cannot be seen."""

    def stop(self) -> None:
        """Stop the server if it is this object's, and free all it holds. May be called twice."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...
