"""The generate extension: one JSON object in, and one out, or a stream of them.

Source: server ``src/http_server.cc``, ``HandleGenerate`` and ``GenerateRequestClass`` (26.08);
Triton "Generate Extension"; WHATWG "Server-sent events".
"""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING

from starlette.responses import Response

from triton_stub.core.request import InferenceResponse
from triton_stub.core.responses import Responses
from triton_stub.core.validation import BackendRefusedError
from triton_stub.endpoints.http import (
    answers,
    departure,
    documents,
    inference,
    load_metrics,
    mapping,
    routing,
)
from triton_stub.errors import InferenceError, StatusCode

if TYPE_CHECKING:
    import re
    from collections.abc import AsyncIterator, Callable

    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

    from triton_stub.core.trace import Trace
    from triton_stub.endpoints.http.departure import Departure
    from triton_stub.server import Server

#: The media type of a stream.
EVENTS = "text/event-stream; charset=utf-8"
# The server has deleted the error by the time it looks for the status of its code.
_FAILED = 400
_NOT_ONE = (
    "generate expects model to produce exactly 1 response, use generate stream for model that "
    "generates various number of responses"
)


class Generation:
    """Requests in the plain form that clients of language models use."""

    def __init__(self, server: Server, max_input_size: int) -> None:
        self._server = server
        self._max_input_size = max_input_size

    def routes(self) -> routing.Routes:
        """Which path asks for what."""
        return (
            (f"{routing.MODEL}/generate", self._generate),
            (f"{routing.MODEL}/generate_stream", self._generate_stream),
        )

    async def _generate(self, request: Request, body: bytes, path: re.Match[str]) -> Response:
        return self._ask(request, body, path, Single)

    async def _generate_stream(
        self, request: Request, body: bytes, path: re.Match[str]
    ) -> Response:
        return self._ask(request, body, path, Stream)

    def _ask(
        self, request: Request, body: bytes, path: re.Match[str], answer: type[_Answer]
    ) -> Response:
        if request.method != "POST":
            return answers.wrong_method(answers.JSON)
        version = routing.version(path["version"])
        client = departure.of(request)
        load_format = request.headers.get(load_metrics.FORMAT)
        report = functools.partial(load_metrics.headers, self._server, load_format)
        trace = self._server.tracer.sample(path["model"])
        if trace is not None:
            trace.received(request.scope[inference.RECEIVED])
        try:
            model = self._server.find(path["model"], version)
            if request.headers.get("content-encoding", "identity") != "identity":
                raise InferenceError(
                    "Unsupported content-encoding, only 'identity' is supported.",
                    StatusCode.INVALID_ARG,
                )
            asked = mapping.decode(body, model.config, version, self._max_input_size)
            asked.trace = trace
            return answer(model.submit(asked), trace, client, report)
        except BackendRefusedError as error:
            if trace is not None:
                trace.abandon()
            return answer(_failed(error), None, client, report)
        except BaseException:
            if trace is not None:
                trace.abandon()
            raise


class _Answer(Response):
    """What is answered as responses come; a client that goes away cancels its request.

    The status is that of the first response, since it leaves before the others are there. Until
    then the server does not look whether the client is still there. ``report`` tells at that
    moment of more headers.
    """

    media_type: str

    def __init__(
        self,
        responses: Responses,
        trace: Trace | None,
        client: Departure,
        report: Callable[[], dict[str, str]],
    ) -> None:
        super().__init__()
        self._responses = responses
        self._trace = trace
        self._client = client
        self._report = report
        self._begun = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Answer, as ASGI wants it."""
        answering = asyncio.ensure_future(self._answer(send))
        leaving = asyncio.ensure_future(self._watch(receive))
        try:
            await asyncio.wait((answering, leaving), return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone = not answering.done()
            for task in (answering, leaving):
                task.cancel()
            await asyncio.wait((answering, leaving))
            if gone:
                self._responses.cancel()
                discard(self._responses)
                self._client.hang_up()
            if self._trace is not None:
                self._trace.done()
        if not gone:
            answering.result()

    async def _answer(self, send: Send) -> None:
        raise NotImplementedError

    async def _events(self) -> AsyncIterator[tuple[int, bytes]]:
        """The status and the JSON of each response that says anything."""
        final = False
        while not final:
            try:
                response = await self._responses.get_async()
            except InferenceError as error:  # none came in time
                response = _failure(error)
            self._begun.set()
            final = response.final
            if not response.bare:
                yield _told(response)

    async def _watch(self, receive: Receive) -> None:
        await self._begun.wait()
        while (await receive())["type"] != "http.disconnect":
            pass

    async def _start(self, send: Send, status: int) -> None:
        named = {"content-type": self.media_type, **self._report()}
        headers = [(name.encode(), value.encode()) for name, value in named.items()]
        await send({"type": "http.response.start", "status": status, "headers": headers})

    def _sent(self) -> None:
        # The server does not know when it sends a chunk, and says so by a zero.
        if self._trace is not None:
            self._trace.stamp("HTTP_SEND_START", 0)
            self._trace.stamp("HTTP_SEND_END", 0)


class Single(_Answer):
    """The one response that there has to be."""

    media_type = answers.JSON

    async def _answer(self, send: Send) -> None:
        contents: list[bytes] = []
        async for status, content in self._events():
            if not contents:
                await self._start(send, status)
            contents.append(content)
        if not contents:
            await self._start(send, 200)
        content = contents[0] if len(contents) == 1 else documents.dump({"error": _NOT_ONE})
        await send({"type": "http.response.body", "body": content})
        if len(contents) == 1:
            self._sent()


class Stream(_Answer):
    """Each response, as soon as it comes."""

    media_type = EVENTS

    async def _answer(self, send: Send) -> None:
        started = False
        async for status, content in self._events():
            if not started:
                await self._start(send, status)
                started = True
            event = b"data: %b\n\n" % content
            await send({"type": "http.response.body", "body": event, "more_body": True})
            self._sent()
        if not started:
            await self._start(send, 200)
        await send({"type": "http.response.body", "body": b""})


def _failed(error: InferenceError) -> Responses:
    """What the backend complains of is a response, not a refusal."""
    responses = Responses()
    responses.put(_failure(error))
    return responses


def _failure(error: InferenceError) -> InferenceResponse:
    return InferenceResponse(model_name="", model_version="", error=error)


def _told(response: InferenceResponse) -> tuple[int, bytes]:
    error = response.error
    if error is None:
        try:
            return 200, documents.dump(mapping.encode(response))
        except InferenceError as refused:  # an output that has no form in JSON
            error = refused
    return _FAILED, documents.dump({"error": error.message})


def discard(responses: Responses) -> None:
    """Let go of all responses, also of those to come."""

    def take_all() -> None:
        while responses.take() is not None:
            pass

    responses.listen(take_all)
    take_all()
