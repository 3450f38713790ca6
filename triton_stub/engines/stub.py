"""The stub in this process, as a test engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from tritonclient.utils import (
    TRITON_RESERVED_REQUEST_PARAMS,
    TRITON_RESERVED_REQUEST_PARAMS_PREFIX,
)

from triton_stub.core.repository.repository import NEWEST
from triton_stub.errors import InferenceError, LoadError, ServerError, StatusCode
from triton_stub.server import Model, Server
from triton_stub.server.request import by_name

if TYPE_CHECKING:
    import os
    from collections.abc import Generator, Mapping, Sequence
    from types import TracebackType

    import numpy as np

    from triton_stub.core.result import Result
    from triton_stub.endpoints.clients import ClientMaker

_TAIL = 40  # lines of the log that are shown with an error


class StubEngine:
    """A ``triton_stub.Server`` behind the face that all engines share.

    It is ready when the constructor returns. Requests go straight to the models; a port is opened
    only for those who ask for ``http_url`` or ``grpc_url``.

    Args:
        model_repository: one folder of models, or several.
        models: load these only (explicit model control); all models unless given.
        timeout: seconds for each of the server's limits: until a model is loaded, until a response
            is there, until all models are unloaded; its own unless given.
        options: what else ``Server`` takes. ``exit_on_error=False`` serves the good models of a
            repository that has a broken one; ``server.load_errors`` says what is wrong with the
            others.

    Attributes:
        name: ``"stub"``.
        server: the server, for what this face does not offer.

    Raises:
        LoadError: a model did not load. Its cause is the model's own exception, and the end of
            the log is attached as a note.
    """

    name = "stub"

    def __init__(
        self,
        model_repository: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        *,
        models: Sequence[str] | None = None,
        timeout: float | None = None,
        **options: Any,
    ) -> None:
        self._repository = model_repository
        limits: dict[str, Any] = {}
        if timeout is not None:
            limits = dict.fromkeys(("load_timeout", "response_timeout", "exit_timeout"), timeout)
        if models is not None:
            options |= {"model_control_mode": "explicit", "startup_models": models}
        self.server = Server(
            model_repository,
            **{**limits, **options},
        )
        try:
            self.server.start()
        except LoadError as error:
            if tail := self.log().splitlines()[-_TAIL:]:
                error.add_note("\n".join(["the end of the stub's log:", *tail]))
            cause = error.__cause__
            while isinstance(cause, ServerError):  # each says less than the last
                cause = cause.__cause__
            raise error from cause
        except BaseException:  # Ctrl-C while a model compiles
            self.server.stop()
            raise

    @property
    def http_url(self) -> str:
        """``"host:port"`` of a real HTTP endpoint, opened when it is first asked for."""
        return self.server.http_url

    @property
    def grpc_url(self) -> str:
        """``"host:port"`` of a real gRPC endpoint, opened when it is first asked for."""
        return self.server.grpc_url

    def model(self, name: str, version: str = "") -> Model:
        """The handle of a model: ``execute`` with an exact batch, ``infer`` as NVIDIA spells it."""
        return self.server.model(name, _version(version))

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
        """See :meth:`triton_stub.engines.engine.Engine.infer`.

        An InferenceError that comes from an exception of the model has it as its cause, so a
        failing test shows the line of ``model.py``.
        """
        _refuse_reserved(parameters or {})
        model = self.model(model_name, model_version)
        if self.server.find(model.name, model.version).decoupled:
            # As HTTP answers, which is how the other engines are asked.
            raise InferenceError(
                "HTTP end point doesn't support models with decoupled transaction policy",
                StatusCode.UNSUPPORTED,
            )
        return model(
            {**by_name({} if inputs is None else inputs), **tensors},
            outputs=outputs or (),
            request_id=request_id,
            parameters=parameters,  # type: ignore[arg-type]  # checked by the server
            correlation_id=sequence_id,
            flags=sequence_start | sequence_end << 1,
            priority=priority,
            timeout=timeout,
        )

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
        """See :meth:`triton_stub.engines.engine.Engine.stream`."""
        try:
            _refuse_reserved(parameters or {})
            model = self.model(model_name, model_version)
            decoupled = self.server.find(model.name, model.version).decoupled
            responses = model.send(
                {**by_name({} if inputs is None else inputs), **tensors},
                requested_outputs=outputs or (),
                request_id=request_id,
                parameters=parameters or {},
                correlation_id=sequence_id,
                flags=sequence_start | sequence_end << 1,
                priority=priority,
                timeout=timeout,
            )
        except InferenceError as error:
            yield error
            return
        try:
            for number, response in enumerate(responses):
                if response.error is not None:
                    yield response.error
                # On the wire only a decoupled model has a bare end.
                elif decoupled or not number:
                    yield response.result()
        finally:
            responses.cancel()

    def server_metadata(self) -> dict[str, Any]:
        """``GET /v2``."""
        return self.server.metadata()

    def metadata(self, model: str, version: str = "") -> dict[str, Any]:
        """``GET /v2/models/MODEL``."""
        return self.model(model, version).metadata()

    def config(self, model: str, version: str = "") -> dict[str, Any]:
        """``GET /v2/models/MODEL/config``."""
        return self.model(model, version).config()

    def statistics(self, model: str = "", version: str = "") -> dict[str, Any]:
        """``GET /v2/models[/MODEL]/stats``."""
        return self.server.statistics(model, _version(version))

    def ready(self, model: str = "", version: str = "") -> bool:
        """Whether the server, or one of its models, takes requests."""
        try:
            return self.model(model, version).ready() if model else self.server.ready()
        except InferenceError:
            return False

    @property
    def client(self) -> ClientMaker:
        """See :attr:`triton_stub.engines.engine.Engine.client`; it opens no network port."""
        return self.server.client

    def log(self) -> str:
        """Return what the server and its models have logged; also after :meth:`stop`."""
        return str(self.server.log())

    def metrics(self) -> str:
        """Return what the models have counted, in Prometheus' text format."""
        return self.server.metrics()

    def stop(self, timeout: float | None = None) -> None:
        """Close the port, answer what is queued, finalize every model; see ``Server.stop``."""
        self.server.stop(timeout)

    def __repr__(self) -> str:
        return f"StubEngine({self._repository!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def _version(text: str) -> int:
    if not text:
        return NEWEST
    if not text.isdecimal():
        raise InferenceError(
            f"model version {text!r}: expected a whole number such as '1', or '' for the newest",
            StatusCode.INVALID_ARG,
        )
    return int(text)


def _refuse_reserved(parameters: Mapping[str, object]) -> None:
    # These are fields of their own on the wire, so the real client does not take them, either.
    for key in parameters:
        reserved = key in TRITON_RESERVED_REQUEST_PARAMS
        if reserved or key.startswith(TRITON_RESERVED_REQUEST_PARAMS_PREFIX):
            raise InferenceError(
                f'Parameter "{key}" is a reserved parameter and cannot be specified.',
                StatusCode.INVALID_ARG,
            )
