"""The service of the protocol, all parts together.

Source: KServe v2 ``grpc_predict_v2.proto``, with Triton's extensions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tritonclient.grpc import service_pb2_grpc

from triton_stub.endpoints.grpc.about import About
from triton_stub.endpoints.grpc.inference import Inference
from triton_stub.endpoints.grpc.memory import SharedMemory
from triton_stub.endpoints.grpc.repository import ModelRepository
from triton_stub.endpoints.grpc.settings import Settings
from triton_stub.endpoints.grpc.stream import Streams

if TYPE_CHECKING:
    import grpc

    from triton_stub.endpoints.headers import ForwardedHeaders
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
    """Answers for a server; ``compression`` is that of inference answers.

    ``headers`` are those of clients that become parameters of their requests.
    """

    def __init__(
        self, server: Server, compression: grpc.Compression, headers: ForwardedHeaders
    ) -> None:
        Inference.__init__(self, server, compression, headers)
        Streams.__init__(self, server, compression, headers)
