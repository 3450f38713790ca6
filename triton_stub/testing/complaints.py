"""What a server's log has in warnings and errors, for people."""

from __future__ import annotations

import json
import re

# Of this library and of tritonserver 2.51; a message is a text of JSON in both.
_LINE = re.compile(r"^[EW]\d{4} [\d:.]+ +\d+ \S+\] +(.+)$", re.MULTILINE)


def complaints(log: str) -> list[str]:
    """The messages, with line breaks where they have them."""
    return [_plain(message) for message in _LINE.findall(log)]


def _plain(message: str) -> str:
    try:
        return str(json.loads(message)).rstrip()
    except ValueError:
        return message
