"""Errors with Triton's status codes.

Texts of the real server are written once, next to the check that raises them, with the source
they were taken from (``core/validation.py``, ``runtime/contract.py``, ...).
"""

from __future__ import annotations

from enum import IntEnum


class StatusCode(IntEnum):
    """``TRITONSERVER_Error_Code`` with the values the Python backend shows to a model.

    Source: python_backend, ``src/pb_stub.cc`` (TritonError codes).
    """

    UNKNOWN = 0
    INTERNAL = 1
    NOT_FOUND = 2
    INVALID_ARG = 3
    UNAVAILABLE = 4
    UNSUPPORTED = 5
    ALREADY_EXISTS = 6
    CANCELLED = 7

    @property
    def http_status(self) -> int:
        """HTTP status of an error body (server, ``src/http_server.cc``)."""
        return _HTTP_STATUS.get(self, 400)

    @property
    def label(self) -> str:
        """The code's name inside a load failure (core, ``src/status.cc``)."""
        return _LABELS[self]


_HTTP_STATUS = {
    StatusCode.INTERNAL: 500,
    StatusCode.NOT_FOUND: 404,
    StatusCode.UNAVAILABLE: 503,
    StatusCode.UNSUPPORTED: 501,
}

_LABELS = {
    StatusCode.UNKNOWN: "Unknown",
    StatusCode.INTERNAL: "Internal",
    StatusCode.NOT_FOUND: "Not found",
    StatusCode.INVALID_ARG: "Invalid argument",
    StatusCode.UNAVAILABLE: "Unavailable",
    StatusCode.UNSUPPORTED: "Unsupported",
    StatusCode.ALREADY_EXISTS: "Already exists",
    StatusCode.CANCELLED: "Cancelled",
}


class ServerError(Exception):
    """Something the server refuses or fails at; ``str(error)`` is exactly the server's text."""

    def __init__(self, message: str, code: StatusCode = StatusCode.INTERNAL) -> None:
        super().__init__(message)
        self.message = message
        self.code = code


class InferenceError(ServerError):
    """The answer to an inference request is an error."""


class LoadError(ServerError):
    """A model, or a whole repository, could not be loaded.

    ``told`` is what the server tells a client of it, where it tells less than this text.
    """

    def __init__(
        self, message: str, code: StatusCode = StatusCode.INTERNAL, *, told: str = ""
    ) -> None:
        super().__init__(message, code)
        self.told = told or message


class ConfigError(LoadError):
    """``config.pbtxt`` cannot be read, or says something a server refuses."""

    def __init__(self, message: str, code: StatusCode = StatusCode.INVALID_ARG) -> None:
        super().__init__(message, code)


class UnsupportedFeatureError(LoadError):
    """The model asks for a part of Triton that this release does not imitate.

    Raised instead of running the model under other rules than the server's.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message, StatusCode.UNSUPPORTED)
