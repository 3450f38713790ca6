"""``InferenceTrace``: links a request of a model's own to the trace of the one it serves."""

from __future__ import annotations

from triton_stub.pb_utils.pybind import PybindObject


class InferenceTrace(PybindObject):
    """``InferenceTrace()``, or ``request.trace()``."""

    __slots__ = ("_context",)
    __module__ = "c_python_backend_utils"

    def __init__(self) -> None:
        self._context: str | None = None

    def get_context(self) -> str | None:
        """The context of an OpenTelemetry trace as JSON text; None where there is none."""
        return self._context
