"""The server's metrics: families, their series, and the text that Prometheus reads.

Sources: core ``src/metric_family.cc`` and ``src/tritonserver.cc`` (which operation a kind has),
and prometheus-cpp 1.0, which keeps the values and prints them.
"""

from __future__ import annotations

import math
import re
import threading
from bisect import bisect_left
from itertools import accumulate, chain, pairwise
from typing import TYPE_CHECKING

from triton_stub.core.hash_order import HashOrder, combined_hash
from triton_stub.errors import ServerError, StatusCode
from triton_stub.pb_utils.metrics import MetricKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    Labels = tuple[tuple[str, str], ...]  # sorted by name

_METRIC_NAME = re.compile(r"(?!__)[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL_NAME = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*")


class Metrics:
    """All families of a server, by name. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards everything below, down to the values
        self._families: dict[str, Family] = {}

    def family(self, name: str, description: str, kind: MetricKind) -> Family:
        """The family of a name, made when it is first asked for; ServerError if that cannot be.

        A family is for ever: the first description stays, and no other kind may have its name.
        """
        with self._lock:
            family = self._families.get(name)
            if family is None:
                if not _METRIC_NAME.fullmatch(name):
                    raise ServerError("Invalid metric name", StatusCode.INVALID_ARG)
                family = self._families[name] = Family(name, description, kind, self._lock)
            elif family.kind is not kind:
                raise ServerError(
                    "Family name already exists with different type", StatusCode.INVALID_ARG
                )
            return family

    def text(self) -> str:
        """Every family that has a series, in Prometheus' text format, as the server prints it."""
        with self._lock:
            lines = [
                line
                for kind in MetricKind  # the registry keeps one list of families for each kind
                for family in self._families.values()
                if family.kind is kind
                for line in family.lines()
            ]
        return "".join(f"{line}\n" for line in lines)


class Family:
    """Series of one name and kind that differ in their labels."""

    def __init__(self, name: str, description: str, kind: MetricKind, lock: threading.Lock) -> None:
        self.name = name
        self.kind = kind
        self._description = description
        self._lock = lock
        self._series: dict[Labels, _Value] = {}
        self._order: HashOrder[Labels] = HashOrder()

    def add(self, labels: Mapping[str, str], buckets: Sequence[float] | None) -> Series:
        """One more handle of the series with these labels, which is made if there is none.

        Raises ServerError for a label's name, or for buckets that are not in ascending order. The
        buckets of a series are those of its first handle.
        """
        if any(low >= high for low, high in pairwise(buckets or ())):
            raise ServerError("Bucket Boundaries must be strictly sorted", StatusCode.INVALID_ARG)
        key = tuple(sorted(labels.items()))
        with self._lock:
            value = self._series.get(key)
            if value is None:
                if not all(_LABEL_NAME.fullmatch(name) for name in labels):
                    raise ServerError("Invalid label name", StatusCode.INVALID_ARG)
                value = self._series[key] = _Value(buckets or ())
                self._order.insert(key, combined_hash(chain.from_iterable(key)))
            value.handles += 1
        return Series(self, key, value, self._lock)

    def remove(self, labels: Labels, value: _Value) -> None:
        """One handle less; with the last one the series goes."""
        with self._lock:
            value.handles -= 1
            if not value.handles:
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
            if self.kind is MetricKind.HISTOGRAM:
                yield from value.histogram_lines(self.name, labels)
            else:
                yield f"{self.name}{_braces(labels)} {_number(value.number)}"


class Series:
    """A handle of one series; the operations raise ServerError where its kind has no such one."""

    def __init__(self, family: Family, labels: Labels, value: _Value, lock: threading.Lock) -> None:
        self._family = family
        self._labels = labels
        self._value = value
        self._lock = lock

    def increment(self, amount: float) -> None:
        """Add to a counter or a gauge."""
        self._refuse("Increment", MetricKind.HISTOGRAM)
        if self._family.kind is MetricKind.COUNTER and amount < 0:
            raise ServerError(
                "TRITONSERVER_METRIC_KIND_COUNTER can only be incremented monotonically by "
                "non-negative values.",
                StatusCode.INVALID_ARG,
            )
        with self._lock:
            self._value.number += amount

    def set(self, number: float) -> None:
        """Give a gauge another value."""
        self._refuse("Set", MetricKind.COUNTER, MetricKind.HISTOGRAM)
        with self._lock:
            self._value.number = number

    def observe(self, number: float) -> None:
        """Count one observation of a histogram."""
        self._refuse("Observe", MetricKind.COUNTER, MetricKind.GAUGE)
        with self._lock:
            self._value.observe(number)

    def value(self) -> float:
        """The value of a counter or a gauge."""
        self._refuse("Value", MetricKind.HISTOGRAM)
        with self._lock:
            return self._value.number

    def release(self) -> None:
        """Give up this handle; to be called once."""
        self._family.remove(self._labels, self._value)

    def _refuse(self, operation: str, *kinds: MetricKind) -> None:
        kind = self._family.kind
        if kind in kinds:
            raise ServerError(
                f"TRITONSERVER_METRIC_KIND_{kind.name} does not support {operation}",
                StatusCode.UNSUPPORTED,
            )


class _Value:
    """What a series has counted: a number, and for a histogram what fell into each bucket."""

    def __init__(self, buckets: Iterable[float]) -> None:
        self.handles = 0
        self.number = 0.0
        self._bounds = tuple(buckets)
        self._counts = [0] * (len(self._bounds) + 1)

    def observe(self, number: float) -> None:
        self.number += number
        self._counts[bisect_left(self._bounds, number)] += 1

    def histogram_lines(self, name: str, labels: Labels) -> Iterator[str]:
        totals = list(accumulate(self._counts))
        yield f"{name}_count{_braces(labels)} {totals[-1]}"
        yield f"{name}_sum{_braces(labels)} {_number(self.number)}"
        for bound, total in zip((*self._bounds, math.inf), totals, strict=True):
            yield f"{name}_bucket{_braces((*labels, ('le', _number(bound))))} {total}"


def _braces(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(text)}"' for name, text in labels) + "}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _number(value: float) -> str:
    if math.isnan(value):
        return "Nan"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return f"{value:.16g}"
