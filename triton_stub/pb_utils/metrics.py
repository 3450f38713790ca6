"""``MetricFamily`` and ``Metric``: a model's own metrics, kept by the server.

Source: python_backend ``src/metric_family.cc`` and ``src/metric.cc``.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

from triton_stub.errors import ServerError
from triton_stub.pb_utils import pybind
from triton_stub.pb_utils.casters import (
    FLOAT,
    OBJECT,
    REFUSED,
    STR,
    c_string,
    instance_of,
    list_of,
)
from triton_stub.pb_utils.enums import PybindEnum, member
from triton_stub.pb_utils.errors import TritonModelException
from triton_stub.pb_utils.host import told

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from triton_stub.pb_utils.host import Host

_BUCKETS = list_of(FLOAT)
# Escapes of a JSON text as json.dumps writes it: half a surrogate pair, if it is the first half, is
# in no group. The second half alone is fine with the server's parser.
_ESCAPES = re.compile(r"\\(?:(ud[89ab]..\\ud[c-f]..)|(?!ud[89ab])(.)|u)")


class MetricKind(PybindEnum):
    """``MetricKind``, which is also exported as constants of ``MetricFamily``."""

    __slots__ = ()
    __module__ = "c_python_backend_utils"

    COUNTER: ClassVar[MetricKind] = member(0)
    GAUGE: ClassVar[MetricKind] = member(1)
    HISTOGRAM: ClassVar[MetricKind] = member(2)


class MetricSeries(Protocol):
    """A handle of one series of a family; ServerError if its kind lacks the operation."""

    def increment(self, amount: float, /) -> None:
        """Add to it."""

    def set(self, number: float, /) -> None:
        """Give it another value."""

    def observe(self, number: float, /) -> None:
        """Count one observation."""

    def value(self) -> float:
        """Its value."""


class MetricSeriesFamily(Protocol):
    """A handle of a family of series, which have its name and kind."""

    @property
    def closed(self) -> bool:
        """True once it has been closed."""

    def add(self, labels: Mapping[str, str], buckets: Sequence[float] | None, /) -> MetricSeries:
        """The series with these labels, new or not; ServerError if there cannot be one."""

    def close(self) -> None:
        """Remove the series that were added; must never wait, for a garbage collection calls it."""


class MetricStore(Protocol):
    """The server's metrics."""

    def family(self, name: str, description: str, kind: MetricKind, /) -> MetricSeriesFamily:
        """The family of a name; ServerError if the name will not do."""


class Metric(pybind.PybindObject):
    """One series of a family: ``increment``, ``set``, ``observe`` and ``value``."""

    __slots__ = ("_family", "_host", "_series")
    __module__ = "c_python_backend_utils"

    __init__ = pybind.no_constructor

    _family: MetricSeriesFamily
    _host: Host
    _series: MetricSeries

    @pybind.method("None", FLOAT)
    def increment(self, amount: float) -> None:
        """Add to a counter or a gauge; a gauge takes less than nothing, too."""
        with self._asking("increment"):
            self._series.increment(amount)

    @pybind.method("None", FLOAT)
    def set(self, number: float) -> None:
        """Give a gauge another value."""
        with self._asking("set"):
            self._series.set(number)

    @pybind.method("None", FLOAT)
    def observe(self, number: float) -> None:
        """Count one observation of a histogram."""
        with self._asking("observe"):
            self._series.observe(number)

    @pybind.method("float")
    def value(self) -> float:
        """The value of a counter or a gauge."""
        with self._asking("get"):
            return self._series.value()

    def _asking(self, operation: str) -> told:
        failed = f"Failed to {operation} metric value: "
        if self._family.closed:
            raise TritonModelException(
                f"{failed}Invalid metric operation as the corresponding 'MetricFamily' has been "
                "deleted. The 'MetricFamily' object should be deleted AFTER its corresponding "
                "'Metric' objects have been deleted."
            )
        return told(self._host, failed)


def _metric(family: MetricSeriesFamily, series: MetricSeries, host: Host) -> Metric:
    metric: Metric = Metric.__new__(Metric)
    metric._family = family
    metric._series = series
    metric._host = host
    return metric


class MetricFamily(pybind.PybindObject):
    """``MetricFamily(name, description, kind)``: metrics that differ in their labels.

    When the object is deleted its metrics go, from the server too; those that a model still has
    when it is unloaded stay.
    """

    __slots__ = ("_family", "_kind")
    __module__ = "c_python_backend_utils"

    COUNTER: ClassVar[MetricKind] = MetricKind.COUNTER
    GAUGE: ClassVar[MetricKind] = MetricKind.GAUGE
    HISTOGRAM: ClassVar[MetricKind] = MetricKind.HISTOGRAM

    # The server around the model: each instance has a class of its own (see ``_for_host``).
    _host: ClassVar[Host]

    _family: MetricSeriesFamily
    _kind: MetricKind

    @pybind.constructor(name=STR, description=STR, kind=instance_of(MetricKind, none=False))
    def __init__(self, name: str, description: str, kind: MetricKind) -> None:
        with told(self._host, "Error when creating MetricFamily: "):
            if kind not in MetricKind.__members__.values():
                raise ServerError("Unknown metric kind")
            self._family = self._host.metrics.family(c_string(name), c_string(description), kind)
        self._kind = kind

    @classmethod
    def _for_host(cls, host: Host) -> type[Self]:
        """The class of one model instance, whose metrics are kept by this server."""
        return type(
            cls.__name__,
            (cls,),
            {
                "__slots__": (),
                "__module__": cls.__module__,
                "__qualname__": cls.__qualname__,
                "__doc__": cls.__doc__,
                "_host": host,
            },
        )

    def __del__(self) -> None:
        # Without a family if the constructor failed.
        if hasattr(self, "_family") and not self._host.ended:
            self._family.close()

    @pybind.method("c_python_backend_utils.Metric", labels=(OBJECT, None), buckets=(OBJECT, None))
    def Metric(self, labels: Any, buckets: Any) -> Metric:  # noqa: N802 - NVIDIA's name
        """The metric with these labels, a dict of texts; ``buckets`` are those of a histogram.

        Same labels give another object of the same metric.
        """
        if labels is not None and not isinstance(labels, dict):
            raise TritonModelException("Failed to create metric. Labels must be a dictionary.")
        text = json.dumps(labels)
        bounds = self._bounds(buckets)
        with told(self._host, "Error when creating Metric: "):
            series = self._family.add(_labels(text), bounds)
        return _metric(self._family, series, self._host)

    def _bounds(self, buckets: Any) -> list[float] | None:
        if buckets is None:
            if self._kind == MetricKind.HISTOGRAM:
                raise TritonModelException("Failed to create metric. Missing required buckets.")
            return None
        if not isinstance(buckets, list):
            raise TritonModelException("Failed to create metric. Buckets must be a list.")
        if self._kind != MetricKind.HISTOGRAM:
            raise TritonModelException("Failed to create metric. Unexpected buckets found.")
        bounds: list[float] | object = _BUCKETS.load(buckets)
        if bounds is REFUSED:
            raise pybind.cast_error(buckets)
        return bounds  # type: ignore[return-value]


def _labels(text: str) -> dict[str, str]:
    """Labels out of a JSON text, as the server reads it."""
    for escape in _ESCAPES.finditer(text):
        if escape.lastindex is None:
            raise ServerError(
                "failed to parse the request JSON buffer: The surrogate pair in string is "
                f"invalid. at {escape.start()}"
            )
    members: list[tuple[str, Any]] = json.loads(text, object_pairs_hook=list) or []
    labels: dict[str, str] = {}
    for key, _ in members:
        name = c_string(key)
        values = [value for other, value in members if other == name]
        if not values:
            raise ServerError(f"attempt to access non-existing object member '{name}'")
        if not isinstance(values[0], str):
            raise ServerError("attempt to access JSON non-string as string")
        labels[name] = c_string(values[0])
    return labels
