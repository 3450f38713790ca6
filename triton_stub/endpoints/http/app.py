"""The HTTP side of a server: which path and method asks for what, and what is answered.

Source: server ``src/http_server.cc``, ``HTTPAPIServer::Handle`` and the handlers it calls (2.51).
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Any

from starlette.requests import ClientDisconnect, Request

from triton_stub.endpoints.defects import defect
from triton_stub.endpoints.headers import ForwardedHeaders
from triton_stub.endpoints.http import answers, bodies, departure, inference
from triton_stub.endpoints.http.about import About
from triton_stub.endpoints.http.generation import Generation
from triton_stub.endpoints.http.inference import Inference
from triton_stub.endpoints.http.memory import Memory
from triton_stub.endpoints.http.repository import ModelRepository
from triton_stub.endpoints.http.settings import Settings
from triton_stub.errors import ServerError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.responses import Response
    from starlette.types import Message, Receive, Scope, Send

    from triton_stub.server import Server

    _Handler = Callable[[Request, Any, re.Match[str]], Awaitable[Response]]
    _Reader = Callable[[Request], Awaitable[bytes | memoryview]]


class HttpApp:
    """An ASGI application that answers for a server.

    The server matches paths as they come, without decoding ``%``, and so does this.
    ``max_input_size`` is how many bytes of JSON a request may have, and so on: see ``bodies``.
    Headers in whose name the pattern is found become parameters of inference requests.
    """

    def __init__(
        self,
        server: Server,
        max_input_size: int = bodies.MAX_INPUT_SIZE,
        header_forward_pattern: str = "",
    ) -> None:
        self._server = server
        requests = Inference(server, max_input_size, ForwardedHeaders(header_forward_pattern))
        parts = (
            *(Generation(server, max_input_size), About(server), ModelRepository(server)),
            *(Settings(server), Memory(server)),
        )
        read_json: _Reader = functools.partial(bodies.read, limit=max_input_size)
        # Pattern, handler, and who reads the body: one with binary tensors may be larger.
        self._routes: list[tuple[re.Pattern[str], _Handler, _Reader]] = [
            (re.compile(pattern), handler, read)
            for routes, read in (
                (requests.routes(), bodies.read_tensors),
                *((part.routes(), read_json) for part in parts),
            )
            for pattern, handler in routes
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; an error of the server's becomes its status and text."""
        request = Request(scope, receive)
        now = self._server.tracer.now
        scope[inference.RECEIVED] = now()
        try:
            # The whole body first, also of a request that will be refused: its client may not
            # read before it has written.
            response = await self._answer(request)
        except ClientDisconnect:
            return
        except ServerError as error:
            response = answers.error(error, answers.JSON)
        except Exception as error:  # noqa: BLE001 - the client must not wait for ever
            response = answers.error(defect(self._server.log(), error), answers.JSON)
        client = departure.of(request)

        async def receive_after_body() -> Message:
            message = await receive()
            return {"type": "http.disconnect"} if client.happened else message

        start = now()
        await response(scope, receive_after_body, send)
        if (trace := scope.get(inference.TRACE)) is not None:
            trace.sent(start)

    async def _answer(self, request: Request) -> Response:
        path = request.scope["raw_path"].decode("ascii", "replace")
        for pattern, handler, read in self._routes:
            if match := pattern.fullmatch(path):
                if request.method == "POST":
                    body = await read(request)
                else:
                    body = await bodies.ignore(request)
                return await handler(request, body, match)
        await bodies.ignore(request)
        return answers.response(404, {"error": "Not Found"}, answers.TEXT)
