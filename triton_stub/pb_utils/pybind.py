"""pybind11's manners: what its objects, enums and arguments do that plain Python's do not.

A model sees the texts when it calls one of the backend's C++ objects with wrong arguments. They
are those of pybind11 2.12, which the newest Triton is built with.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, NoReturn, SupportsIndex


class PybindObject:
    """Base of the imitated C++ classes: no ``__dict__``, no copies, no pickles."""

    __slots__ = ("__weakref__",)

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        kind = type(self)
        raise TypeError(f"cannot pickle '{kind.__module__}.{kind.__qualname__}' object")


class PybindEnum(Enum):
    """A ``pybind11::enum_``: equal to its number and convertible to it, but no ``int``."""

    def __int__(self) -> int:
        return int(self.value)

    __index__ = __int__

    def __eq__(self, other: object) -> bool:
        return bool(self.value == other)

    def __hash__(self) -> int:
        return hash(self.value)

    def __repr__(self) -> str:
        return f"<{self}: {self.value}>"

    def __str__(self) -> str:
        return f"{type(self).__name__}.{self.name}"


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


def to_list(value: Any) -> list[Any] | None:
    """What a ``std::vector`` parameter makes of ``value``: a list, or None if it is refused.

    Anything that Python indexes by number will do, an array of objects too, but no text.
    """
    is_sequence = hasattr(type(value), "__getitem__") and not isinstance(value, dict)
    return list(value) if is_sequence and not isinstance(value, str | bytes) else None


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
