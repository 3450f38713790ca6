"""Errors with Triton's status codes.

Texts of the real server are written once, next to the check that raises them, with the source
they were taken from (``core/validation.py``, ``runtime/contract.py``, ...).
"""

from __future__ import annotations

import traceback
from enum import IntEnum
from typing import Any


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


class TritonError(Exception):
    """The root of all errors, with one class for each status code, as NVIDIA's in-process API has.

    Source: core, ``python/tritonserver/_c/tritonserver_pybind.cc`` (``ThrowIfError``).
    """


class UnknownError(TritonError):
    """``UNKNOWN``; also every code that has no class of its own, such as ``CANCELLED``."""


class InternalError(TritonError):
    """``INTERNAL``."""


class NotFoundError(TritonError):
    """``NOT_FOUND``."""


class InvalidArgumentError(TritonError):
    """``INVALID_ARG``."""


class UnavailableError(TritonError):
    """``UNAVAILABLE``."""


class UnsupportedError(TritonError):
    """``UNSUPPORTED``."""


class AlreadyExistsError(TritonError):
    """``ALREADY_EXISTS``."""


_CLASSES: dict[StatusCode, type[TritonError]] = {
    StatusCode.INTERNAL: InternalError,
    StatusCode.NOT_FOUND: NotFoundError,
    StatusCode.INVALID_ARG: InvalidArgumentError,
    StatusCode.UNAVAILABLE: UnavailableError,
    StatusCode.UNSUPPORTED: UnsupportedError,
    StatusCode.ALREADY_EXISTS: AlreadyExistsError,
}


class ServerError(TritonError):
    """Something the server refuses or fails at; ``str(error)`` is exactly the server's text.

    Each is of two kinds: what happened (``InferenceError``, ``LoadError``, …) and its status
    code (``NotFoundError``, …). ``except`` may name either.
    """

    def __init__(self, message: str, code: StatusCode = StatusCode.INTERNAL) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.__class__ = _with_code(type(self), code)

    def __str__(self) -> str:
        # The in-process API puts the response behind the text into ``args``.
        return self.message

    def __reduce__(self) -> Any:
        # A traceback stays where it is, and so does an exception whose class is a model's own.
        cause = self.__cause__
        told = ""
        if isinstance(cause, RemoteError):
            told = cause.args[0]
        elif cause is not None:
            told = "".join(traceback.format_exception(cause))
        return _again, (self._kind(), self.message, self.code, told), self.__dict__

    @classmethod
    def _kind(cls) -> type[ServerError]:
        """The class without that of the code, which is made at run time."""
        return cls


_COMBINED: dict[tuple[type[ServerError], StatusCode], type[ServerError]] = {}


def _with_code(kind: type[ServerError], code: StatusCode) -> type[ServerError]:
    kind = kind._kind()
    if (kind, code) not in _COMBINED:
        both = (kind, _CLASSES.get(code, UnknownError))
        _COMBINED[kind, code] = type(
            kind.__name__,
            both,
            {
                "__module__": kind.__module__,
                "__qualname__": kind.__qualname__,
                "_kind": classmethod(lambda _cls: kind),
            },
        )
    return _COMBINED[kind, code]


def _again(kind: type[ServerError], message: str, code: StatusCode, cause: str = "") -> ServerError:
    error = kind.__new__(kind, message)
    ServerError.__init__(error, message, code)
    if cause:
        error.__cause__ = RemoteError(cause)
    return error


class RemoteError(Exception):
    """The exception of a model in a process of its own: ``str()`` is its traceback, and all of it.

    It is the cause of a ServerError that comes from there, in place of the exception itself.
    """

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}"""'


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
