"""``TritonError``, which a response carries, and ``TritonModelException``, which is raised."""

from __future__ import annotations

from typing import Any, ClassVar

from triton_stub.errors import StatusCode
from triton_stub.pb_utils import pybind


class TritonModelException(Exception):  # noqa: N818 - NVIDIA's name
    """Raised by the backend's own objects for misuse."""

    __module__ = "c_python_backend_utils"


class _ErrorCode(pybind.PybindEnum):
    """The codes of ``TritonError``."""

    __module__ = "c_python_backend_utils"

    UNKNOWN = StatusCode.UNKNOWN.value
    INTERNAL = StatusCode.INTERNAL.value
    NOT_FOUND = StatusCode.NOT_FOUND.value
    INVALID_ARG = StatusCode.INVALID_ARG.value
    UNAVAILABLE = StatusCode.UNAVAILABLE.value
    UNSUPPORTED = StatusCode.UNSUPPORTED.value
    ALREADY_EXISTS = StatusCode.ALREADY_EXISTS.value
    CANCELLED = StatusCode.CANCELLED.value


# A class statement cannot say it: inside a class, names with two underscores are mangled.
_ErrorCode.__name__ = "__ErrorCode"
_ErrorCode.__qualname__ = "TritonError.__ErrorCode"


class TritonError(pybind.PybindObject):
    """An error for one response: ``TritonError(message, code=TritonError.INTERNAL)``.

    Not an exception: raising it is a TypeError, as on the server.
    """

    __slots__ = ("_code", "_message")
    __module__ = "c_python_backend_utils"

    UNKNOWN: ClassVar = _ErrorCode.UNKNOWN
    INTERNAL: ClassVar = _ErrorCode.INTERNAL
    NOT_FOUND: ClassVar = _ErrorCode.NOT_FOUND
    INVALID_ARG: ClassVar = _ErrorCode.INVALID_ARG
    UNAVAILABLE: ClassVar = _ErrorCode.UNAVAILABLE
    UNSUPPORTED: ClassVar = _ErrorCode.UNSUPPORTED
    ALREADY_EXISTS: ClassVar = _ErrorCode.ALREADY_EXISTS
    CANCELLED: ClassVar = _ErrorCode.CANCELLED

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        bound = pybind.bind(("message", "code"), {"code": _ErrorCode.INTERNAL}, args, kwargs)
        message = None if bound is None else pybind.to_str(bound["message"])
        if bound is None or message is None or not isinstance(bound["code"], _ErrorCode):
            raise pybind.signature_error(
                "__init__",
                "c_python_backend_utils.TritonError(message: str, code: "
                "c_python_backend_utils.TritonError.__ErrorCode = <__ErrorCode.INTERNAL: 1>)",
                args,
                kwargs,
                kind="constructor",
            )
        self._message = message
        self._code: _ErrorCode = bound["code"]

    def message(self) -> str:
        """The text that the client gets, word for word."""
        return self._message

    def code(self) -> _ErrorCode:
        """The code that becomes the client's status."""
        return self._code
