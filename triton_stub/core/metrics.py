"""The server's metrics: families, their series, and the text that Prometheus reads.

Sources: core ``src/metric_family.cc`` and ``src/tritonserver.cc`` (which operation a kind has),
and prometheus-cpp 1.0, which keeps the values and prints them.
"""

from __future__ import annotations

import contextlib
import math
import re
import threading
from bisect import bisect_left
from collections import deque
from itertools import accumulate, chain, pairwise
from typing import TYPE_CHECKING

from triton_stub import deviations
from triton_stub.core.hash_order import HashOrder, combined_hash
from triton_stub.errors import ServerError, StatusCode
from triton_stub.pb_utils.metrics import MetricKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    Labels = tuple[tuple[str, str], ...]  # sorted by name

_KINDS = (MetricKind.COUNTER, MetricKind.GAUGE, MetricKind.HISTOGRAM)
_METRIC_NAME = re.compile(r"(?!__)[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL_NAME = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*")


class Metrics:
    """The registry of a server. Everything in it may be used from any thread."""

    def __init__(self) -> None:
        # Guards everything below, down to the values. In a garbage collection meanwhile a
        # model's __del__ may use its metrics, too.
        self._lock = threading.RLock()
        self._records: dict[str, _Record] = {}
        # A family may be given up by a garbage collection, in the middle of whatever: nothing but
        # this is done about it then.
        self._given_up: deque[Family] = deque()

    def family(self, name: str, description: str, kind: MetricKind) -> Family:
        """A handle of the family of a name, which is made when it is first asked for.

        A family is for ever: its first description stays, and no other kind may have its name.
        Raises ServerError for such a name, and for one that is none.
        """
        with self.locked():
            record = self._records.get(name)
            if record is None:
                if not _METRIC_NAME.fullmatch(name):
                    raise ServerError("Invalid metric name", StatusCode.INVALID_ARG)
                record = self._records[name] = _Record(name, description, kind)
            elif record.kind != kind:
                raise ServerError(
                    "Family name already exists with different type", StatusCode.INVALID_ARG
                )
        return Family(self, record)

    def text(self) -> str:
        """Every family that has a series, in Prometheus' text format, as the server prints it."""
        with self.locked():
            lines = [
                line
                for kind in _KINDS  # the server keeps a list of families for each kind
                for record in self._records.values()
                if record.kind == kind
                for line in record.lines()
            ]
        return "".join(f"{line}\n" for line in lines)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold everything still, after the families that were given up have taken their series."""
        with self._lock:
            while self._given_up:
                self._given_up.popleft().remove()
            yield

    def give_up(self, family: Family) -> None:
        """Remove the series of a family as soon as anybody looks; never waits."""
        self._given_up.append(family)


class Family:
    """A handle of a family, through which series are made; there may be several of one family."""

    def __init__(self, metrics: Metrics, record: _Record) -> None:
        self.closed = False
        self._metrics = metrics
        self._record = record
        self._made: dict[Labels, _Value] = {}

    def add(self, labels: Mapping[str, str], buckets: Sequence[float] | None) -> Series:
        """A handle of the series with these labels, which is made if there is none.

        Raises ServerError for a label's name, or for buckets that are not in ascending order. The
        buckets of a series are the first that were given.
        """
        key = tuple(sorted(labels.items()))
        with self._metrics.locked():
            value = self._made[key] = self._record.series(key, tuple(buckets or ()))
        return Series(self._metrics, self._record, value)

    def close(self) -> None:
        """Take the series made through this handle out of the family, whoever else has them."""
        if not self.closed:
            self.closed = True
            self._metrics.give_up(self)

    def remove(self) -> None:
        """The latter, while ``Metrics.locked``."""
        for labels, value in self._made.items():
            self._record.remove(labels, value)


class Series:
    """A handle of one series; the operations raise ServerError where its kind has no such one."""

    def __init__(self, metrics: Metrics, record: _Record, value: _Value) -> None:
        self._metrics = metrics
        self._record = record
        self._value = value

    def increment(self, amount: float) -> None:
        """Add to a counter or a gauge."""
        self._refuse("Increment", MetricKind.HISTOGRAM)
        if self._record.kind == MetricKind.COUNTER and amount < 0:
            raise ServerError(
                "TRITONSERVER_METRIC_KIND_COUNTER can only be incremented monotonically by "
                "non-negative values.",
                StatusCode.INVALID_ARG,
            )
        with self._held() as value:
            value.number += amount

    def set(self, number: float) -> None:
        """Give a gauge another value."""
        self._refuse("Set", MetricKind.COUNTER, MetricKind.HISTOGRAM)
        with self._held() as value:
            value.number = number

    def overwrite(self, number: float) -> None:
        """Tell what the server itself has counted elsewhere, be it in a counter or a gauge."""
        with self._held() as value:
            value.number = float(number)

    def observe(self, number: float) -> None:
        """Count one observation of a histogram."""
        self._refuse("Observe", MetricKind.COUNTER, MetricKind.GAUGE)
        with self._held() as value:
            value.observe(number)

    def value(self) -> float:
        """The value of a counter or a gauge."""
        self._refuse("Value", MetricKind.HISTOGRAM)
        with self._held() as value:
            return value.number

    @contextlib.contextmanager
    def _held(self) -> Iterator[_Value]:
        with self._metrics.locked():
            if self._value.removed:
                raise ServerError(
                    deviations.REMOVED_SERIES.text(
                        f"the series of this metric of '{self._record.name}' is gone, because "
                        "another MetricFamily object of that name, through which the same series "
                        "was made, has been deleted",
                        "Keep one MetricFamily object for each name, as long as the model lives.",
                    )
                )
            yield self._value

    def _refuse(self, operation: str, *kinds: MetricKind) -> None:
        kind = self._record.kind
        if kind in kinds:
            raise ServerError(
                f"TRITONSERVER_METRIC_KIND_{kind.name} does not support {operation}",
                StatusCode.UNSUPPORTED,
            )


class _Record:
    """A family itself: the series of one name, which differ in their labels."""

    def __init__(self, name: str, description: str, kind: MetricKind) -> None:
        self.name = name
        self.kind = kind
        self._description = description
        self._series: dict[Labels, _Value] = {}
        self._order: HashOrder[Labels] = HashOrder()

    def series(self, labels: Labels, buckets: tuple[float, ...]) -> _Value:
        if any(low >= high for low, high in pairwise(buckets)):
            raise ServerError("Bucket Boundaries must be strictly sorted", StatusCode.INVALID_ARG)
        value = self._series.get(labels)
        if value is None:
            if not all(_LABEL_NAME.fullmatch(name) for name, _ in labels):
                raise ServerError("Invalid label name", StatusCode.INVALID_ARG)
            value = self._series[labels] = _Value(buckets)
            self._order.insert(labels, combined_hash(chain.from_iterable(labels)))
        return value

    def remove(self, labels: Labels, value: _Value) -> None:
        if self._series.get(labels) is value:
            value.removed = True
            del self._series[labels]
            self._order.remove(labels)

    def lines(self) -> Iterator[str]:
        """The family as it is printed; nothing if it has no series."""
        if self._series and self._description:
            yield f"# HELP {self.name} {self._description}"
        if self._series:
            yield f"# TYPE {self.name} {self.kind.name.lower()}"
        for labels in self._order:
            value = self._series[labels]
            if self.kind == MetricKind.HISTOGRAM:
                yield from value.histogram_lines(self.name, labels)
            else:
                yield f"{self.name}{braces(labels)} {number(value.number)}"


class _Value:
    """What a series has counted: a number, and for a histogram what fell into each bucket."""

    def __init__(self, buckets: Iterable[float]) -> None:
        self.removed = False
        self.number = 0.0
        self._bounds = tuple(buckets)
        self._counts = [0] * (len(self._bounds) + 1)

    def observe(self, number: float) -> None:
        self.number += number
        self._counts[bisect_left(self._bounds, number)] += 1

    def histogram_lines(self, name: str, labels: Labels) -> Iterator[str]:
        totals = list(accumulate(self._counts))
        yield f"{name}_count{braces(labels)} {totals[-1]}"
        yield f"{name}_sum{braces(labels)} {number(self.number)}"
        for bound, total in zip((*self._bounds, math.inf), totals, strict=True):
            yield f"{name}_bucket{braces((*labels, ('le', number(bound))))} {total}"


def braces(labels: Labels) -> str:
    """Labels as they follow a name."""
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(text)}"' for name, text in labels) + "}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def number(value: float) -> str:
    """A number as it is printed: with 16 digits at most."""
    if math.isnan(value):
        return "Nan"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return f"{value:.16g}"
