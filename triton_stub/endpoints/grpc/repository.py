"""The model repository extension: which models there are, and loading and unloading them.

Source: server ``src/grpc/grpc_server.cc``, ``RegisterRepositoryIndex`` and those after it.
"""
# The methods have the protocol's names.
# ruff: noqa: N802

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tritonclient.grpc import service_pb2

from triton_stub.endpoints.grpc.tensors import refused
from triton_stub.errors import InferenceError, StatusCode
from triton_stub.pb_utils.casters import c_string

if TYPE_CHECKING:
    import grpc

    from triton_stub.server import Server


class ModelRepository:
    """The models of a server's repositories."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def RepositoryIndex(self, request: Any, _context: grpc.ServicerContext) -> Any:
        """Every model, and its state."""
        _check_no_repository(request)
        index = service_pb2.RepositoryIndexResponse()
        for state in self._server.index(only_ready=request.ready):
            row = index.models.add(name=state.name, version=state.version, reason=state.reason)
            if state.version or state.reason:
                row.state = state.state
        return index

    def RepositoryModelLoad(self, request: Any, _context: grpc.ServicerContext) -> Any:
        """Load a model, or load it again."""
        _check_no_repository(request)
        parameters: dict[str, str | bytes | int | bool] = {}
        for name, parameter in request.parameters.items():
            if name == "config":
                parameters[name] = c_string(_value(name, parameter, "string_param"))
            elif name.startswith("file:"):
                parameters[c_string(name)] = _value(name, parameter, "bytes_param")
            else:
                raise refused(f"unrecognized load parameter '{name}'.")
        self._server.load(c_string(request.model_name), parameters)
        return service_pb2.RepositoryModelLoadResponse()

    def RepositoryModelUnload(self, request: Any, _context: grpc.ServicerContext) -> Any:
        """Unload a model, and with ``unload_dependents`` what it needs."""
        _check_no_repository(request)
        dependents = False
        if "unload_dependents" in request.parameters:
            parameter = request.parameters["unload_dependents"]
            if parameter.WhichOneof("parameter_choice") != "bool_param":
                raise refused(
                    "invalid value type for 'unload_dependents' parameter, expected bool_param."
                )
            dependents = parameter.bool_param
        self._server.unload(c_string(request.model_name), unload_dependents=dependents)
        return service_pb2.RepositoryModelUnloadResponse()


def _check_no_repository(request: Any) -> None:
    if request.repository_name:
        raise InferenceError(
            "'repository_name' specification is not supported", StatusCode.UNSUPPORTED
        )


def _value(name: str, parameter: Any, kind: str) -> Any:
    if parameter.WhichOneof("parameter_choice") != kind:
        raise refused(f"invalid value type for load parameter '{name}', expected {kind}.")
    return getattr(parameter, kind)
