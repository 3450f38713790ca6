"""The shared memory extensions: regions that clients register for their tensors.

Source: server ``src/grpc/grpc_server.cc``, ``RegisterSystemSharedMemoryStatus`` and those after it.
"""
# The methods have the protocol's names.
# ruff: noqa: N802

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tritonclient.grpc import service_pb2

if TYPE_CHECKING:
    import grpc

    from triton_stub.server import Server


class SharedMemory:
    """The regions of a server."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def SystemSharedMemoryStatus(self, request: Any, _context: grpc.ServicerContext) -> Any:
        """One region, or all."""
        status = service_pb2.SystemSharedMemoryStatusResponse()
        for region in self._server.shared_memory.status(request.name):
            row = status.regions[region.name]
            row.name, row.key = region.name, region.key
            row.offset, row.byte_size = region.offset, region.byte_size
        return status

    def SystemSharedMemoryRegister(self, request: Any, _context: grpc.ServicerContext) -> Any:
        """Map a region."""
        self._server.shared_memory.register(
            request.name, request.key, request.offset, request.byte_size
        )
        return service_pb2.SystemSharedMemoryRegisterResponse()

    def SystemSharedMemoryUnregister(self, request: Any, _context: grpc.ServicerContext) -> Any:
        """Forget a region, or all."""
        self._server.shared_memory.unregister(request.name)
        return service_pb2.SystemSharedMemoryUnregisterResponse()

    def CudaSharedMemoryStatus(self, request: Any, _context: grpc.ServicerContext) -> Any:
        """None: there is no GPU."""
        self._server.shared_memory.status_cuda(request.name)
        return service_pb2.CudaSharedMemoryStatusResponse()

    def CudaSharedMemoryRegister(self, request: Any, _context: grpc.ServicerContext) -> Any:
        """Refused: there is no GPU."""
        self._server.shared_memory.register_cuda(request.name)
        return service_pb2.CudaSharedMemoryRegisterResponse()

    def CudaSharedMemoryUnregister(self, request: Any, _context: grpc.ServicerContext) -> Any:
        """Nothing happens: there are none."""
        self._server.shared_memory.unregister_cuda(request.name)
        return service_pb2.CudaSharedMemoryUnregisterResponse()
