"""An exception as the Python backend tells it to a client: pybind11's ``what()``."""

from __future__ import annotations

import traceback
from pathlib import Path

_OWN_FILES = str(Path(__file__).resolve().parent.parent)


def describe(error: BaseException) -> str:
    r"""``ValueError: boom\n\nAt:\n  /…/1/model.py(9): execute\n``, innermost frame first.

    Frames of this library are left out: on the server they would be C++. Source: pybind11
    ``error_already_set::what``.
    """
    text = f"{type(error).__name__}: {_message(error)}"
    frames = [
        f"  {frame.filename}({frame.lineno}): {frame.name}\n"
        for frame in reversed(traceback.extract_tb(error.__traceback__))
        if not frame.filename.startswith(_OWN_FILES)
    ]
    return text + "\n\nAt:\n" + "".join(frames) if frames else text


def _message(error: BaseException) -> str:
    try:
        message = str(error)
    except Exception:  # noqa: BLE001 - the model's own __str__ may do anything
        return "<MESSAGE UNAVAILABLE DUE TO ANOTHER EXCEPTION>"
    return message or "<EMPTY MESSAGE>"
