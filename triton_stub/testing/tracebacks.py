"""What a failing test shows of the way between it and ``model.py``: nothing of ours."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from triton_stub.errors import ServerError

_PACKAGE = __name__.partition(".")[0]
_FOLDER = Path(__file__).resolve().parent.parent


def hide_own_frames() -> None:
    """Have pytest leave out the frames of this package's modules; ``--full-trace`` shows them.

    Nothing below ``testing`` knows of pytest, so its sign, a global, is put into them from here.
    """
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == _PACKAGE and name != __name__:
            vars(module).setdefault("__tracebackhide__", _is_passed_on)


def _is_passed_on(excinfo: pytest.ExceptionInfo[BaseException]) -> bool:
    """True for a server's error and for what a model did wrong; False for a fault of ours."""
    if isinstance(excinfo.value, ServerError):
        return True
    if isinstance(excinfo.value, pytest.fail.Exception):  # shows a text and no frames at all
        return False
    ours = [Path(entry.path).is_relative_to(_FOLDER) for entry in excinfo.traceback]
    # A model's traceback begins in our thread and may end in our pb_utils; a test's begins in
    # pytest and ends in this package only if this package, or the test's way to call it, is wrong.
    return not all(ours) if ours[0] else not ours[-1]
