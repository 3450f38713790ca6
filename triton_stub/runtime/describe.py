"""An exception as the Python backend tells it to a client: pybind11's ``what()``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from triton_stub.pb_utils.modules import PB_UTILS_FILE

if TYPE_CHECKING:
    from types import FrameType

_RUNTIME = Path(__file__).resolve().parent
_OWN_FILES = str(_RUNTIME.parent)
# Where the model is called from: on the server everything beyond is C++.
_OUTERMOST = frozenset(str(_RUNTIME / name) for name in ("instance.py", "auto_complete.py"))
# What is plain Python on the server, too, and in one file there.
_PLAIN = frozenset(
    str(_RUNTIME.parent / "pb_utils" / name) for name in ("helpers.py", "model_config.py")
)


def describe(error: BaseException) -> str:
    r"""``ValueError: boom\n\nAt:\n  /…/1/model.py(9): execute\n``, innermost frame first.

    pybind11 walks outwards from the innermost frame of the traceback, so importlib's frames are
    told too; without any Python frame (a SyntaxError, a wrong number of arguments) there is no
    "At:". Frames of this library, which would be C++, are left out; those of its plain Python half
    are told under the name of the backend's file, with a line of ours. Source: pybind11
    ``error_already_set::what``.
    """
    failure = None
    try:
        message = str(error) or "<EMPTY MESSAGE>"
    except Exception as raised:  # noqa: BLE001 - the model's own __str__ may do anything
        failure, message = raised, "<MESSAGE UNAVAILABLE DUE TO ANOTHER EXCEPTION>"
    lines = _frames(error)
    text = f"{type(error).__name__}: {message}"
    if lines:
        text += f"\n\nAt:\n{''.join(lines)}"
    if failure is not None:
        gap = "\n" if lines else "\n\n"
        text += f"{gap}MESSAGE UNAVAILABLE DUE TO EXCEPTION: {describe(failure)}"
    return text.partition("\0")[0]  # a C string ends there


def _frames(error: BaseException) -> list[str]:
    frame: FrameType | None = None
    traceback = error.__traceback__
    while traceback is not None:
        if not _is_own(traceback.tb_frame):
            frame = traceback.tb_frame
        traceback = traceback.tb_next
    lines: list[str] = []
    while frame is not None and frame.f_code.co_filename not in _OUTERMOST:
        if not _is_own(frame):
            code = frame.f_code
            file = PB_UTILS_FILE if code.co_filename in _PLAIN else code.co_filename
            lines.append(f"  {file}({frame.f_lineno}): {code.co_name}\n")
        frame = frame.f_back
    return lines


def _is_own(frame: FrameType) -> bool:
    """True if a frame would be C++ on the server, or is a helper of what would not be."""
    file, name = frame.f_code.co_filename, frame.f_code.co_name
    if file in _PLAIN:
        return name.startswith(("_", "<")) and not name.startswith("__")
    return file.startswith(_OWN_FILES)
