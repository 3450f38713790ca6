"""Where ``infer`` sends its request: a server of its own, or one that is there."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any, Protocol

from triton_stub.cli import explanation
from triton_stub.cli.progress import Progress
from triton_stub.endpoints import extras
from triton_stub.errors import InferenceError, LoadError, ServerError, StatusCode

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping

    from triton_stub.core.result import Result
    from triton_stub.datatypes import Array
    from triton_stub.server import Server

_GRPC = "grpc://"
# Of what servers and gRPC say: server, ``src/http_server.cc``; grpc, ``src/core/load_balancing``.
_NO_DECOUPLED = "doesn't support models with decoupled transaction policy"
_NOT_THERE = ("failed to connect to all addresses", "errors resolving ")


class Target(Protocol):
    """Whoever answers requests; ServerError with the server's text if it refuses."""

    def config(self, model: str, version: str) -> Any:
        """The configuration of a model, in whatever shape."""

    def responses(
        self, model: str, version: str, inputs: Mapping[str, Array], **request: Any
    ) -> Generator[Result | InferenceError]:
        """Send a request, and yield what comes; an early end cancels it."""


@contextlib.contextmanager
def target(arguments: Any) -> Iterator[Target]:
    """The one that the arguments of ``infer`` name; it ends with the block."""
    if arguments.url is None:
        with _own(arguments) as server:
            yield InProcess(server)
    elif arguments.url.startswith(_GRPC):
        with extras.needed_for("gRPC"):
            over = OverGrpc(arguments.url.removeprefix(_GRPC), arguments.response_timeout_secs)
        yield over
    else:
        with extras.needed_for("HTTP"):
            from triton_stub.engines.http import HttpEngine
        with HttpEngine(arguments.url, timeout=arguments.response_timeout_secs) as engine:
            yield OverHttp(engine)


@contextlib.contextmanager
def started(server: Server) -> Iterator[Server]:
    """Load the models, with progress on the standard error stream; stopped after the block."""
    with contextlib.ExitStack() as stopping:
        # Only a terminal: what a model logs is what others read there.
        progress = Progress(server.progress, sys.stderr)
        with progress.shown() if sys.stderr.isatty() else contextlib.nullcontext():
            stopping.enter_context(server)
        yield server


@contextlib.contextmanager
def _own(arguments: Any) -> Iterator[Server]:
    from triton_stub.server import Server

    server = Server(
        arguments.model_repository or ["model_repository"],
        model_control_mode="explicit",
        startup_models=[arguments.model, *arguments.load_model],
        exit_on_error=False,
        isolation=arguments.isolation,
        load_timeout=arguments.load_timeout_secs,
        response_timeout=arguments.response_timeout_secs,
        echo_log=sys.stderr if arguments.verbose else None,
    )
    with started(server):
        if failed := server.load_errors:
            explanation.print_failures(failed)
            there = ", ".join(sorted({row.name for row in server.index()})) or "none"
            raise LoadError(f"{', '.join(failed)} did not load (models that are there: {there})")
        yield server


class InProcess:
    """A server in this process, which is not this object's."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def config(self, model: str, version: str) -> Any:
        """As the server completed it."""
        return self._server.find(model, int(version or -1)).config

    def responses(
        self, model: str, version: str, inputs: Mapping[str, Array], **request: Any
    ) -> Generator[Result | InferenceError]:
        """Send a request, and yield what comes; an early end cancels it."""
        flags = request.pop("sequence_start") | request.pop("sequence_end") << 1
        sent = self._server.model(model, int(version or -1)).send(
            inputs,
            requested_outputs=request.pop("outputs"),
            correlation_id=request.pop("sequence_id"),
            flags=flags,
            **request,
        )
        try:
            for response in sent:
                if response.error is not None:
                    yield response.error
                elif not response.bare:
                    yield response.result()
        finally:
            sent.cancel()


class OverHttp:
    """A server behind a port for HTTP."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    def config(self, model: str, version: str) -> Any:
        """As the server prints it."""
        return self._engine.config(model, version)

    def responses(
        self, model: str, version: str, inputs: Mapping[str, Array], **request: Any
    ) -> Generator[Result | InferenceError]:
        """Send a request; its one answer."""
        try:
            yield self._engine.infer(model, inputs, model_version=version, **request)
        except InferenceError as error:
            if _NO_DECOUPLED not in error.message:
                raise
            raise InferenceError(
                f"{error.message}; ask its port for gRPC, with --url=grpc://HOST:PORT", error.code
            ) from error


class OverGrpc:
    """A server behind a port for gRPC; what it sends comes over a stream."""

    def __init__(self, url: str, timeout: float) -> None:
        from triton_stub.engines import grpc_stream

        self._send = grpc_stream.responses
        self._url = url
        self._timeout = timeout

    def config(self, model: str, version: str) -> Any:
        """As the server prints it."""
        from tritonclient.grpc import InferenceServerClient
        from tritonclient.utils import InferenceServerException

        try:
            with InferenceServerClient(self._url) as client:
                return client.get_model_config(
                    model, version, as_json=True, client_timeout=self._timeout
                )["config"]
        except InferenceServerException as error:
            raise ServerError(self._told(error.message()), StatusCode.UNAVAILABLE) from error

    def responses(
        self, model: str, version: str, inputs: Mapping[str, Array], **request: Any
    ) -> Generator[Result | InferenceError]:
        """Send a request, and yield what comes; an early end cancels it."""
        for response in self._send(
            self._url,
            model,
            inputs,
            timeout=self._timeout,
            model_version=version,
            request_id="",
            priority=0,
            request_timeout=0,
            **request,
        ):
            if isinstance(response, InferenceError) or response.outputs:
                yield response

    def _told(self, text: str) -> str:
        if not text.startswith(_NOT_THERE):
            return f"{self._url}: {text}"
        reason = text.rpartition(": ")[2].rstrip("]")
        return (
            f"no answer from {self._url}: {reason}; is a server running there, and is this its "
            "port for gRPC (mostly 8001)?"
        )
