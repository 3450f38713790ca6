"""What the backend has for itself, but leaves in ``c_python_backend_utils`` for all to see.

Source: python_backend ``src/pb_stub.cc``.
"""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Any, Final

from triton_stub.pb_utils import pybind
from triton_stub.pb_utils.casters import OBJECT, REFUSED, Caster
from triton_stub.pb_utils.logger import LogLevel

if TYPE_CHECKING:
    from collections.abc import Callable

    from triton_stub.pb_utils.host import Host

# Of an instance that has just begun: the server's default (src/python_be.cc).
_REGION_BYTES: Final = 1024 * 1024
_SOMETHING: Final = Caster("object", lambda value: REFUSED if value is None else OBJECT.load(value))


class SharedMemory(pybind.PybindObject):
    """``shared_memory``: where tensors go on their way to the server; here they take no way."""

    __slots__ = ()
    __module__ = "c_python_backend_utils"

    __init__ = pybind.no_constructor

    @pybind.method("int")
    def free_memory(self) -> int:
        """Bytes that are free: all of them, because nothing is ever put there."""
        return _REGION_BYTES


def future_callback(host: Host) -> Callable[..., None]:
    """What the backend calls when an ``async def execute`` of a decoupled model has ended."""

    @pybind.function("None", py_future=_SOMETHING)
    def async_event_future_done_callback(py_future: Any) -> None:
        """Log what the future has raised."""
        try:
            error = py_future.exception()
        except Exception as failure:  # noqa: BLE001 - that is logged, too
            host.log.note(LogLevel.ERROR, f"{type(failure).__name__}: {failure}")
            return
        if error is not None:
            host.log.note(LogLevel.ERROR, "".join(traceback.format_exception(error)))

    return async_event_future_done_callback
