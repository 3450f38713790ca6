"""The model repository extension: which models there are, and loading and unloading them.

Source: server ``src/http_server.cc``, ``HandleRepositoryIndex`` and ``HandleRepositoryControl``
(26.08).
"""

from __future__ import annotations

import base64
import string
from typing import TYPE_CHECKING, Any

from triton_stub.endpoints.http import answers, documents, routing, threads
from triton_stub.errors import InferenceError, LoadError, ServerError, StatusCode
from triton_stub.pb_utils.casters import c_string

if TYPE_CHECKING:
    import re
    from collections.abc import Callable

    from starlette.requests import Request
    from starlette.responses import Response

    from triton_stub.server import Server

_BASE64 = (string.ascii_letters + string.digits + "+/").encode()
_NOT_BASE64 = bytes(set(range(256)) - set(_BASE64))
_PARAMETERS = "parameters"


class ModelRepository:
    """The index of a server's models, and what is loaded of them."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def routes(self) -> routing.Routes:
        """Which path asks for what."""
        repository = "/v2/repository(/(?P<repository>[^/]+))?"
        return (
            (f"{repository}/index", self._index),
            (f"{repository}/models/(?P<model>[^/]+)/(?P<action>load|unload)", self._control),
        )

    async def _index(self, request: Request, body: bytes, _path: re.Match[str]) -> Response:
        if request.method != "POST":
            return answers.wrong_method(answers.JSON)
        only_ready = False
        asked = documents.parse(body) if body else None
        if documents.has(asked, "ready"):
            only_ready = asked["ready"]
            if type(only_ready) is not bool:
                raise InferenceError(
                    "Invalid value for 'ready': expected a boolean", StatusCode.INVALID_ARG
                )
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

    async def _control(self, request: Request, body: bytes, path: re.Match[str]) -> Response:
        if request.method != "POST":
            return answers.wrong_method(answers.JSON)
        if path["repository"]:
            raise InferenceError(
                "'repository_name' specification is not supported", StatusCode.UNSUPPORTED
            )
        asked = documents.parse(body) if body else None
        work = self._loading if path["action"] == "load" else self._unloading
        try:
            await threads.call(work(path["model"], asked))
        except LoadError as error:
            raise ServerError(error.told, error.code) from error
        return answers.empty(200, answers.JSON)

    def _loading(self, model: str, asked: Any) -> Callable[[], object]:
        parameters = _load_parameters(asked)
        return lambda: self._server.load(model, parameters)

    def _unloading(self, model: str, asked: Any) -> Callable[[], object]:
        parameters = asked[_PARAMETERS] if documents.has(asked, _PARAMETERS) else None
        # What is no bool is an error of which the server then loses sight.
        dependents = (
            documents.has(parameters, "unload_dependents")
            and parameters["unload_dependents"] is True
        )
        return lambda: self._server.unload(model, unload_dependents=dependents)


def _load_parameters(asked: Any) -> dict[str, str | bytes]:
    """Another configuration, and other files, of a request to load a model."""
    if not documents.has(asked, _PARAMETERS):
        return {}
    given = asked[_PARAMETERS]
    if type(given) is not dict:
        raise InferenceError("attempt to get members for non-object")
    parameters: dict[str, str | bytes] = {}
    for name in map(c_string, given):
        if name not in given:
            raise InferenceError(f"attempt to access non-existing object member '{name}'")
        value = documents.as_string(given[name])
        if name == "config":
            parameters[name] = c_string(value)
        elif name.startswith("file:"):
            parameters[name] = _decoded(value)
        else:
            raise InferenceError("unexpected error on creating Triton parameter")
    return parameters


def _decoded(text: str) -> bytes:
    """Base64 as the server reads it: whatever is not of its alphabet, padding too, is left out."""
    digits = text.encode(errors="surrogateescape").translate(None, _NOT_BASE64)
    digits = digits[: len(digits) - (len(digits) % 4 == 1)]
    return base64.b64decode(digits + b"=" * (-len(digits) % 4))
