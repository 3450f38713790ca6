"""Any Triton that answers HTTP, through the real client."""

from __future__ import annotations

import contextlib
from http.client import BadStatusLine
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

import urllib3
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

from triton_stub.core.result import Result
from triton_stub.endpoints.clients import Kind, connect
from triton_stub.engines import grpc_stream
from triton_stub.engines.inputs import to_input
from triton_stub.errors import InferenceError, ServerError, StatusCode
from triton_stub.server.request import by_name

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence
    from types import TracebackType

    import numpy as np

    from triton_stub.endpoints.clients import ClientMaker

# HTTP has one status for several of Triton's codes (server, ``src/http_server.cc``): 400 stands
# for INVALID_ARG, ALREADY_EXISTS, UNKNOWN and CANCELLED. The first is by far the commonest.
_CODE_OF_STATUS = {
    400: StatusCode.INVALID_ARG,
    404: StatusCode.NOT_FOUND,
    500: StatusCode.INTERNAL,
    501: StatusCode.UNSUPPORTED,
    503: StatusCode.UNAVAILABLE,
}
_HEADER_LENGTH = "Inference-Header-Content-Length"
_GIVE_GRPC = "give grpc_url (pytest: --triton-grpc-url=HOST:PORT)"
_CLIENT_LIMITS = ("connection_timeout", "network_timeout")


class HttpEngine:
    """A Triton behind ``url``, for example ``"localhost:8000"`` or ``"https://host:443"``.

    Args:
        url: where the server listens; ``http`` is meant where no scheme is given.
        grpc_url: its gRPC endpoint, for streams and clients.
        metrics_url: ``"host:port"`` of its metrics.
        name: how the engine calls itself; the URL unless told.
        timeout: seconds to wait for any one answer.
    """

    def __init__(
        self,
        url: str,
        *,
        grpc_url: str | None = None,
        metrics_url: str | None = None,
        name: str = "",
        timeout: float = 300.0,
    ) -> None:
        scheme, _, address = url.rpartition("://")
        if scheme not in ("", "http", "https"):
            raise ValueError(f"expected an http or https URL, or host:port; found {url!r}")
        self.name = name or url
        self.http_url = address.rstrip("/")
        self.grpc_url = grpc_url
        self.metrics_url = metrics_url
        self._ssl = scheme == "https"
        self._timeout = timeout
        host, _, base = self.http_url.partition("/")
        self._base = f"/{base}" if base else ""
        # Bodies are tritonclient's, connections are not: its HTTP client serves one thread, and
        # each thread that ever made one costs a gevent loop that is never closed.
        self._pool = urllib3.connection_from_url(
            f"{scheme or 'http'}://{host}",
            maxsize=64,
            retries=False,
            timeout=timeout,
        )

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
        """See :meth:`triton_stub.engines.engine.Engine.infer`."""
        sent = [
            to_input(InferInput, name, array)
            for name, array in {**by_name({} if inputs is None else inputs), **tensors}.items()
        ]
        wanted = [InferRequestedOutput(name) for name in outputs or ()]
        try:
            request, header_length = InferenceServerClient.generate_request_body(
                sent,
                outputs=wanted or None,
                request_id=request_id,
                sequence_id=sequence_id,
                sequence_start=sequence_start,
                sequence_end=sequence_end,
                priority=priority,
                timeout=timeout or None,
                parameters=dict(parameters or {}),
            )
        except InferenceServerException as error:  # the client itself refuses, a reserved name say
            raise InferenceError(error.message(), StatusCode.INVALID_ARG) from None
        headers = {} if header_length is None else {_HEADER_LENGTH: str(header_length)}
        path = f"{_path('models', model_name, 'versions', model_version)}/infer"
        response = self._ask("POST", path, InferenceError, body=request, headers=headers)
        length = response.headers.get(_HEADER_LENGTH)
        answer = InferenceServerClient.parse_response_body(
            response.data, header_length=None if length is None else int(length)
        )
        body = answer.get_response()
        names = [output["name"] for output in body.get("outputs", ())]
        return Result(
            outputs={name: answer.as_numpy(name) for name in names},
            model_name=body["model_name"],
            model_version=body["model_version"],
            request_id=body.get("id", ""),
            parameters=body.get("parameters", {}),
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
        """See :meth:`triton_stub.engines.engine.Engine.stream`; over gRPC."""
        if self.grpc_url is None:
            raise InferenceError(
                f"{self.name}: a stream of responses needs gRPC, and no gRPC endpoint is known; "
                + _GIVE_GRPC,
                StatusCode.UNSUPPORTED,
            )
        yield from grpc_stream.responses(
            self.grpc_url,
            model_name,
            {**by_name({} if inputs is None else inputs), **tensors},
            timeout=self._timeout,
            model_version=model_version,
            outputs=outputs or (),
            request_id=request_id,
            sequence_id=sequence_id,
            sequence_start=sequence_start,
            sequence_end=sequence_end,
            priority=priority,
            request_timeout=timeout,
            parameters=dict(parameters or {}),
        )

    def server_metadata(self) -> dict[str, Any]:
        """``GET /v2``."""
        return self._get("")

    def metadata(self, model: str, version: str = "") -> dict[str, Any]:
        """``GET /v2/models/MODEL``."""
        return self._get(_path("models", model, "versions", version))

    def config(self, model: str, version: str = "") -> dict[str, Any]:
        """``GET /v2/models/MODEL/config``."""
        return self._get(f"{_path('models', model, 'versions', version)}/config")

    def statistics(self, model: str = "", version: str = "") -> dict[str, Any]:
        """``GET /v2/models[/MODEL]/stats``."""
        return self._get(f"{_path('models', model, 'versions', version) or '/models'}/stats")

    def ready(self, model: str = "", version: str = "") -> bool:
        """Whether the server, or one of its models, is there and takes requests."""
        path = _path("models", model, "versions", version) or "/health"
        try:
            return self._send("GET", f"{path}/ready").status == 200
        except urllib3.exceptions.HTTPError:
            return False

    @property
    def client(self) -> ClientMaker:
        """See :attr:`triton_stub.engines.engine.Engine.client`."""
        return self._new_client

    def log(self) -> str:
        """Empty: a server behind a URL keeps its log to itself."""
        return ""

    def metrics(self) -> str:
        """What the server and its models have counted; empty if it is not known where."""
        if self.metrics_url is None:
            return ""
        url = f"http://{self.metrics_url}/metrics"
        # A connection that is kept is one that a server, when it stops, may wait for.
        closing = {"Connection": "close"}
        try:
            answer = urllib3.request(
                "GET", url, headers=closing, retries=False, timeout=self._timeout
            )
        except urllib3.exceptions.HTTPError as error:
            text = f"no answer from {self.metrics_url}: {self._reason(error)}"
            raise self._explain(ServerError(text, StatusCode.UNAVAILABLE)) from error
        return answer.data.decode()

    def stop(self) -> None:
        """Close the connections; the server is not ours to stop."""
        self._pool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _new_client(self, kind: Kind = "http", **options: Any) -> Any:
        if kind.startswith("grpc"):
            if self.grpc_url is None:
                raise ServerError(
                    f"{self.name}: no gRPC endpoint is known; {_GIVE_GRPC}",
                    StatusCode.UNSUPPORTED,
                )
            return connect(kind, self.grpc_url, **options)
        limits = ("conn_timeout",) if kind == "http.aio" else _CLIENT_LIMITS
        defaults = {"ssl": self._ssl, **dict.fromkeys(limits, self._timeout)}
        return connect(kind, self.http_url, **{**defaults, **options})

    def _get(self, path: str) -> dict[str, Any]:
        response = self._ask("GET", path, ServerError)
        with contextlib.suppress(ValueError):
            body = response.json()
            if isinstance(body, dict):
                return body
        raise ServerError(
            f"what is at {self.http_url} speaks HTTP, but not as Triton does; is this its port "
            "for HTTP (mostly 8000), not that for metrics?",
            StatusCode.UNAVAILABLE,
        )

    def _ask(
        self, method: str, path: str, kind: type[ServerError], **request: Any
    ) -> urllib3.BaseHTTPResponse:
        """Send a request; speak of what goes wrong in our own errors."""
        try:
            response = self._send(method, path, **request)
        except urllib3.exceptions.HTTPError as error:
            known = self.name.rpartition("://")[2].rstrip("/") == self.http_url
            text = f"no answer from {self.http_url}: {self._reason(error)}"
            text = text if known else f"{self.name}: {text}"
            raise self._explain(kind(text, StatusCode.UNAVAILABLE)) from error
        if response.status == 200:
            return response
        text = response.data.decode(errors="replace")
        try:
            text = response.json()["error"]
        except (ValueError, KeyError, TypeError):
            text = f"{self.http_url} answered HTTP status {response.status}: {text}"
        raise kind(text, _CODE_OF_STATUS.get(response.status, StatusCode.UNKNOWN))

    def _send(self, method: str, path: str, **request: Any) -> urllib3.BaseHTTPResponse:
        return self._pool.request(method, f"{self._base}/v2{path}", redirect=False, **request)

    def _reason(self, error: urllib3.exceptions.HTTPError) -> str:
        """What is wrong, without the objects that urllib3 names."""
        cause = error.__cause__
        if isinstance(cause, OSError) and cause.strerror:
            return f"{cause.strerror}; is a server running there?"
        if isinstance(error, urllib3.exceptions.TimeoutError):
            return f"none within {self._timeout:g} s"
        if isinstance(error, urllib3.exceptions.ProtocolError):
            what = error.args[-1]
            if type(what) is BadStatusLine:
                return "what is there speaks no HTTP; is this a port for gRPC? HTTP is mostly 8000"
            return str(what)
        return str(error)

    def _explain(self, error: ServerError) -> ServerError:
        """Add what this engine knows about a server that does not answer."""
        return error


def _path(*pairs: str) -> str:
    """Return ``/models/MODEL/versions/VERSION``, without the pairs that have no second half."""
    names = zip(pairs[::2], pairs[1::2], strict=True)
    return "".join(f"/{kind}/{quote(name, safe='')}" for kind, name in names if name)
