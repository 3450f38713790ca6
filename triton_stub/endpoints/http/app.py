"""The HTTP side of a server: which path and method asks for what, and what is answered.

Source: server ``src/http_server.cc``, ``HTTPAPIServer::Handle`` and the handlers it calls (2.51).
"""

from __future__ import annotations

import re
import traceback
from typing import TYPE_CHECKING

from starlette.requests import ClientDisconnect, Request

from triton_stub.endpoints.http import answers, inference
from triton_stub.endpoints.http.about import About
from triton_stub.endpoints.http.generation import Generation
from triton_stub.endpoints.http.inference import Inference
from triton_stub.endpoints.http.memory import Memory
from triton_stub.endpoints.http.repository import ModelRepository
from triton_stub.endpoints.http.settings import Settings
from triton_stub.errors import InferenceError, ServerError, StatusCode
from triton_stub.pb_utils.logger import LogLevel

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.types import Receive, Scope, Send

    from triton_stub.server import Server

# What the real server has and a later release is to have: a client is told so, not "Not Found".
_LATER = ("/v2/repository(/[^/]+)?/models/[^/]+/(load|unload)",)


class HttpApp:
    """An ASGI application that answers for a server.

    The server matches paths as they come, without decoding ``%``, and so does this.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        parts = (
            *(Inference(server), Generation(server), About(server)),
            *(ModelRepository(server), Settings(server), Memory(server)),
        )
        self._routes = [
            (re.compile(pattern), handler)
            for pattern, handler in (
                *(route for part in parts for route in part.routes()),
                *((pattern, self._later) for pattern in _LATER),
            )
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; an error of the server's becomes its status and text."""
        request = Request(scope, receive)
        now = self._server.tracer.now
        scope[inference.RECEIVED] = now()
        try:
            # The whole body first, also of a request that will be refused: its client may not
            # read before it has written.
            response = await self._answer(request, await request.body())
        except ClientDisconnect:
            return
        except ServerError as error:
            response = answers.error(error, answers.JSON)
        except Exception as error:  # noqa: BLE001 - the client must not wait for ever
            self._server.log().note(LogLevel.ERROR, traceback.format_exc())
            response = answers.error(
                InferenceError(
                    f"triton_stub failed to answer this request: {type(error).__name__}: {error}. "
                    "This is a defect of triton_stub; the server's log has the traceback."
                ),
                answers.JSON,
            )
        if (trace := scope.get(inference.TRACE)) is None:
            await response(scope, receive, send)
        else:
            start = now()
            await response(scope, receive, send)
            trace.sent(start)

    async def _answer(self, request: Request, body: bytes) -> Response:
        path = request.scope["raw_path"].decode("ascii", "replace")
        for pattern, handler in self._routes:
            if match := pattern.fullmatch(path):
                return await handler(request, body, match)
        return answers.response(404, {"error": "Not Found"}, answers.TEXT)

    async def _later(self, _request: Request, _body: bytes, path: re.Match[str]) -> Response:
        raise ServerError(
            f"{path[0]}: this release of triton_stub does not serve that; test with "
            "--triton-engine=native",
            StatusCode.UNSUPPORTED,
        )
