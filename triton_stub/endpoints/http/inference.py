"""Inference requests over HTTP.

Source: server ``src/http_server.cc``, ``HandleInfer`` (2.51).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from triton_stub.core.validation import BackendRefusedError
from triton_stub.endpoints import numbers
from triton_stub.endpoints.http import answers, codec, raw, routing
from triton_stub.errors import InferenceError, ServerError, StatusCode

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from triton_stub.server import Server

# In the scope of a request: when it came, and its trace, if it is traced.
RECEIVED = "triton_stub.received"
TRACE = "triton_stub.trace"
_INT_DIGITS = re.compile(r"\s*([+-]?[0-9]+)")
_INT64_MAX = 2**63 - 1


class Inference:
    """Requests to models that answer once."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def routes(self) -> routing.Routes:
        """Which path asks for what."""
        return ((f"{routing.MODEL}/infer", self._infer),)

    async def _infer(self, request: Request, body: bytes, path: re.Match[str]) -> Response:
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
            _check_not_compressed(request)
            json_size = _json_size(request.headers.get(answers.HEADER_LENGTH), len(body))
        except ServerError as error:
            return answers.error(error, answers.TEXT)
        trace = request.scope[TRACE] = self._server.tracer.sample(model.name)
        if trace is not None:
            trace.received(request.scope[RECEIVED])
        try:
            if json_size:
                memory = self._server.shared_memory
                asked, formats = codec.decode(body, json_size, model.name, version, memory)
            else:
                asked, formats = raw.decode(body, model.config, version)
            asked.trace = trace
            responses = model.submit(asked)
        except BaseException as error:
            if trace is not None:
                trace.abandon()
            if isinstance(error, BackendRefusedError):
                return answers.error(error, answers.TEXT)  # as a response
            raise
        answer = await responses.result_async()
        if answer.error is not None:
            return answers.error(answer.error, answers.TEXT)
        try:
            return answers.InferenceAnswer(*codec.encode(answer, formats, model))
        except ServerError as error:
            return answers.error(error, answers.TEXT)


def _check_not_compressed(request: Request) -> None:
    encoding = request.headers.get("content-encoding", "identity")
    if encoding in ("gzip", "deflate"):
        raise InferenceError(
            f"Content-Encoding: {encoding}: this release of triton_stub does not serve compressed "
            "requests. Send the body as it is, or test with --triton-engine=native",
            StatusCode.UNSUPPORTED,
        )
    if encoding != "identity":
        raise InferenceError("Unsupported compression type", StatusCode.UNSUPPORTED)


def _json_size(header: str | None, body_size: int) -> int:
    """How many bytes of the body are JSON; all of them unless the header says otherwise."""
    if header is None:
        return body_size
    size = _c_int(header)
    if not 0 <= size <= body_size:
        raise InferenceError(
            f"inference header size should be in range (0, {body_size}), got: {header}",
            StatusCode.INVALID_ARG,
        )
    return size


def _c_int(text: str) -> int:
    """``atoi``: leading digits, 0 if there are none, cut to 32 bits."""
    digits = _INT_DIGITS.match(text)
    long = max(-_INT64_MAX - 1, min(numbers.read(digits[1]) if digits else 0, _INT64_MAX))
    return (long + 2**31) % 2**32 - 2**31
