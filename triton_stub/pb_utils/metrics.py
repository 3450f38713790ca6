"""``MetricFamily`` and ``Metric``: a model's own metrics, kept by the server."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Protocol

from triton_stub.pb_utils import pybind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class MetricKind(pybind.PybindEnum):
    """``MetricKind``, which is also exported as constants of ``MetricFamily``."""

    __slots__ = ()
    __module__ = "c_python_backend_utils"

    COUNTER: ClassVar[MetricKind] = pybind.member(0)
    GAUGE: ClassVar[MetricKind] = pybind.member(1)
    HISTOGRAM: ClassVar[MetricKind] = pybind.member(2)


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

    def release(self) -> None:
        """Give up this handle; the series goes with its last one."""


class MetricSeriesFamily(Protocol):
    """Series of one name and kind."""

    def add(self, labels: Mapping[str, str], buckets: Sequence[float] | None, /) -> MetricSeries:
        """One more handle of the series with these labels; ServerError if there cannot be one."""


class MetricStore(Protocol):
    """The server's metrics."""

    def family(self, name: str, description: str, kind: MetricKind, /) -> MetricSeriesFamily:
        """The family of a name; ServerError if the name will not do."""
