"""Health and metadata, of the server and of its models.

Source: server ``src/http_server.cc``, ``HandleServerHealth`` and those after it (2.51).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from triton_stub.endpoints.http import answers, routing, threads
from triton_stub.errors import ServerError

if TYPE_CHECKING:
    import re

    from starlette.requests import Request
    from starlette.responses import Response

    from triton_stub.server import Server


class About:
    """What a server tells of itself and of its models."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def routes(self) -> routing.Routes:
        """Which path asks for what."""
        return (
            ("/v2", self._metadata),
            ("/v2/health/(?P<kind>live|ready)", self._health),
            ("/v2/models/stats", self._statistics),
            (f"{routing.MODEL}/ready", self._ready),
            (f"{routing.MODEL}(/(?P<verb>config|stats))?", self._model),
        )

    async def _metadata(self, request: Request, _body: bytes, _path: re.Match[str]) -> Response:
        return answers.get(request, self._server.metadata)

    async def _statistics(self, request: Request, _body: bytes, _path: re.Match[str]) -> Response:
        return answers.get(request, self._server.statistics)

    async def _health(self, request: Request, _body: bytes, path: re.Match[str]) -> Response:
        if request.method != "GET":
            return answers.wrong_method(answers.TEXT)
        if path["kind"] == "live":
            healthy = self._server.live()
        else:  # a model's own is_ready may take its time
            healthy = await threads.call(self._server.ready)
        return answers.empty(200 if healthy else 400)

    async def _model(self, request: Request, _body: bytes, path: re.Match[str]) -> Response:
        def content() -> dict[str, Any]:
            model = self._server.model(path["model"], routing.version(path["version"]))
            if path["verb"] == "config":
                return model.config()
            return model.statistics() if path["verb"] == "stats" else model.metadata()

        return answers.get(request, content)

    async def _ready(self, request: Request, _body: bytes, path: re.Match[str]) -> Response:
        if request.method != "GET":
            return answers.wrong_method(answers.TEXT)
        try:
            model = self._server.model(path["model"], routing.version(path["version"]))
            if await threads.call(model.ready):
                return answers.empty(200)
        except ServerError as error:
            return answers.error(error, answers.TEXT)
        return answers.response(400, {"error": "Model version not ready"}, answers.TEXT)
