"""``MetricFamily`` and ``Metric``: metrics that a program counts beside those of its models.

They belong to no server: each prints them, as in NVIDIA's API, where there is one registry for a
process. Source: core, ``python/tritonserver/_c/tritonserver_pybind.cc``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from triton_stub.core.metrics import Metrics
from triton_stub.pb_utils import metrics as pb_metrics
from triton_stub.server.enums import MetricKind

if TYPE_CHECKING:
    from collections.abc import Mapping

REGISTRY: Final = Metrics()

_KINDS = {
    MetricKind.COUNTER: pb_metrics.MetricKind.COUNTER,
    MetricKind.GAUGE: pb_metrics.MetricKind.GAUGE,
}


class MetricFamily:
    """Metrics of one name, kind and description; its metrics end with it."""

    def __init__(self, kind: MetricKind, name: str, description: str) -> None:
        self.kind = MetricKind(kind)
        self._family = REGISTRY.family(name, description, _KINDS[self.kind])

    def __del__(self) -> None:
        if hasattr(self, "_family"):  # a name may have been refused
            self._family.close()


class Metric:
    """One number of a family, told from the others by its labels."""

    def __init__(self, family: MetricFamily, labels: Mapping[str, str] | None = None) -> None:
        self._family = family  # which stays as long as this does
        self._series = family._family.add(labels or {}, None)

    @property
    def kind(self) -> MetricKind:
        """That of its family."""
        return self._family.kind

    @property
    def value(self) -> float:
        """The number now."""
        return self._series.value()

    def increment(self, val: float) -> None:
        """Add to it; a counter takes no negative numbers."""
        self._series.increment(val)

    def set_value(self, val: float) -> None:
        """Give a gauge another number; UnsupportedError of a counter."""
        self._series.set(val)
