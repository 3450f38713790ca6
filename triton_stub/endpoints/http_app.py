"""The HTTP side of a server: which path and method asks for what, and what is answered.

Source: server ``src/http_server.cc``, ``HTTPAPIServer::Handle`` and the handlers it calls (2.51).
"""

from __future__ import annotations

import asyncio
import re
import traceback
from typing import TYPE_CHECKING, Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from triton_stub.endpoints import http_codec, http_json, http_raw, http_settings
from triton_stub.errors import InferenceError, ServerError, StatusCode
from triton_stub.pb_utils.logger import LogLevel

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from starlette.types import Receive, Scope, Send

    from triton_stub.server import Server

_MODEL = "/v2/models/(?P<model>[^/]+)(/versions/(?P<version>[0-9]+))?"
# What the real server has and a later release is to have: a client is told so, not "Not Found".
_LATER = (
    f"{_MODEL}/(generate|generate_stream)",
    "/v2/repository(/[^/]+)?/models/[^/]+/(load|unload)",
    "/v2/(system|cuda)sharedmemory(/region/[^/]+)?/(status|register|unregister)",
)
_HEADER_LENGTH = "Inference-Header-Content-Length"
_INT_DIGITS = re.compile(r"\s*([+-]?[0-9]+)")
_NEWEST = -1
_INT64_MAX = 2**63 - 1
_JSON = "application/json"
_TEXT = "text/plain"  # what the server says of bodies of which it says nothing
_BINARY = "application/octet-stream"
# In the scope of a request: when it came, and its trace, if it is traced.
_RECEIVED = "triton_stub.received"
_TRACE = "triton_stub.trace"
# Up to here one write of everything is cheaper than a write for each tensor.
_JOIN_BYTES = 1 << 16


class HttpApp:
    """An ASGI application that answers for a server.

    The server matches paths as they come, without decoding ``%``, and so does this.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._routes = [
            (re.compile(pattern), handler)
            for pattern, handler in (
                (f"{_MODEL}/infer", self._infer),
                ("/v2/models/stats", self._statistics),
                (f"{_MODEL}/ready", self._ready),
                (f"{_MODEL}(/(?P<verb>config|stats))?", self._model),
                ("/v2", self._metadata),
                ("/v2/health/(?P<kind>live|ready)", self._health),
                ("/v2/repository(/[^/]+)?/index", self._index),
                ("/v2(/models/(?P<model>[^/]+))?/trace/setting", self._trace_settings),
                ("/v2/logging", self._log_settings),
                *((pattern, self._later) for pattern in _LATER),
            )
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; an error of the server's becomes its status and text."""
        request = Request(scope, receive)
        now = self._server.tracer.now
        scope[_RECEIVED] = now()
        try:
            # The whole body first, also of a request that will be refused: its client may not
            # read before it has written.
            response = await self._answer(request, await request.body())
        except ClientDisconnect:
            return
        except ServerError as error:
            response = _error(error, _JSON)
        except Exception as error:  # noqa: BLE001 - the client must not wait for ever
            self._server.log().note(LogLevel.ERROR, traceback.format_exc())
            response = _error(
                InferenceError(
                    f"triton_stub failed to answer this request: {type(error).__name__}: {error}. "
                    "This is a defect of triton_stub; the server's log has the traceback."
                ),
                _JSON,
            )
        if (trace := scope.get(_TRACE)) is None:
            await response(scope, receive, send)
        else:
            start = now()
            await response(scope, receive, send)
            trace.sent(start)

    async def _answer(self, request: Request, body: bytes) -> Response:
        path = request.scope["raw_path"].decode("ascii", "replace")
        for pattern, handler in self._routes:
            if match := pattern.fullmatch(path):
                return await handler(request, body, match)
        return _response(404, {"error": "Not Found"}, _TEXT)

    async def _metadata(self, request: Request, _body: bytes, _path: re.Match[str]) -> Response:
        return _get(request, self._server.metadata)

    async def _statistics(self, request: Request, _body: bytes, _path: re.Match[str]) -> Response:
        return _get(request, self._server.statistics)

    async def _health(self, request: Request, _body: bytes, path: re.Match[str]) -> Response:
        if request.method != "GET":
            return _wrong_method(_TEXT)
        # In a thread: a model's own is_ready may take its time.
        healthy = await asyncio.to_thread(
            self._server.live if path["kind"] == "live" else self._server.ready
        )
        return _empty(200 if healthy else 400)

    async def _model(self, request: Request, _body: bytes, path: re.Match[str]) -> Response:
        def content() -> dict[str, Any]:
            model = self._server.model(path["model"], _version(path["version"]))
            if path["verb"] == "config":
                return model.config()
            return model.statistics() if path["verb"] == "stats" else model.metadata()

        return _get(request, content)

    async def _ready(self, request: Request, _body: bytes, path: re.Match[str]) -> Response:
        if request.method != "GET":
            return _wrong_method(_TEXT)
        try:
            model = self._server.model(path["model"], _version(path["version"]))
            if await asyncio.to_thread(model.ready):
                return _empty(200)
        except ServerError as error:
            return _error(error, _TEXT)
        return _response(400, {"error": "Model version not ready"}, _TEXT)

    async def _index(self, request: Request, body: bytes, _path: re.Match[str]) -> Response:
        if request.method != "POST":
            return _wrong_method(_JSON)
        asked = http_json.parse(body) if body else None
        only_ready = http_json.has(asked, "ready") and http_json.as_bool(asked["ready"])
        rows: list[dict[str, str]] = []
        for state in self._server.index(only_ready=only_ready):
            row = {"name": state.name}
            if state.version:
                row["version"] = state.version
            if state.version or state.reason:
                row["state"] = state.state
            if state.reason:
                row["reason"] = state.reason
            rows.append(row)
        return _response(200, rows, _JSON)

    async def _infer(self, request: Request, body: bytes, path: re.Match[str]) -> Response:
        if request.method != "POST":
            return _wrong_method(_TEXT)
        try:
            version = _version(path["version"])
            model = self._server.find(path["model"], version)
            if model.decoupled:
                raise InferenceError(
                    "HTTP end point doesn't support models with decoupled transaction policy",
                    StatusCode.UNSUPPORTED,
                )
            _check_not_compressed(request)
            json_size = _json_size(request.headers.get(_HEADER_LENGTH), len(body))
        except ServerError as error:
            return _error(error, _TEXT)
        trace = request.scope[_TRACE] = self._server.tracer.sample(model.name)
        if trace is not None:
            trace.received(request.scope[_RECEIVED])
        try:
            if json_size:
                asked, formats = http_codec.decode(body, json_size, model.name, version)
            else:
                asked, formats = http_raw.decode(body, model.config, version)
            asked.trace = trace
            responses = model.submit(asked)
        except BaseException:
            if trace is not None:
                trace.abandon()
            raise
        answer = await responses.result_async()
        if answer.error is not None:
            return _error(answer.error, _TEXT)
        try:
            return _Answer(*http_codec.encode(answer, formats))
        except ServerError as error:
            return _error(error, _TEXT)

    async def _trace_settings(self, request: Request, body: bytes, path: re.Match[str]) -> Response:
        def content(new: bytes | None) -> dict[str, Any]:
            model = path["model"] or ""
            if model and not self._server.model(model).ready():
                raise InferenceError(f"Request for unknown model : {model}", StatusCode.INVALID_ARG)
            return http_settings.trace(self._server.tracer, model, new)

        return _get_or_post(request, body, content)

    async def _log_settings(self, request: Request, body: bytes, _path: re.Match[str]) -> Response:
        return _get_or_post(
            request, body, lambda new: http_settings.logging(self._server.log(), new)
        )

    async def _later(self, _request: Request, _body: bytes, path: re.Match[str]) -> Response:
        raise ServerError(
            f"{path[0]}: this release of triton_stub does not serve that; test with "
            "--triton-engine=native",
            StatusCode.UNSUPPORTED,
        )


class _Answer(Response):
    """The answer to an inference request; large tensors are sent from where they are."""

    def __init__(self, document: bytes, blobs: Sequence[bytes | memoryview]) -> None:
        size = len(document) + sum(map(len, blobs))
        headers = {"content-length": str(size), "content-type": _JSON}
        if blobs:
            headers |= {"content-type": _BINARY, _HEADER_LENGTH: str(len(document))}
        super().__init__(headers=headers)
        parts = [document, *blobs]
        self._parts = parts if size > _JOIN_BYTES else [b"".join(parts)]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        await send(
            {
                "type": "http.response.start",
                "status": self.status_code,
                "headers": self.raw_headers,
            }
        )
        last = len(self._parts) - 1
        for index, part in enumerate(self._parts):
            await send({"type": "http.response.body", "body": part, "more_body": index < last})


def _get(request: Request, content: Callable[[], Any]) -> Response:
    if request.method != "GET":
        return _wrong_method(_JSON)
    return _response(200, content(), _JSON)


def _get_or_post(request: Request, body: bytes, content: Callable[[bytes | None], Any]) -> Response:
    if request.method not in ("GET", "POST"):
        return _wrong_method(_JSON)
    return _response(200, content(body if request.method == "POST" else None), _JSON)


def _version(text: str | None) -> int:
    version = int(text) if text else _NEWEST
    if version > _INT64_MAX:
        raise InferenceError(
            f"failed to get model version from specified version string '{text}' (details: stol), "
            "version should be an integral value > 0",
            StatusCode.INVALID_ARG,
        )
    return version


def _check_not_compressed(request: Request) -> None:
    encoding = request.headers.get("content-encoding", "identity")
    if encoding in ("gzip", "deflate"):
        raise InferenceError(
            f"Content-Encoding: {encoding}: this release of triton_stub does not serve compressed "
            "requests. Send the body as it is, or test with --triton-engine=native",
            StatusCode.UNSUPPORTED,
        )
    if encoding != "identity":
        raise InferenceError("Unsupported compression type", StatusCode.UNSUPPORTED)


def _json_size(header: str | None, body_size: int) -> int:
    """How many bytes of the body are JSON; all of them unless the header says otherwise."""
    if header is None:
        return body_size
    size = _c_int(header)
    if not 0 <= size <= body_size:
        raise InferenceError(
            f"inference header size should be in range (0, {body_size}), got: {header}",
            StatusCode.INVALID_ARG,
        )
    return size


def _c_int(text: str) -> int:
    """``atoi``: leading digits, 0 if there are none, cut to 32 bits."""
    digits = _INT_DIGITS.match(text)
    long = max(-_INT64_MAX - 1, min(int(digits[1]) if digits else 0, _INT64_MAX))
    return (long + 2**31) % 2**32 - 2**31


def _wrong_method(media_type: str) -> Response:
    return _response(405, {"error": "Method Not Allowed"}, media_type)


def _error(error: ServerError, media_type: str) -> Response:
    return _response(error.code.http_status, {"error": error.message}, media_type)


def _response(status: int, content: Any, media_type: str) -> Response:
    # As a header: starlette adds a charset to a text's media type.
    return Response(http_json.dump(content), status, {"content-type": media_type})


def _empty(status: int) -> Response:
    return Response(b"", status, {"content-type": _TEXT})
