"""Where a thread of this process is right now, in the words of a traceback."""

from __future__ import annotations

import asyncio
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from threading import Thread
    from types import FrameType

_OWN_FILES = str(Path(__file__).resolve().parent.parent)
_IMPORTING = "<frozen importlib"  # between an import statement and the file that it runs
# Below the first function of a thread, of a pool's or of a loop's.
_BENEATH = frozenset(
    {
        "threading",
        "concurrent.futures.thread",
        "asyncio.runners",
        "asyncio.base_events",
        "asyncio.events",
        "selectors",
    }
)


def stack_of(thread: Thread) -> str:
    """The calls that a thread is in, the innermost last; empty if it has ended.

    What is this library's, or beneath the first function of the thread, is left out.
    """
    frame = sys._current_frames().get(thread.ident or 0)
    if frame is None:
        return ""
    return _told(reversed([each for each, _ in traceback.walk_stack(frame)]))


def stacks_of_loop(loop: asyncio.AbstractEventLoop, thread: Thread) -> list[str]:
    """Where an event loop of another thread blocks; where its tasks wait if it does not."""
    frame = sys._current_frames().get(thread.ident or 0)
    if frame is not None and frame.f_globals.get("__name__") not in _BENEATH:
        return [stack_of(thread)]
    return [stack for task in asyncio.all_tasks(loop) if (stack := _told(_awaited(task)))]


def _awaited(task: asyncio.Task[Any]) -> Iterator[FrameType]:
    """Frames of a task, outermost first; ``Task.get_stack`` tells the first one only."""
    coroutine: Any = task.get_coro()
    while frame := getattr(coroutine, "cr_frame", None):
        yield frame
        coroutine = coroutine.cr_await


def _told(frames: Iterable[FrameType]) -> str:
    seen = [
        frame
        for frame in frames
        if not frame.f_code.co_filename.startswith((_OWN_FILES, _IMPORTING))
    ]
    # The last one stays: it is where a function that is not written in Python was called.
    while len(seen) > 1 and seen[0].f_globals.get("__name__") in _BENEATH:
        del seen[0]
    summary = traceback.StackSummary.extract((frame, frame.f_lineno) for frame in seen)
    return "".join(summary.format())
