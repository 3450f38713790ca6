"""What becomes of the models while a server starts, told as it happens."""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import TextIO

    from triton_stub.core.repository.repository import ModelState

_INTERVAL = 0.1  # seconds
_CLEAR = "\r\x1b[2K"  # the cursor's line, on a terminal


class Progress:
    """Tells on ``out`` which models load, and for how long.

    On a terminal it is one line that changes and is gone in the end, elsewhere a line for each
    change.
    """

    def __init__(self, states: Callable[[], Sequence[ModelState]], out: TextIO) -> None:
        self._states = states
        self._out = out
        self._terminal = out.isatty()
        self._lock = threading.Lock()
        self._line = ""
        self._begun: dict[tuple[str, str], float] = {}
        self._ended: set[tuple[str, str]] = set()

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """Look every so often, until the end of the block."""
        done = threading.Event()

        def follow() -> None:
            while not done.wait(_INTERVAL):
                self.look()

        thread = threading.Thread(target=follow, name="progress", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
            self.look()
            with self._lock:
                self._draw("")

    def look(self) -> None:
        """Tell what has changed since the last time."""
        now = time.monotonic()
        try:
            rows = [row for row in self._states() if row.version]
        except OSError:  # a repository that is gone is told of by whoever loads from it
            return
        told = []
        for row in rows:
            key = row.name, row.version
            if key not in self._begun and key not in self._ended:
                self._begun[key] = now
                told.append(f"loading {row.name} version {row.version}")
            if row.state != "LOADING" and key in self._begun:
                self._ended.add(key)
                what = "ready" if row.state == "READY" else "failed"
                seconds = now - self._begun.pop(key)
                told.append(f"{what} {row.name} version {row.version} after {seconds:.1f} s")
        with self._lock:
            if self._terminal:
                self._draw(self._summary(now))
            elif told:
                print(*told, sep="\n", file=self._out, flush=True)

    def over(self, stream: TextIO) -> TextIO:
        """A stream for the log: its lines do not run into the line that changes."""
        if not (self._terminal and stream.isatty()):
            return stream
        return cast("TextIO", _Above(self, stream))

    def above(self, stream: TextIO, text: str) -> None:
        """Write to a stream on the same terminal."""
        with self._lock:
            line = self._line
            if line:
                self._draw("")
            stream.write(text)
            stream.flush()
            if line:
                self._draw(line)

    def _summary(self, now: float) -> str:
        loading = [f"{name} {now - begun:.0f} s" for (name, _), begun in self._begun.items()]
        if not loading:
            return ""
        return f"loaded {len(self._ended)}; loading {', '.join(loading)}"

    def _draw(self, line: str) -> None:
        if self._terminal and line != self._line:
            self._line = line
            self._out.write(_CLEAR + line[: shutil.get_terminal_size().columns - 1])
            self._out.flush()


class _Above:
    """Passes whole lines on, with the progress out of their way."""

    def __init__(self, progress: Progress, stream: TextIO) -> None:
        self._progress = progress
        self._stream = stream
        self._kept = ""

    def write(self, text: str) -> int:
        """Keep the text until its line ends."""
        *lines, self._kept = (self._kept + text).split("\n")
        if lines:
            self._progress.above(self._stream, "".join(f"{line}\n" for line in lines))
        return len(text)

    def flush(self) -> None:
        """Nothing: whole lines are written at once."""
