"""Numbers that clients write as text, as long as they like."""

from __future__ import annotations

# More than any number of 64 bits has; Python refuses to read some thousands.
_ENOUGH_DIGITS = 20


def read(text: str) -> int:
    """``int(text)``; of a number far beyond 64 bits only that it is beyond them, and its sign."""
    sign, digits = ("-", text[1:]) if text.startswith("-") else ("", text.removeprefix("+"))
    significant = digits.lstrip("0") or "0"
    if len(significant) > _ENOUGH_DIGITS:
        significant = "1" + _ENOUGH_DIGITS * "0"
    return int(sign + significant)
