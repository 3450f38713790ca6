"""``Logger``: static methods that write to the server's log."""

from __future__ import annotations

import sys
from typing import Any, ClassVar, Protocol

from triton_stub.pb_utils import pybind
from triton_stub.pb_utils.casters import STR, instance_of
from triton_stub.pb_utils.enums import PybindEnum, member


class LogLevel(PybindEnum):
    """``Logger.LogLevel``."""

    __slots__ = ()
    __module__ = "c_python_backend_utils"
    __qualname__ = "Logger.LogLevel"

    INFO: ClassVar[LogLevel] = member(0)
    WARNING: ClassVar[LogLevel] = member(1)
    ERROR: ClassVar[LogLevel] = member(2)
    VERBOSE: ClassVar[LogLevel] = member(3)


# The name of the type inside Logger, where LogLevel is an attribute.
_Level = LogLevel


class LogSink(Protocol):
    """Where log lines go: the server's log."""

    def write(self, level: LogLevel, message: str, file: str, line: int) -> None:
        """Take one line; ``file`` and ``line`` are the caller's."""

    def write_early(self, level: LogLevel, message: str, file: str, line: int) -> None:
        """Take one line from before ``initialize``, when no server listens to the model yet."""

    def note(self, level: LogLevel, message: str) -> None:
        """Take a line of this library's own."""


def make_logger(sink: LogSink) -> Any:
    """The ``Logger`` class of one model instance.

    A class for each instance, because its methods are static and models log from threads of
    their own: nothing else tells whose server the line belongs to.
    """

    def send(level: LogLevel, message: str) -> None:
        caller = sys._getframe(3)  # past send, the method, and what reads its arguments
        # C takes it for a text that ends with a zero.
        text = message.partition("\0")[0]
        sink.write(level, text, caller.f_code.co_filename, caller.f_lineno)

    class Logger(pybind.PybindObject):
        """``Logger.log_info("…")`` and friends; not to be instantiated."""

        __slots__ = ()
        __module__ = "c_python_backend_utils"
        __qualname__ = "Logger"

        LogLevel: ClassVar = LogLevel
        INFO: ClassVar = LogLevel.INFO
        WARNING: ClassVar = LogLevel.WARNING
        ERROR: ClassVar = LogLevel.ERROR
        VERBOSE: ClassVar = LogLevel.VERBOSE

        __init__ = pybind.no_constructor

        @staticmethod
        @pybind.function("None", message=STR, level=(instance_of(LogLevel, none=False), INFO))
        def log(message: str, level: _Level = INFO) -> None:
            """Log ``message`` at ``level``."""
            send(level, message)

        @staticmethod
        @pybind.function("None", message=STR)
        def log_info(message: str) -> None:
            """Log ``message`` at INFO."""
            send(LogLevel.INFO, message)

        @staticmethod
        @pybind.function("None", message=STR)
        def log_warn(message: str) -> None:
            """Log ``message`` at WARNING."""
            send(LogLevel.WARNING, message)

        @staticmethod
        @pybind.function("None", message=STR)
        def log_error(message: str) -> None:
            """Log ``message`` at ERROR."""
            send(LogLevel.ERROR, message)

        @staticmethod
        @pybind.function("None", message=STR)
        def log_verbose(message: str) -> None:
            """Log ``message`` at VERBOSE; kept only with a verbose server log."""
            send(LogLevel.VERBOSE, message)

    return Logger
