"""What the log of a real tritonserver says: why it did not start, and its last lines."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_TAIL = 40  # lines of the log that are shown with an error
# What tritonserver 2.51 writes; a message in quotes is escaped as in JSON.
_ERROR_LINE = re.compile(r"^E\d{4} [\d:.]+ +\d+ \S+\] +(.+)$", re.MULTILINE)
_PROTOBUF_LINE = re.compile(r"^\[libprotobuf ERROR \S+\] (.+)$", re.MULTILINE)
_LAST_WORDS = re.compile(r"^error: creating server: (.+)", re.MULTILINE | re.DOTALL)
_OPTION_LINE = re.compile(r"^\S*tritonserver: (.*\boption\b.*)$", re.MULTILINE)
# Logged by every server without a GPU, or only a repetition of the next line.
_NOISE = ("CudaDriverHelper has not been initialized", "ERROR: Failed to create instance")


def tail(log: str) -> str:
    """Return the end of a log under a heading, to be shown with an error."""
    # Without its tables of options and models, which are wide and come last.
    lines = [line for line in log.splitlines() if line and line[0] not in "|+"]
    return "\n".join(["the end of tritonserver's log:", *lines[-_TAIL:]])


def reasons(log: str) -> Iterator[str]:
    """Why a server did not start, in its own words."""
    found = False
    for message in (*_PROTOBUF_LINE.findall(log), *_ERROR_LINE.findall(log)):
        if not any(noise in message for noise in _NOISE):
            found = True
            yield _unescaped(message)
    if not found:
        for pattern in (_LAST_WORDS, _OPTION_LINE):
            yield from (text.strip() for text in pattern.findall(log))


def _unescaped(message: str) -> str:
    try:
        return str(json.loads(message)).rstrip()
    except ValueError:
        return message
