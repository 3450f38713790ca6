"""Where a thread of this process is right now, in the words of a traceback."""

from __future__ import annotations

import asyncio
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable
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
    return _told(_called(thread))


def stacks_of_loop(loop: asyncio.AbstractEventLoop, thread: Thread) -> list[str]:
    """Where an event loop of another thread blocks; where its tasks wait if it does not."""
    called = _called(thread)
    if not all(_is_beneath(frame) for frame in called):
        return [_told(called)]
    return [stack for task in asyncio.all_tasks(loop) if (stack := _told(_awaited(task)))]


def _called(thread: Thread) -> list[FrameType]:
    """Frames of a thread, outermost first."""
    frame = sys._current_frames().get(thread.ident or 0)
    if frame is None:
        return []
    return _seen(reversed([each for each, _ in traceback.walk_stack(frame)]))


def _awaited(task: asyncio.Task[Any]) -> list[FrameType]:
    """Frames of a task, outermost first; ``Task.get_stack`` tells the first one only."""
    frames: list[FrameType] = []
    coroutine: Any = task.get_coro()
    # What is awaited may be a generator, too.
    while frame := getattr(coroutine, "cr_frame", getattr(coroutine, "gi_frame", None)):
        frames.append(frame)
        coroutine = getattr(coroutine, "cr_await", getattr(coroutine, "gi_yieldfrom", None))
    return _seen(frames)


def _seen(frames: Iterable[FrameType]) -> list[FrameType]:
    hidden = (_OWN_FILES, _IMPORTING)
    return [frame for frame in frames if not frame.f_code.co_filename.startswith(hidden)]


def _is_beneath(frame: FrameType) -> bool:
    return frame.f_globals.get("__name__") in _BENEATH


def _told(frames: list[FrameType]) -> str:
    # The last one stays: it is where a function that is not written in Python was called.
    while len(frames) > 1 and _is_beneath(frames[0]):
        frames = frames[1:]
    summary = traceback.StackSummary.extract((frame, frame.f_lineno) for frame in frames)
    return "".join(summary.format())
