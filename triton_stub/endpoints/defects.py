"""What becomes of an error that nobody has foreseen, whichever the protocol."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

from triton_stub.errors import InferenceError
from triton_stub.pb_utils.logger import LogLevel

if TYPE_CHECKING:
    from triton_stub.core.log import Log


def defect(log: Log, error: Exception) -> InferenceError:
    """Note where it was raised, and return what the client is told: it must not wait for ever."""
    log.note(LogLevel.ERROR, "".join(traceback.format_exception(error)))
    return InferenceError(
        f"triton_stub failed to answer this request: {type(error).__name__}: {error}. This is a "
        "defect of triton_stub; the server's log has the traceback."
    )
