"""Values of the trace extension's settings, as clients write them over either protocol.

Source: server ``src/http_server.cc``, ``HandleTrace``; ``src/grpc/grpc_server.cc``,
``RegisterTrace``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from triton_stub.core.trace import TraceLevel
from triton_stub.endpoints import numbers
from triton_stub.errors import InferenceError, StatusCode

if TYPE_CHECKING:
    from collections.abc import Iterable

_UINT32 = 2**32
_INT32_MAX = 2**31 - 1
_LEAST_COUNT = -1
_INTEGER = re.compile(r"[ \t\n\v\f\r]*([+-]?[0-9]+)")


def trace_level(names: Iterable[str], *, alone: bool) -> TraceLevel | None:
    """The levels of a list, together; None if it has none that there is.

    ``alone`` is True if the list has but one name.
    """
    level: TraceLevel | None = None
    for name in names:
        if name == "OFF" and not alone:
            raise _refused("Expect only one trace level 'OFF' is specified")
        if name in TraceLevel.__members__:
            level = TraceLevel[name] | (level or TraceLevel.OFF)
    return level


def unsigned(name: str, text: str) -> int:
    """A number of 32 bits; what is below 0 counts from the other end."""
    return _integer(name, text, 0, _UINT32 - 1) % _UINT32


def count(name: str, text: str, *, got: str) -> int:
    """How many requests are traced, -1 for all; ``got`` is how the protocol says what it got."""
    number = _integer(name, text, _LEAST_COUNT, _INT32_MAX)
    if number < _LEAST_COUNT:
        raise _refused(f"Unable to parse '{name}'. Expecting value >= {_LEAST_COUNT}{got}{text}")
    return number


def _integer(name: str, text: str, least: int, most: int) -> int:
    """``std::stoi``: leading digits, of 32 bits with a sign. The range is but told."""
    found = _INTEGER.match(text)
    if found is None:
        raise _refused(f"Unable to parse '{name}', got: {text}")
    number = numbers.read(found[1])
    if not -_INT32_MAX - 1 <= number <= _INT32_MAX:
        raise _refused(
            f"Unable to parse '{name}', value is out of range [ {least}, {most} ], got: {text}"
        )
    return number


def _refused(message: str) -> InferenceError:
    return InferenceError(message, StatusCode.INVALID_ARG)
