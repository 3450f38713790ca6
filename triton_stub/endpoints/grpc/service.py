"""The service of the protocol, all parts together.

Source: KServe v2 ``grpc_predict_v2.proto``, with Triton's extensions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
from tritonclient.grpc import service_pb2_grpc

from triton_stub.endpoints.grpc.about import About
from triton_stub.endpoints.grpc.inference import Inference
from triton_stub.endpoints.grpc.memory import SharedMemory
from triton_stub.endpoints.grpc.repository import ModelRepository
from triton_stub.endpoints.grpc.settings import Settings
from triton_stub.endpoints.grpc.stream import Streams

if TYPE_CHECKING:
    from triton_stub.server import Server


class Service(
    About,
    Inference,
    ModelRepository,
    Settings,
    SharedMemory,
    Streams,
    service_pb2_grpc.GRPCInferenceServiceServicer,  # type: ignore[misc]  # grpc has no types
):
    """Answers for a server; ``compression`` is that of inference answers."""

    def __init__(
        self, server: Server, compression: grpc.Compression = grpc.Compression.NoCompression
    ) -> None:
        self._server = server
        self._compression = compression
        Streams.__init__(self, server, compression)
