"""JSON text as the server's own writer prints it: RapidJSON's.

Python's would do, but for numbers such as ``1e-7`` and for control characters.
"""

from __future__ import annotations

import math
from decimal import Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_ESCAPES = {
    **{number: f"\\u{number:04X}" for number in range(32)},
    **{ord(char): f"\\{name}" for char, name in zip('"\\\b\f\n\r\t', '"\\bfnrt', strict=True)},
}
# From here on a number is written with an exponent.
_LARGEST, _SMALLEST = 21, -6


def compact(members: Mapping[str, bool | int | float | str]) -> str:
    """An object of plain values, without blanks."""
    return f"{{{','.join(f'{_text(key)}:{_value(value)}' for key, value in members.items())}}}"


def _value(value: bool | float | str) -> str:  # noqa: FBT001
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int) else _double(value)


def _text(text: str) -> str:
    return f'"{text.translate(_ESCAPES)}"'


def _double(value: float) -> str:
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    # Source: rapidjson internal/dtoa.h, Prettify.
    sign, numbers, exponent = Decimal(repr(value)).as_tuple()
    assert isinstance(exponent, int)  # of a finite number
    text = "".join(map(str, numbers))
    digits = text.rstrip("0") or "0"
    # The decimal point is behind so many digits.
    point = len(text) + exponent if value else 1
    minus = "-" if sign else ""
    if len(digits) <= point <= _LARGEST:
        return f"{minus}{digits.ljust(point, '0')}.0"
    if 0 < point <= _LARGEST:
        return f"{minus}{digits[:point]}.{digits[point:]}"
    if _SMALLEST < point <= 0:
        return f"{minus}0.{'0' * -point}{digits}"
    fraction = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{minus}{digits[0]}{fraction}e{point - 1}"
