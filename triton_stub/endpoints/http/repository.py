"""The model repository extension: which models there are.

Source: server ``src/http_server.cc``, ``HandleRepositoryIndex`` (2.51).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from triton_stub.endpoints.http import answers, documents, routing

if TYPE_CHECKING:
    import re

    from starlette.requests import Request
    from starlette.responses import Response

    from triton_stub.server import Server


class ModelRepository:
    """The index of a server's models."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def routes(self) -> routing.Routes:
        """Which path asks for what."""
        return (("/v2/repository(/[^/]+)?/index", self._index),)

    async def _index(self, request: Request, body: bytes, _path: re.Match[str]) -> Response:
        if request.method != "POST":
            return answers.wrong_method(answers.JSON)
        asked = documents.parse(body) if body else None
        only_ready = documents.has(asked, "ready") and documents.as_bool(asked["ready"])
        rows: list[dict[str, str]] = []
        for state in self._server.index(only_ready=only_ready):
            row = {"name": state.name}
            if state.version:
                row["version"] = state.version
            if state.version or state.reason:
                row["state"] = state.state
            if state.reason:
                row["reason"] = state.reason
            rows.append(row)
        return answers.response(200, rows, answers.JSON)
