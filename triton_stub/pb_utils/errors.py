"""``TritonError``, which a response carries, and ``TritonModelException``, which is raised."""

from __future__ import annotations

from typing import Any, ClassVar

from triton_stub.errors import StatusCode
from triton_stub.pb_utils import pybind
from triton_stub.pb_utils.casters import STR, instance_of, returned
from triton_stub.pb_utils.enums import PybindEnum, member


class TritonModelException(Exception):  # noqa: N818 - NVIDIA's name
    """Raised by the backend's own objects for misuse."""

    __module__ = "c_python_backend_utils"

    def __reduce__(self) -> Any:
        # Not by the class's own name: its module can be imported inside a model only.
        return _exception_again, self.args


def _exception_again(*args: Any) -> TritonModelException:
    return TritonModelException(*args)


class __ErrorCode(PybindEnum):
    """The codes of ``TritonError``."""

    __slots__ = ()
    __module__ = "c_python_backend_utils"
    __qualname__ = "TritonError.__ErrorCode"

    UNKNOWN: ClassVar[ErrorCode] = member(StatusCode.UNKNOWN.value)
    INTERNAL: ClassVar[ErrorCode] = member(StatusCode.INTERNAL.value)
    NOT_FOUND: ClassVar[ErrorCode] = member(StatusCode.NOT_FOUND.value)
    INVALID_ARG: ClassVar[ErrorCode] = member(StatusCode.INVALID_ARG.value)
    UNAVAILABLE: ClassVar[ErrorCode] = member(StatusCode.UNAVAILABLE.value)
    UNSUPPORTED: ClassVar[ErrorCode] = member(StatusCode.UNSUPPORTED.value)
    ALREADY_EXISTS: ClassVar[ErrorCode] = member(StatusCode.ALREADY_EXISTS.value)
    CANCELLED: ClassVar[ErrorCode] = member(StatusCode.CANCELLED.value)


# A name that can be said inside a class.
ErrorCode = __ErrorCode


def _code(code: StatusCode) -> pybind.StaticProperty[ErrorCode]:
    return pybind.StaticProperty(lambda: ErrorCode(code.value))


class TritonError(pybind.PybindObject):
    """An error for one response: ``TritonError(message, code=TritonError.INTERNAL)``.

    Not an exception: raising it is a TypeError, as on the server. A code is a new object whenever
    it is asked for: compare it with ``==``, never with ``is``.
    """

    __slots__ = ("_code", "_message")
    __module__ = "c_python_backend_utils"

    UNKNOWN = _code(StatusCode.UNKNOWN)
    INTERNAL = _code(StatusCode.INTERNAL)
    NOT_FOUND = _code(StatusCode.NOT_FOUND)
    INVALID_ARG = _code(StatusCode.INVALID_ARG)
    UNAVAILABLE = _code(StatusCode.UNAVAILABLE)
    UNSUPPORTED = _code(StatusCode.UNSUPPORTED)
    ALREADY_EXISTS = _code(StatusCode.ALREADY_EXISTS)
    CANCELLED = _code(StatusCode.CANCELLED)

    @pybind.constructor(message=STR, code=(instance_of(ErrorCode, none=False), ErrorCode.INTERNAL))
    def __init__(self, message: str, code: ErrorCode = ErrorCode.INTERNAL) -> None:
        self._message = message
        self._code = code.value

    @pybind.method("str")
    def message(self) -> str:
        """The text that the client gets, word for word."""
        return returned(self._message)

    @pybind.method("c_python_backend_utils.TritonError.__ErrorCode")
    def code(self) -> ErrorCode:
        """The code that becomes the client's status."""
        return ErrorCode(self._code)

    def _status(self) -> StatusCode:
        """The client's status; the server makes UNKNOWN of a number that is no code."""
        try:
            return StatusCode(self._code)
        except ValueError:
            return StatusCode.UNKNOWN


setattr(TritonError, "__ErrorCode", ErrorCode)  # as text: a name would be mangled
