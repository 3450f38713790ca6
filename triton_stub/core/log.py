"""The server's log: kept for assertions, and echoed for people."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from triton_stub.pb_utils.logger import LogLevel

if TYPE_CHECKING:
    from typing import TextIO

_LETTERS = {LogLevel.INFO: "I", LogLevel.WARNING: "W", LogLevel.ERROR: "E", LogLevel.VERBOSE: "I"}
_KEPT = 100_000


@dataclass(frozen=True, slots=True)
class LogSettings:
    """Which lines are kept, and how they look: what the logging extension tells and changes.

    ``file`` is where somebody prints them, empty for the standard error stream.
    """

    file: str = ""
    info: bool = True
    warning: bool = True
    error: bool = True
    verbose_level: int = 0
    format: Literal["default", "ISO8601"] = "default"

    def keeps(self, level: LogLevel) -> bool:
        """True if lines of this level are kept."""
        if level == LogLevel.VERBOSE:
            return self.verbose_level > 0
        return {LogLevel.INFO: self.info, LogLevel.WARNING: self.warning}.get(level, self.error)

    def to_dict(self) -> dict[str, Any]:
        """As the logging extension prints them."""
        return {
            "log_file": self.file,
            "log_info": self.info,
            "log_warning": self.warning,
            "log_error": self.error,
            "log_verbose_level": self.verbose_level,
            "log_format": self.format,
        }


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One line; ``str()`` gives it in the server's format.

    ``early`` is a line that a model has logged before the server listened to it: the model's
    process prints that itself, as it is (python_backend ``src/pb_stub_log.cc``).
    """

    time: datetime
    level: LogLevel
    message: str
    file: str
    line: int
    early: bool = False
    format: Literal["default", "ISO8601"] = "default"

    def __str__(self) -> str:
        # Seen on the real server 2.51: I1122 14:01:18.046764 26569 model.py:6] "init log"
        message = f" {self.message}" if self.early else json.dumps(self.message, ensure_ascii=False)
        letter = _LETTERS[self.level]
        if self.format == "ISO8601":
            when = f"{self.time:%Y-%m-%dT%H:%M:%S}Z {letter}"
        else:
            when = f"{letter}{self.time:%m%d %H:%M:%S.%f}"
        return f"{when} {os.getpid()} {self.file}:{self.line}] {message}"


class Log:
    """Collects records from any thread; ``verbose`` keeps VERBOSE ones, ``echo`` prints all.

    Keeps the newest 100 000, so that a server may run for weeks. ``settings`` may change at any
    time; what is said here in ``verbose`` is their verbose level 1.
    """

    def __init__(
        self,
        settings: LogSettings | None = None,
        *,
        verbose: bool = False,
        echo: TextIO | None = None,
    ) -> None:
        self.settings = settings or LogSettings(verbose_level=int(verbose))
        self._echo = echo
        self._echoed = "".join(_LETTERS.values())
        # Of a garbage collection that comes meanwhile a model's __del__ may log, too.
        self._lock = threading.RLock()
        self._pid = os.getpid()
        self._records: deque[LogRecord] = deque(maxlen=_KEPT)

    def echo(self, to: TextIO, letters: str) -> None:
        """Print the lines that begin with one of ``letters`` from now on."""
        self._echo, self._echoed = to, letters

    def write(self, level: LogLevel, message: str, file: str, line: int) -> None:
        """Add one line; ``file`` is shortened to its name, as the server does."""
        settings = self.settings
        if settings.keeps(level):
            name = Path(file).name
            now = datetime.now(UTC)
            self._keep(LogRecord(now, level, message, name, line, format=settings.format))

    def write_early(self, level: LogLevel, message: str, file: str, line: int) -> None:
        """Add one line that the server did not listen to; nobody drops the VERBOSE ones."""
        self._keep(LogRecord(datetime.now(UTC), level, message, Path(file).name, line, early=True))

    def _keep(self, record: LogRecord) -> None:
        # What a worker that a model has forked logs never gets to the server; and the lock may
        # have been held by another thread when it was forked.
        if os.getpid() != self._pid:
            return
        text = "" if self._echo is None else str(record)
        with self._lock:
            self._records.append(record)
            if self._echo is not None and _LETTERS[record.level] in self._echoed:
                # Somebody closed it: no reason for a model to fail.
                with contextlib.suppress(OSError, ValueError):
                    print(text, file=self._echo, flush=True)

    def note(self, level: LogLevel, message: str) -> None:
        """Add a line of this library's own; its place is the caller's."""
        caller = sys._getframe(1)
        self.write(level, message, caller.f_code.co_filename, caller.f_lineno)

    def records(self) -> list[LogRecord]:
        """All records that are kept, the oldest first."""
        with self._lock:
            return list(self._records)

    def __str__(self) -> str:
        return "\n".join(map(str, self.records()))
