"""pybind11's manners: its TypeError texts and its string conversion.

A model sees these when it calls one of the backend's C++ objects with wrong arguments. The texts
are those of pybind11 2.12, which the newest Triton is built with.
"""

from __future__ import annotations

from typing import Any


def signature_error(
    function: str,
    signature: str,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    kind: str = "function",
) -> TypeError:
    """The error for arguments that fit no overload; ``kind`` is ``function`` or ``constructor``."""
    invoked = ", ".join(map(repr, args))
    if kwargs:
        keywords = ", ".join(f"{name}={value!r}" for name, value in kwargs.items())
        invoked += f"{'; ' if args else ''}kwargs: {keywords}"
    return TypeError(
        f"{function}(): incompatible {kind} arguments. The following argument types are "
        f"supported:\n    1. {signature}\n\nInvoked with: {invoked}"
    )


def to_str(value: Any) -> str | None:
    """What a ``std::string`` parameter makes of ``value``: text, or None if it is refused."""
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    return None


def bind(
    names: tuple[str, ...], defaults: dict[str, Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[str, Any] | None:
    """Match arguments to parameter names; None if a name is unknown, missing or given twice."""
    if len(args) > len(names):
        return None
    bound = dict(zip(names, args, strict=False))
    for name, value in kwargs.items():
        if name not in names or name in bound:
            return None
        bound[name] = value
    for name in names:
        if name not in bound:
            if name not in defaults:
                return None
            bound[name] = defaults[name]
    return bound
