"""Health, metadata, configuration and statistics, of the server and of its models.

Source: server ``src/grpc/grpc_server.cc``, ``RegisterServerLive`` and those after it.
"""
# The methods have the protocol's names.
# ruff: noqa: N802

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf import json_format
from tritonclient.grpc import service_pb2

from triton_stub.endpoints.grpc import codec
from triton_stub.pb_utils.casters import c_string

if TYPE_CHECKING:
    from triton_stub.server import Model, Server

# HealthCheckResponse of grpc.health.v1, which has one field: an enum.
_SERVING = b"\x08\x01"
_NOT_SERVING = b"\x08\x02"


class About:
    """What a server tells of itself and of its models."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def ServerLive(self, _request: Any, _context: grpc.ServicerContext) -> Any:
        """True until the server stops."""
        return service_pb2.ServerLiveResponse(live=self._server.live())

    def ServerReady(self, _request: Any, _context: grpc.ServicerContext) -> Any:
        """True if requests can be served."""
        return service_pb2.ServerReadyResponse(ready=self._server.ready())

    def ModelReady(self, request: Any, _context: grpc.ServicerContext) -> Any:
        """True if a model, or a version of it, serves."""
        return service_pb2.ModelReadyResponse(ready=self._model(request).ready())

    def ServerMetadata(self, _request: Any, _context: grpc.ServicerContext) -> Any:
        """Name, version and extensions."""
        return service_pb2.ServerMetadataResponse(**self._server.metadata())

    def ModelMetadata(self, request: Any, _context: grpc.ServicerContext) -> Any:
        """Name, versions, platform, inputs and outputs."""
        return service_pb2.ModelMetadataResponse(**self._model(request).metadata())

    def ModelConfig(self, request: Any, _context: grpc.ServicerContext) -> Any:
        """The configuration, with all defaults."""
        return json_format.ParseDict(
            {"config": self._model(request).config()}, service_pb2.ModelConfigResponse()
        )

    def ModelStatistics(self, request: Any, _context: grpc.ServicerContext) -> Any:
        """What is counted of one model, or of all."""
        version = codec.version(request.version)
        statistics = self._server.statistics(c_string(request.name), version)
        return json_format.ParseDict(statistics, service_pb2.ModelStatisticsResponse())

    def _model(self, request: Any) -> Model:
        version = codec.version(request.version)
        return self._server.model(c_string(request.name), version)


def health(server: Server) -> grpc.GenericRpcHandler:
    """The service of gRPC's own health checking protocol: one answer for all services."""

    def check(_request: bytes, _context: grpc.ServicerContext) -> bytes:
        return _SERVING if server.ready() else _NOT_SERVING

    return grpc.method_handlers_generic_handler(
        "grpc.health.v1.Health", {"Check": grpc.unary_unary_rpc_method_handler(check)}
    )
