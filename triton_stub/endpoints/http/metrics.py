"""The port where Prometheus reads a server's metrics.

Source: server ``src/http_server.cc``, ``HTTPMetricsServer::Handle``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response

from triton_stub.endpoints.http import documents

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from triton_stub.server import Server

_PAGE = re.compile("/metrics/?")


class MetricsApp:
    """An ASGI application that answers with a server's metrics, whatever else it is asked for."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request: with nothing, as the server does, if it is for another page."""
        request = Request(scope, receive)
        if request.method != "GET":
            body = documents.dump({"error": "Method Not Allowed"})
            response = Response(body, 405, {"content-type": "text/plain"})
        else:
            path = request.scope["raw_path"].decode("ascii", "replace")
            page = self._server.metrics() if _PAGE.fullmatch(path) else ""
            response = Response(
                page.encode(errors="surrogateescape"),
                200,
                {"content-type": "text/plain; charset=utf-8"},
            )
        await response(scope, receive, send)
