"""``InferenceTrace``: links a request of a model's own to the trace of the one it serves."""

from __future__ import annotations

from triton_stub.pb_utils import pybind


class InferenceTrace(pybind.PybindObject):
    """``request.trace()``, a new object at every call."""

    __slots__ = ()
    __module__ = "c_python_backend_utils"

    __init__ = pybind.no_constructor

    @pybind.method("object")
    def get_context(self) -> str | None:
        """The context of an OpenTelemetry trace as JSON text; None where there is none, as here."""
        return None
