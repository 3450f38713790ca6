"""Which requests are traced, and where the traces go: the trace extension's settings.

Source: server ``src/tracer.cc``, ``TraceManager`` and ``TraceManager::TraceSetting``.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from triton_stub.core.clock import Clock
from triton_stub.core.trace import Trace, TraceGroup, TraceLevel
from triton_stub.errors import InferenceError, StatusCode
from triton_stub.pb_utils.logger import LogLevel

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from triton_stub.core.log import Log


@dataclass(frozen=True, slots=True)
class TraceSettings:
    """What is traced: of every ``rate``-th request, ``count`` times (-1: without an end).

    With a ``log_frequency`` so many traces go into each file, whose name gets a number; with 0
    all of them go into ``file``, when the server stops.
    """

    level: TraceLevel = TraceLevel.OFF
    rate: int = 1000
    count: int = -1
    log_frequency: int = 0
    file: str = ""

    def obstacle(self) -> str | None:
        """Why nothing is traced, in the server's words; None if something is."""
        if self.level == TraceLevel.OFF:
            return "tracing is disabled"
        if self.rate == 0:
            return "sample rate must be non-zero"
        if not self.file:
            return "trace file name is not given"
        return "" if self.count == 0 else None

    def to_dict(self) -> dict[str, Any]:
        """As the trace extension prints them."""
        level = [] if self.level else ["OFF"]
        level += [each.name for each in self.level if each.name]
        return {
            "trace_level": level,
            "trace_rate": str(self.rate),
            "trace_count": str(self.count),
            "log_frequency": str(self.log_frequency),
            "trace_file": self.file,
            "trace_mode": "triton",
        }


def from_config(config: Mapping[str, Any]) -> TraceSettings:
    """The settings of ``--trace-config``: level, rate, count, file, log-frequency and mode.

    ValueError for others, and for a mode that is not imitated.
    """
    unknown = set(config) - {"level", "rate", "count", "file", "log-frequency", "mode"}
    if unknown or config.get("mode", "triton") != "triton":
        raise ValueError(
            f"trace_config {dict(config)} is not imitated by this release of triton_stub; expected "
            "level, rate, count, file and log-frequency, and no mode but 'triton'"
        )
    levels = config.get("level", "OFF")
    level = TraceLevel.OFF
    for name in [levels] if isinstance(levels, str) else levels:
        if name.upper() not in TraceLevel.__members__:
            raise ValueError(f"invalid value for trace level option: {name}")
        level |= TraceLevel[name.upper()]
    return TraceSettings(
        level,
        int(config.get("rate", 1000)),
        int(config.get("count", -1)),
        int(config.get("log-frequency", 0)),
        str(config.get("file", "")),
    )


class _TraceFile:
    """Where traces are written: a file, or several with a number each."""

    def __init__(self, name: str, log: Log) -> None:
        self.name = name
        self._log = log
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._is_empty = True

    def save(self, traces: bytes, *, numbered: bool) -> None:
        """Write traces, into the next file with a number or to the end of the one without."""
        with self._failures_told():
            if numbered:
                Path(f"{self.name}.{next(self._numbers)}").write_bytes(b"[" + traces + b"]")
                return
            with self._lock, Path(self.name).open("wb" if self._is_empty else "ab") as file:
                file.write((b"[" if self._is_empty else b",") + traces)
                self._is_empty = False

    def close(self) -> None:
        """Make it a whole JSON text."""
        if not self._is_empty:
            with self._failures_told(), Path(self.name).open("ab") as file:
                file.write(b"]")

    @contextlib.contextmanager
    def _failures_told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._log.note(LogLevel.ERROR, f"failed creating trace file: {error}")


@dataclass(slots=True, eq=False)
class _Sampler:
    """Settings at work: which request is next, and the traces that are not written yet."""

    settings: TraceSettings
    specified: frozenset[str]
    file: _TraceFile
    seen: int = 0
    left: int = 0
    collected: int = 0
    open: int = 0
    retired: bool = False
    waiting: list[bytes] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.left = self.settings.count

    def now(self) -> TraceSettings:
        """The settings, with as many traces as are left."""
        return replace(self.settings, count=self.left)

    def hit(self) -> bool:
        """One more request: is it to be traced?"""
        with self.lock:
            if self.now().obstacle() is not None:
                return False
            self.seen += 1
            if self.seen % self.settings.rate:
                return False
            if self.left > 0:
                self.left -= 1
            self.open += 1
            return True

    def write(self, traces: bytes | None) -> None:
        """Keep what a request has left, if it has, and write when it is time for that."""
        with self.lock:
            self.open -= 1
            if traces is not None:
                self.collected += 1
                self.waiting.append(traces)
            frequency = self.settings.log_frequency
            if (self.left == 0 and self.collected == self.seen) or (
                frequency and len(self.waiting) >= frequency
            ):
                self._save(numbered=True)
            elif self.retired and not self.open:
                self._save(numbered=frequency != 0)

    def retire(self, *, at_once: bool = False) -> None:
        """Other settings take the place of these; what is written waits for open requests."""
        with self.lock:
            self.retired = True
            if at_once or not self.open:
                self._save(numbered=self.settings.log_frequency != 0)

    def _save(self, *, numbered: bool) -> None:
        waiting, self.waiting = self.waiting, []
        if waiting:
            self.file.save(b",".join(waiting), numbered=numbered)


class Tracer:
    """The trace settings of a server and of its models, by name; ``""`` is the server's own.

    A model's setting that nobody has given follows the server's, and the server's that nobody
    has given since are those it was started with.
    """

    def __init__(self, settings: TraceSettings, log: Log, clock: Clock | None = None) -> None:
        self._log = log
        self._clock = clock or Clock()
        #: The time of whatever is traced.
        self.now = self._clock.now
        self._lock = threading.Lock()
        self._default = settings
        self._file = _TraceFile(settings.file, log)
        self._samplers = {"": _Sampler(settings, frozenset(), self._file)}
        self._next_id = itertools.count(1).__next__

    def get(self, model: str = "") -> TraceSettings:
        """The settings of a model, or of the server."""
        return self._sampler(model).now()

    def update(self, model: str, changes: Mapping[str, Any]) -> None:
        """Change settings by their names; None gives one up. InferenceError if they cannot be."""
        with self._lock:
            self._update(model, changes)
            if not model:
                for name in [name for name in self._samplers if name]:
                    self._update(name, {})

    def sample(self, model: str) -> Trace | None:
        """The trace of a request that comes for a model; None if it is not to be traced."""
        sampler = self._sampler(model)
        if not sampler.settings.level or not sampler.hit():
            return None
        group = TraceGroup(sampler.settings.level, self._clock, self._next_id, sampler.write)
        return Trace(group)

    def close(self) -> None:
        """Write what is not written yet."""
        with self._lock:
            for sampler in self._samplers.values():
                sampler.retire(at_once=True)
            self._file.close()

    def _sampler(self, model: str) -> _Sampler:
        return self._samplers.get(model) or self._samplers[""]

    def _update(self, model: str, changes: Mapping[str, Any]) -> None:
        current = self._samplers.get(model)
        specified = frozenset() if current is None else current.specified
        given = (
            {} if current is None else {name: getattr(current.now(), name) for name in specified}
        )
        given |= changes
        given = {name: value for name, value in given.items() if value is not None}
        if model and not given:
            if current is not None:
                del self._samplers[model]
                current.retire()
            return
        base = self._samplers[""].now() if model else self._default
        settings = replace(base, **given)
        obstacle = settings.obstacle()
        if obstacle is not None and settings.level != TraceLevel.OFF:
            raise InferenceError(
                f"Attempting to set invalid trace setting :{obstacle}", StatusCode.INVALID_ARG
            )
        self._samplers[model] = _Sampler(settings, frozenset(given), self._file)
        if current is not None:
            current.retire()
