"""The trace and the logging extension: settings that a client reads and changes.

Source: server ``src/grpc/grpc_server.cc``, ``RegisterTrace``, ``RegisterLogging``.
"""
# The methods have the protocol's names.
# ruff: noqa: N802

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tritonclient.grpc import service_pb2

from triton_stub.endpoints import settings
from triton_stub.endpoints.grpc.tensors import refused
from triton_stub.errors import InferenceError, StatusCode
from triton_stub.pb_utils.casters import c_string

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import grpc

    from triton_stub.server import Server


class Settings:
    """The settings of a server, and of its models."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def TraceSetting(self, request: Any, _context: grpc.ServicerContext) -> Any:
        """Which requests are traced, of a model or of the server, after a change if there is one.

        A model of which nobody has set anything has the server's settings.
        """
        model = c_string(request.model_name)
        if model and not self._server.model(model).ready():
            raise refused(f"Request for unknown model : {model}")
        tracer = self._server.tracer
        if request.settings:
            tracer.update(model, _trace_changes(request.settings))
        answer = service_pb2.TraceSettingResponse()
        for name, value in tracer.get(model).to_dict().items():
            answer.settings[name].value.extend([value] if isinstance(value, str) else value)
        return answer

    def LogSettings(self, request: Any, _context: grpc.ServicerContext) -> Any:
        """What is logged, after a change if there is one; what comes before a fault is done."""
        log = self._server.log()
        given = request.settings
        _check_no_file("log", given)
        for name, (kind, told, read) in _LOG_CHANGES.items():
            if f"log_{name}" not in given:
                continue
            value = given[f"log_{name}"]
            if value.WhichOneof("parameter_choice") != kind:
                raise refused(f"expect {told} for 'log_{name}'")
            log.settings = replace(log.settings, **{name: read(getattr(value, kind))})
        answer = service_pb2.LogSettingsResponse()
        for name, value in log.settings.to_dict().items():
            setattr(answer.settings[name], _KINDS[type(value)], value)
        return answer


def _check_no_file(kind: str, given: Mapping[str, Any]) -> None:
    if f"{kind}_file" in given:
        raise InferenceError(
            f"{kind} file location can not be updated through network protocol",
            StatusCode.UNSUPPORTED,
        )


def _as_is(value: Any) -> Any:
    return value


def _level(value: int) -> int:
    # An int of 32 bits; what is below 0 counts as 0 (common ``logging.h``).
    return value if value < 2**31 else 0


def _format(name: str) -> str:
    if name not in ("default", "ISO8601"):
        raise refused(f"invalid argument for log_format, got: {name}")
    return name


_KINDS = {bool: "bool_param", int: "uint32_param", str: "string_param"}
# What each setting has to be, how that is told, and what is made of it; in the server's order.
_LOG_CHANGES: dict[str, tuple[str, str, Callable[[Any], Any]]] = {
    "info": ("bool_param", "boolean", _as_is),
    "warning": ("bool_param", "boolean", _as_is),
    "error": ("bool_param", "boolean", _as_is),
    "verbose_level": ("uint32_param", "int32", _level),
    "format": ("string_param", "string", _format),
}


def _trace_changes(given: Mapping[str, Any]) -> dict[str, Any]:
    _check_no_file("trace", given)
    changes: dict[str, Any] = {}
    if "trace_level" in given:
        names = given["trace_level"].value
        level = settings.trace_level(names, alone=len(names) == 1)
        if level is not None or not names:
            changes["level"] = level
    for name, field, read in (
        ("trace_rate", "rate", settings.unsigned),
        ("trace_count", "count", _count),
        ("log_frequency", "log_frequency", settings.unsigned),
    ):
        if name in given:
            values = given[name].value
            if len(values) > 1:
                raise refused(f"expect only 1 value for '{name}'")
            changes[field] = read(name, values[0]) if values else None
    return changes


def _count(name: str, text: str) -> int:
    return settings.count(name, text, got=", got: ")
