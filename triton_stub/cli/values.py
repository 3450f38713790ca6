"""Values of tritonserver's flags: what they may be, and what is told if they are not.

Each function takes a text and raises ValueError, in tritonserver's words where it refuses the same
(server ``src/command_line_parser.cc``), after which what is expected may come in parentheses. What
it takes by chance, such as ``12abc`` for 12, is refused.
"""

from __future__ import annotations

import math
import re
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_LAST_PORT = 65535
_LAST_INT = 2**31 - 1
_INTEGER = re.compile(r"[+-]?[0-9]+")
_TRUE = frozenset({"true", "on", "1"})
_FALSE = frozenset({"false", "off", "0"})


def boolean(text: str) -> bool:
    """``true``, ``on``, ``1``, or their opposites, in any case of letters."""
    if text.lower() not in _TRUE | _FALSE:
        raise ValueError(f"invalid value for bool option: {text} (expected true or false)")
    return text.lower() in _TRUE


def integer(text: str) -> int:
    """A number of 32 bits."""
    if not _INTEGER.fullmatch(text):
        raise ValueError(f"Invalid option value. Got {text}")
    if not -_LAST_INT - 1 <= int(text) <= _LAST_INT:
        raise ValueError(f"Provided option value is out of bound. Got {text}")
    return int(text)


def verbosity(text: str) -> int:
    """A number, ``true`` for 1 or ``false`` for 0."""
    words = {"true": 1, "false": 0}
    return words[text.lower()] if text.lower() in words else integer(text)


def port(text: str) -> int:
    """A TCP port; 0 is a free one."""
    number = integer(text)
    if not 0 <= number <= _LAST_PORT:
        raise ValueError(f"expected 1 to {_LAST_PORT}, or 0 for a free port; got {text}")
    return number


def size(text: str) -> int:
    """A number of bytes, more than none."""
    if not _INTEGER.fullmatch(text):
        raise ValueError(f"Invalid option value. Got {text}")
    if int(text) <= 0:
        raise ValueError("Error: --http-max-input-size must be greater than 0.")
    return int(text)


def seconds(text: str) -> float:
    """A time, which may have a fraction."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"Invalid option value. Got {text}")
    if number > threading.TIMEOUT_MAX:
        raise ValueError(f"Provided option value is out of bound. Got {text}")
    if number < 0:
        raise ValueError(f"expected a number of seconds, 0 or more; got {text}")
    return number


def choice(flag: str, *words: str, fold: bool = True) -> Callable[[str], str]:
    """One of a few words, in any case of letters if ``fold``."""

    def chosen(text: str) -> str:
        word = text.lower() if fold else text
        if word not in words:
            raise ValueError(f"invalid argument for {flag} (expected {_either(words)})")
        return word

    return chosen


def _either(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"


def pattern(text: str) -> str:
    """A regular expression, for names of headers."""
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"expected a regular expression, got {text}: {error}") from None
    return text


def cache_setting(text: str) -> tuple[str, str, str]:
    """``CACHE,SETTING=VALUE``: these three."""
    cache, comma, setting = text.partition(",")
    if not (cache and comma):
        raise ValueError(
            "No cache specified. --cache-config option format is <cache name>,<setting>=<value>. "
            f"Got {text}"
        )
    name, _, value = setting.partition("=")
    if not (name and value):
        raise ValueError(
            f"--cache-config option format is '<cache name>,<setting>=<value>'. Got {text}"
        )
    return cache, name, value


def metrics_setting(text: str) -> tuple[str, str]:
    """``SETTING=VALUE``: both."""
    name, _, value = text.partition("=")
    if not (name and value) or "," in name:
        raise ValueError(f"--metrics-config option format is <setting>=<value>. Got {text}")
    return name, value


def trace_setting(text: str) -> tuple[str, str, str]:
    """``[MODE,]SETTING=VALUE``: these three, without a mode ``""``."""
    mode, comma, setting = text.partition(",")
    if not comma:
        mode, setting = "", text
    elif not mode:
        raise ValueError(
            "No trace mode specified. --trace-config option format is "
            f"<trace mode>,<setting>=<value> or <setting>=<value>. Got {text}"
        )
    else:
        mode = trace_mode(mode)
    name, _, value = setting.partition("=")
    if not (name and value):
        raise ValueError(
            f"--trace-config option format is '<trace mode>,<setting>=<value>'. Got {text}"
        )
    return mode, name, value


def trace_mode(text: str) -> str:
    """``triton`` or ``opentelemetry``."""
    if text.lower() not in ("triton", "opentelemetry"):
        raise ValueError(
            f"invalid value for trace mode option: {text.lower()}. "
            'Available options are "triton" and "opentelemetry"'
        )
    return text.lower()


def trace_level(text: str) -> str:
    """``OFF``, ``TIMESTAMPS`` or ``TENSORS``."""
    word = text.lower()
    if word in ("false", "off"):
        return "OFF"
    if word in ("true", "on", "min", "max", "timestamps"):
        return "TIMESTAMPS"
    if word == "tensors":
        return "TENSORS"
    raise ValueError(f"invalid value for trace level option: {word}")
