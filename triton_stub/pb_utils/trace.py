"""``InferenceTrace``: links a request of a model's own to the trace of the one it serves."""

from __future__ import annotations

from typing import Self

from triton_stub.pb_utils import pybind


class InferenceTrace(pybind.PybindObject):
    """``request.trace()``; not to be instantiated."""

    __slots__ = ("_context",)
    __module__ = "c_python_backend_utils"

    _context: str | None

    __init__ = pybind.no_constructor

    @classmethod
    def _of(cls, context: str | None) -> Self:
        trace = cls.__new__(cls)
        trace._context = context
        return trace

    @pybind.method("object")
    def get_context(self) -> str | None:
        """The context of an OpenTelemetry trace as JSON text; None where there is none."""
        return self._context
