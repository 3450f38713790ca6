"""The trace and the logging extension: settings that a client reads and changes.

Source: server ``src/http_server.cc``, ``HandleTrace`` and ``HandleLogging`` (26.08). A POST without
a body is refused: it is no JSON.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from triton_stub.endpoints import settings
from triton_stub.endpoints.http import answers, documents, threads
from triton_stub.errors import InferenceError, StatusCode

if TYPE_CHECKING:
    import re
    from collections.abc import Callable

    from starlette.requests import Request
    from starlette.responses import Response

    from triton_stub.core.log import Log
    from triton_stub.core.trace import TraceLevel
    from triton_stub.core.trace_settings import Tracer
    from triton_stub.endpoints.http import routing
    from triton_stub.server import Server

_UINT32 = 2**32


class Settings:
    """The settings of a server, and of its models."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def routes(self) -> routing.Routes:
        """Which path asks for what."""
        return (
            ("/v2(/models/(?P<model>[^/]+))?/trace/setting", self._trace_settings),
            ("/v2/logging", self._log_settings),
        )

    async def _trace_settings(self, request: Request, body: bytes, path: re.Match[str]) -> Response:
        model = path["model"] or ""
        known = True
        if model and request.method in ("GET", "POST"):
            # A model's own is_ready may take its time.
            known = await threads.call(self._server.model(model).ready)

        def content(new: bytes | None) -> dict[str, Any]:
            if not known:
                raise InferenceError(f"Request for unknown model : {model}", StatusCode.INVALID_ARG)
            return trace(self._server.tracer, model, new)

        return answers.get_or_post(request, body, content)

    async def _log_settings(self, request: Request, body: bytes, _path: re.Match[str]) -> Response:
        return answers.get_or_post(request, body, lambda new: logging(self._server.log(), new))


def trace(tracer: Tracer, model: str, body: bytes | None) -> dict[str, Any]:
    """The trace settings of a model, or of the server (``""``), after a change if there is one."""
    if body is not None:
        tracer.update(model, _trace_changes(documents.parse(body)))
    return tracer.get(model).to_dict()


def logging(log: Log, body: bytes | None) -> dict[str, Any]:
    """The log's settings, after a change if there is one; what comes before a fault is done."""
    asked = None if body is None else documents.parse(body)
    if _given(asked, "log_file") is not None:
        raise InferenceError(
            "log file location can not be updated through network protocol", StatusCode.UNSUPPORTED
        )
    for name, change in _LOG_CHANGES.items():
        value = _given(asked, f"log_{name}")
        if value is not None:
            log.settings = replace(log.settings, **{name: change(value)})
    return log.settings.to_dict()


def _given(asked: Any, name: str) -> Any:
    return asked[name] if documents.has(asked, name) else None


def _level(value: Any) -> int:
    # An int of 32 bits; what is below 0 counts as 0 (common ``logging.h``).
    return max(0, (documents.as_unsigned(value) + 2**31) % _UINT32 - 2**31)


def _format(value: Any) -> str:
    name = documents.as_string(value)
    if name not in ("default", "ISO8601"):
        raise InferenceError(
            f"invalid argument for --log_format, got: {name}", StatusCode.UNAVAILABLE
        )
    return name


_LOG_CHANGES: dict[str, Callable[[Any], Any]] = {
    "info": documents.as_bool,
    "warning": documents.as_bool,
    "error": documents.as_bool,
    "verbose_level": _level,
    "format": _format,
}


def _trace_changes(asked: Any) -> dict[str, Any]:
    if documents.has(asked, "trace_file"):
        raise InferenceError(
            "trace file location can not be updated through network protocol",
            StatusCode.UNSUPPORTED,
        )
    changes: dict[str, Any] = {}
    for name, field, read in (
        ("trace_level", "level", _trace_level),
        ("trace_rate", "rate", _unsigned),
        ("trace_count", "count", _count),
        ("log_frequency", "log_frequency", _unsigned),
    ):
        if documents.has(asked, name):
            value = asked[name]
            new = None if value is None else read(name, value)
            if value is None or new is not None:
                changes[field] = new
    return changes


def _trace_level(_name: str, value: Any) -> TraceLevel | None:
    names = documents.as_array(value)
    return settings.trace_level(map(documents.as_string, names), alone=len(names) == 1)


def _unsigned(name: str, value: Any) -> int:
    return settings.unsigned(name, documents.as_string(value))


def _count(name: str, value: Any) -> int:
    return settings.count(name, documents.as_string(value), got=", got:")
