"""The shared memory extensions: clients register regions, and have tensors in them.

Source: server ``src/http_server.cc``, ``HandleSystemSharedMemory`` and ``HandleCudaSharedMemory``
(26.08), of a server that is built for GPUs and finds none.
"""

from __future__ import annotations

import string
from typing import TYPE_CHECKING, Any, TypeVar

from starlette.responses import Response

from triton_stub.endpoints.http import answers, documents
from triton_stub.errors import InferenceError, StatusCode
from triton_stub.pb_utils.casters import c_string
from triton_stub.server.shared_memory import CUDA_HANDLE_SIZE

if TYPE_CHECKING:
    import re
    from collections.abc import Callable

    from starlette.requests import Request

    from triton_stub.endpoints.http import routing
    from triton_stub.server import Server
    from triton_stub.server.shared_memory import Region

    T = TypeVar("T")

_PATH = "(/region/(?P<region>[^/]+))?/(?P<action>status|register|unregister)"
_BASE64 = frozenset(string.ascii_letters + string.digits + "+/")
_BITS = 6


class Memory:
    """The regions that clients of a server have registered."""

    def __init__(self, server: Server) -> None:
        self._memory = server.shared_memory

    def routes(self) -> routing.Routes:
        """Which path asks for what."""
        return (
            (f"/v2/systemsharedmemory{_PATH}", self._system),
            (f"/v2/cudasharedmemory{_PATH}", self._cuda),
        )

    async def _system(self, request: Request, body: bytes, path: re.Match[str]) -> Response:
        region = path["region"] or ""
        if path["action"] == "status":
            return answers.get(request, lambda: _rows(self._memory.status(region)))
        if request.method != "POST":
            return answers.wrong_method(answers.JSON)
        if path["action"] == "unregister":
            self._memory.unregister(region)
            return _done()
        self._check_named(region, "system")
        asked = documents.parse(body)
        key = c_string(_field(asked, "key", documents.as_string))
        offset = documents.as_unsigned(asked.get("offset", 0))
        byte_size = _field(asked, "byte_size", documents.as_unsigned)
        self._memory.register(region, key, offset, byte_size)
        return _done()

    async def _cuda(self, request: Request, body: bytes, path: re.Match[str]) -> Response:
        region = path["region"] or ""
        if path["action"] == "status":
            return answers.get(request, lambda: _rows(self._memory.status_cuda(region)))
        if request.method != "POST":
            return answers.wrong_method(answers.JSON)
        if path["action"] == "unregister":
            self._memory.unregister_cuda(region)
            return _done()
        self._check_named(region, "cuda")
        asked = documents.parse(body)
        handle = _member(_field(asked, "raw_handle", _anything), "b64", documents.as_string)
        for name in ("byte_size", "device_id"):
            _member(asked, name, documents.as_unsigned)
        # What is not of the alphabet does not count, wherever it is.
        if sum(letter in _BASE64 for letter in handle) * _BITS // 8 != CUDA_HANDLE_SIZE:
            raise InferenceError(
                "'raw_handle' must be a valid base64 encoded cudaIpcMemHandle_t",
                StatusCode.INVALID_ARG,
            )
        self._memory.register_cuda(region)
        return _done()

    def _check_named(self, region: str, kind: str) -> None:
        self._memory.check_allowed()
        if not region:
            raise InferenceError(
                f"'region name' is necessary to register {kind} shared memory region",
                StatusCode.INVALID_ARG,
            )


def _rows(regions: list[Region]) -> list[dict[str, Any]]:
    return [
        {
            "name": region.name,
            "key": region.key,
            "offset": region.offset,
            "byte_size": region.byte_size,
        }
        for region in regions
    ]


def _done() -> Response:
    return Response(b"", 200, {"content-type": answers.JSON})


def _field(asked: Any, name: str, kind: Callable[[Any], T]) -> T:
    if not documents.has(asked, name):
        raise InferenceError(
            f"Shared memory register request has no '{name}' field", StatusCode.INVALID_ARG
        )
    return kind(asked[name])


def _member(value: Any, name: str, kind: Callable[[Any], T]) -> T:
    if not documents.has(value, name):
        raise InferenceError(
            f"attempt to access non-existing object member '{name}'", StatusCode.INTERNAL
        )
    return kind(value[name])


def _anything(value: Any) -> Any:
    return value
