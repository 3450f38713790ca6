"""``InferenceTrace``: links a request of a model's own to the trace of the one it serves."""

from __future__ import annotations

from typing import Any

from triton_stub.pb_utils import pybind


class InferenceTrace(pybind.PybindObject):
    """``request.trace()``, a new object at every call."""

    __slots__ = ("_source",)
    __module__ = "c_python_backend_utils"

    #: The trace itself, which is the server's.
    _source: Any

    __init__ = pybind.no_constructor

    @classmethod
    def _of(cls, source: Any) -> InferenceTrace:
        trace: InferenceTrace = cls.__new__(cls)
        trace._source = source
        return trace

    @pybind.method("object")
    def get_context(self) -> str | None:
        """The context of an OpenTelemetry trace as JSON text; None where there is none, as here."""
        return None
