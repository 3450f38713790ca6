"""A Triton server in this process, with the face of NVIDIA's own in-process Python API."""

from triton_stub.server.model import Model
from triton_stub.server.response import ResponseIterator
from triton_stub.server.server import IMITATED_VERSION, Server

__all__ = ["IMITATED_VERSION", "Model", "ResponseIterator", "Server"]
