"""``Logger``: static methods that write to the server's log."""

from __future__ import annotations

import sys
from typing import Any, ClassVar, NoReturn, Protocol

from triton_stub.pb_utils import pybind


class LogLevel(pybind.PybindEnum):
    """``Logger.LogLevel``."""

    __module__ = "c_python_backend_utils"
    __qualname__ = "Logger.LogLevel"

    INFO = 0
    WARNING = 1
    ERROR = 2
    VERBOSE = 3


class LogSink(Protocol):
    """Where log lines go: the server's log."""

    def write(self, level: LogLevel, message: str, file: str, line: int) -> None:
        """Take one line; ``file`` and ``line`` are the caller's."""

    def note(self, level: LogLevel, message: str) -> None:
        """Take a line of this library's own."""


def make_logger(sink: LogSink) -> type:
    """The ``Logger`` class of one model instance.

    A class for each instance, because its methods are static and models log from threads of
    their own: nothing else tells whose server the line belongs to.
    """

    def emit(function: str, level: LogLevel, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        bound = pybind.bind(("message",), {}, args, kwargs)
        message = None if bound is None else pybind.to_str(bound["message"])
        if message is None:
            raise pybind.signature_error(function, "(message: str) -> None", args, kwargs)
        _send(level, message)

    def _send(level: LogLevel, message: str) -> None:
        caller = sys._getframe(3)  # past _send, emit or log, and the static method
        sink.write(level, message, caller.f_code.co_filename, caller.f_lineno)

    class Logger:
        """``Logger.log_info("…")`` and friends; not to be instantiated."""

        __slots__ = ()
        __module__ = "c_python_backend_utils"
        __qualname__ = "Logger"

        LogLevel: ClassVar = LogLevel
        INFO: ClassVar = LogLevel.INFO
        WARNING: ClassVar = LogLevel.WARNING
        ERROR: ClassVar = LogLevel.ERROR
        VERBOSE: ClassVar = LogLevel.VERBOSE

        def __init__(self, *_args: Any, **_kwargs: Any) -> NoReturn:
            raise TypeError("c_python_backend_utils.Logger: No constructor defined!")

        @staticmethod
        def log(*args: Any, **kwargs: Any) -> None:
            """Log ``message`` at ``level`` (INFO)."""
            _log(args, kwargs)

        @staticmethod
        def log_info(*args: Any, **kwargs: Any) -> None:
            """Log ``message`` at INFO."""
            emit("log_info", LogLevel.INFO, args, kwargs)

        @staticmethod
        def log_warn(*args: Any, **kwargs: Any) -> None:
            """Log ``message`` at WARNING."""
            emit("log_warn", LogLevel.WARNING, args, kwargs)

        @staticmethod
        def log_error(*args: Any, **kwargs: Any) -> None:
            """Log ``message`` at ERROR."""
            emit("log_error", LogLevel.ERROR, args, kwargs)

        @staticmethod
        def log_verbose(*args: Any, **kwargs: Any) -> None:
            """Log ``message`` at VERBOSE; kept only with a verbose server log."""
            emit("log_verbose", LogLevel.VERBOSE, args, kwargs)

    def _log(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        bound = pybind.bind(("message", "level"), {"level": LogLevel.INFO}, args, kwargs)
        message = None if bound is None else pybind.to_str(bound["message"])
        if bound is None or message is None or not isinstance(bound["level"], LogLevel):
            raise pybind.signature_error(
                "log",
                "(message: str, level: c_python_backend_utils.Logger.LogLevel = "
                "<LogLevel.INFO: 0>) -> None",
                args,
                kwargs,
            )
        _send(bound["level"], message)

    return Logger
