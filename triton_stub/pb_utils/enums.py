"""pybind11's enums: members that are their numbers, and are none.

class LogLevel(PybindEnum):
    __slots__ = ()
    __module__ = "c_python_backend_utils"

    INFO: ClassVar[LogLevel] = member(0)
"""

from __future__ import annotations

from typing import Any, ClassVar, Final, NamedTuple, Self, SupportsIndex

from triton_stub.pb_utils import pybind
from triton_stub.pb_utils.casters import UINT32


class _Member(NamedTuple):
    number: int


def member(number: int) -> Any:
    """A member of an enum, by its number: ``INFO: ClassVar[LogLevel] = pybind.member(0)``."""
    return _Member(number)


class PybindEnum(pybind.PybindObject):  # noqa: PLW1641 - the hash is below
    """A ``pybind11::enum_``: equal to its number and convertible to it, but no ``int``.

    Any 32-bit number makes an object, a new one each time, called ``???`` if no member has it.
    """

    __slots__ = ("_number",)

    __members__: ClassVar[pybind.StaticProperty[dict[str, Self]]]
    _number: int
    _members: ClassVar[dict[str, Any]] = {}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if cls.__module__ != pybind.MODULE:
            return  # derived by a model: it has the members of its base
        _ENUMS[cls.__qualname__] = cls
        init = pybind.bound_constructor(cls, _ENUM_SIGNATURE, PybindEnum.__init__)
        type.__setattr__(cls, "__init__", init)
        cls._members = {key: cls(m.number) for key, m in vars(cls).items() if type(m) is _Member}
        cls.__members__ = pybind.StaticProperty(lambda: dict(cls._members))
        for key, one in cls._members.items():
            setattr(cls, key, one)
        cls.__doc__ = "Members:" + "".join(f"\n\n  {key}" for key in cls._members)
        entries = {key: (one, None) for key, one in cls._members.items()}
        setattr(cls, "__entries", entries)  # as text: a name would be mangled

    def __init__(self, value: int) -> None:
        self._number = value

    @property
    def name(self) -> str:
        """Name of the member, or ``???``."""
        return next((key for key, one in self._members.items() if one == self), "???")

    @property
    def value(self) -> int:
        """Number of the member."""
        return self._number

    def __int__(self) -> int:
        return self._number

    __index__ = __getstate__ = __hash__ = __int__

    def __eq__(self, other: object) -> bool:
        return bool(self._number == other)

    def __repr__(self) -> str:
        return f"<{self}: {self._number}>"

    def __str__(self) -> str:
        return f"{type(self).__name__}.{self.name}"

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        # Not by the class's own name: its module can be imported inside a model only.
        return _enum_again, (type(self).__qualname__, self._number)


_ENUMS: Final[dict[str, type[PybindEnum]]] = {}
_ENUM_SIGNATURE: Final = pybind.Signature((), {"value": UINT32})


def _enum_again(kind: str, number: int) -> Any:
    return _ENUMS[kind](number)
