"""Inference requests over HTTP.

Source: server ``src/http_server.cc``, ``HandleInfer`` (26.08).
"""

from __future__ import annotations

import asyncio
import functools
import re
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from triton_stub.core.validation import BackendRefusedError
from triton_stub.endpoints import numbers
from triton_stub.endpoints.headers import AS_SENT, ForwardedHeaders
from triton_stub.endpoints.http import (
    answers,
    bodies,
    codec,
    compression,
    departure,
    raw,
    routing,
)
from triton_stub.errors import InferenceError, ServerError, StatusCode

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request
    from starlette.responses import Response

    from triton_stub.core.model import ServedModel
    from triton_stub.core.request import InferenceResponse
    from triton_stub.endpoints.http.outputs import OutputFormats
    from triton_stub.server import Server

# In the scope of a request: when it came, and its trace, if it is traced.
RECEIVED = "triton_stub.received"
TRACE = "triton_stub.trace"
# ``std::stoi``; a number of more than 32 bits is cut, as by ``std::atoi`` up to 26.05: since then
# the server dies of it.
_INT_DIGITS = re.compile(r"\s*([+-]?[0-9]+)")
_INT64_MAX = 2**63 - 1
# What zlib and json work on within a few milliseconds.
_IN_LOOP_BYTES = 1 << 20

P = ParamSpec("P")
T = TypeVar("T")


class Inference:
    """Requests to models that answer once."""

    def __init__(self, server: Server, max_input_size: int, headers: ForwardedHeaders) -> None:
        self._server = server
        self._limit = max_input_size
        self._headers = headers

    def routes(self) -> routing.Routes:
        """Which path asks for what."""
        return ((f"{routing.MODEL}/infer", self._infer),)

    async def _infer(
        self, request: Request, body: bytes | memoryview, path: re.Match[str]
    ) -> Response:
        if request.method != "POST":
            return answers.wrong_method(answers.TEXT)
        try:
            version = routing.version(path["version"])
            model = self._server.find(path["model"], version)
            if model.decoupled:
                raise InferenceError(
                    "HTTP end point doesn't support models with decoupled transaction policy",
                    StatusCode.UNSUPPORTED,
                )
            body = await self._decompressed(request, body)
            json_size = _json_size(request.headers.get(answers.HEADER_LENGTH), len(body))
        except compression.UnknownEncodingError as error:
            return answers.error(error, answers.TEXT, {"accept-encoding": compression.ENCODINGS})
        except ServerError as error:
            return answers.error(error, answers.TEXT)
        trace = request.scope[TRACE] = self._server.tracer.sample(model.name)
        if trace is not None:
            trace.received(request.scope[RECEIVED])
        try:
            if json_size:
                bodies.check_json(json_size, self._limit)
                memory = self._server.shared_memory
                decode = functools.partial(codec.decode, limit=self._limit)
                asked, formats = await _off_loop(
                    json_size, decode, body, json_size, model.name, version, memory
                )
            else:
                bodies.check_raw(len(body), self._limit)
                asked, formats = raw.decode(body, model.config, version)
            asked.parameters = {**asked.parameters, **self._forwarded(request)}
            asked.trace = trace
            responses = model.submit(asked)
        except BaseException as error:
            if trace is not None:
                trace.abandon()
            if isinstance(error, BackendRefusedError):
                return answers.error(error, answers.TEXT)  # as a response
            raise
        # deviations.CLIENT_GONE
        with departure.of(request).calls(responses.cancel):
            answer = await responses.result_async()
        return await _encoded(request, answer, formats, model)

    def _forwarded(self, request: Request) -> dict[str, str]:
        sent = request.scope.get("state", {}).get(AS_SENT, ())
        return self._headers.parameters(
            (name.decode("utf-8", "surrogateescape"), value) for name, value in sent
        )

    async def _decompressed(self, request: Request, body: bytes | memoryview) -> bytes | memoryview:
        encoding = compression.requested(request.headers.get("content-encoding"))
        if not encoding:
            return body
        most = len(body) * compression.GREATEST_RATIO
        return await _off_loop(most, compression.decompress, body, self._limit)


async def _encoded(
    request: Request, answer: InferenceResponse, formats: OutputFormats, model: ServedModel
) -> Response:
    if answer.error is not None:
        return answers.error(answer.error, answers.TEXT)
    try:
        size = formats.json_size(answer.tensors)
        document, blobs = await _off_loop(size, codec.encode, answer, formats, model)
    except ServerError as error:
        return answers.error(error, answers.TEXT)
    encoding = compression.accepted(request.headers.get("accept-encoding"))
    if not encoding:
        return answers.InferenceAnswer(document, blobs)
    size = len(document) + sum(map(len, blobs))
    body = await _off_loop(size, compression.compress, (document, *blobs), encoding)
    return answers.compressed(body, encoding, len(document) if blobs else None)


async def _off_loop(size: int, work: Callable[P, T], *given: P.args, **more: P.kwargs) -> T:
    """Done in a thread if there are so many bytes to work on that others would have to wait."""
    if size <= _IN_LOOP_BYTES:
        return work(*given, **more)
    return await asyncio.to_thread(work, *given, **more)


def _json_size(header: str | None, body_size: int) -> int:
    """How many bytes of the body are JSON; all of them unless the header says otherwise."""
    if header is None:
        return body_size
    digits = _INT_DIGITS.match(header)
    if digits is None:
        raise InferenceError(
            f"Unable to parse {answers.HEADER_LENGTH}, got: {header}", StatusCode.INVALID_ARG
        )
    long = max(-_INT64_MAX - 1, min(numbers.read(digits[1]), _INT64_MAX))
    size = (long + 2**31) % 2**32 - 2**31
    if not 0 <= size <= body_size:
        raise InferenceError(
            f"inference header size should be in range (0, {body_size}), got: {header}",
            StatusCode.INVALID_ARG,
        )
    return size
