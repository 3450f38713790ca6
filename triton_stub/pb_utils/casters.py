"""What pybind11 makes of an argument: one caster for each C++ type that the backend takes.

Source: pybind11 2.12 ``cast.h``, ``stl.h`` and ``pytypes.h``.
"""

from __future__ import annotations

import ctypes
import operator
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

# What ``Caster.load`` returns for a value that it does not take; None is a value.
REFUSED: Final = object()


class Caster(NamedTuple):
    """One type of parameter: how signatures print it, and how a value of it is read.

    ``load`` returns what the method gets, or ``REFUSED``.
    """

    text: str
    load: Callable[[Any], Any]


def instance_of(kind: type, *, none: bool = True, text: str = "") -> Caster:
    """An object of an imitated class or of a subclass; and None, if C++ takes a pointer to it.

    ``text`` is for classes whose name pybind11 does not know yet where it prints the signature.
    """

    def load(value: Any) -> Any:
        return value if isinstance(value, kind) or (none and value is None) else REFUSED

    return Caster(text or f"{kind.__module__}.{kind.__qualname__}", load)


def list_of(item: Caster) -> Caster:
    """A ``std::vector``: anything that Python indexes by number will do, but no text.

    Raises what ``len()`` of such a value raises.
    """

    def load(value: Any) -> Any:
        if type(value) is not list:
            if isinstance(value, str | bytes) or not _is_sequence(value):
                return REFUSED
            value = [value[index] for index in range(len(value))]
        loaded = []
        for one in map(item.load, value):
            if one is REFUSED:
                return REFUSED
            loaded.append(one)
        return loaded

    return Caster(f"list[{item.text}]", load)


def pair_of(first: Caster, second: Caster) -> Caster:
    """A ``std::pair``: any sequence of two."""

    def load(value: Any) -> Any:
        if not _is_sequence(value) or len(value) != 2:
            return REFUSED
        loaded = first.load(value[0]), second.load(value[1])
        return REFUSED if REFUSED in loaded else loaded

    return Caster(f"tuple[{first.text}, {second.text}]", load)


def returned(text: str) -> str:
    """What a ``std::string`` becomes on its way back: UnicodeDecodeError if it is no UTF-8."""
    return text if text.isascii() else text.encode("utf-8", "surrogateescape").decode()


def c_string(text: str) -> str:
    """What is left of a text where C takes it for one that ends with a zero."""
    return text.partition("\0")[0]


def _load_str(value: Any) -> Any:
    if type(value) is str and value.isascii():  # nearly always
        return value
    if isinstance(value, bytes | bytearray):
        return value.decode("utf-8", "surrogateescape")  # it is read when it is returned
    if not isinstance(value, str):
        return REFUSED
    try:
        value.encode()
    except UnicodeEncodeError:
        return REFUSED
    return str.__str__(value)  # of a subclass only the text


def _load_bool(value: Any) -> Any:
    if isinstance(value, bool):
        return value
    # NumPy's texts have a __bool__ that C does not see.
    if isinstance(value, str | bytes | None) or not hasattr(type(value), "__bool__"):
        return REFUSED
    try:
        return bool(value)
    except Exception:  # noqa: BLE001 - pybind11 swallows whatever it is
        return REFUSED


def _load_float(value: Any) -> Any:
    if not _is_number(value):  # float() would take text, too
        return REFUSED
    try:
        return float(value)
    except Exception:  # noqa: BLE001 - pybind11 swallows whatever it is
        return REFUSED


def _load_ndarray(value: Any) -> Any:
    return value if isinstance(value, np.ndarray) else REFUSED


def _integer(least: int, most: int) -> Caster:
    def load(value: Any) -> Any:
        if type(value) is int:
            number = value
        elif isinstance(value, float):
            return REFUSED
        else:
            try:
                number = operator.index(value)
            except TypeError:
                if not _is_number(value):  # int() would take text, too
                    return REFUSED
                try:
                    number = int(value)
                except Exception:  # noqa: BLE001 - pybind11 swallows whatever it is
                    return REFUSED
            except Exception:  # noqa: BLE001 - pybind11 swallows whatever it is
                return REFUSED
        return number if least <= number <= most else REFUSED

    return Caster("int", load)


def _check(name: str) -> Any:
    # A prototype of our own: those of ctypes.pythonapi's attributes are the whole process's.
    return ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object)((name, ctypes.pythonapi))


_is_sequence = _check("PySequence_Check")
_is_number = _check("PyNumber_Check")

STR = Caster("str", _load_str)
BOOL = Caster("bool", _load_bool)
FLOAT = Caster("float", _load_float)
OBJECT = Caster("object", lambda value: value)
NOT_NONE = Caster("object", lambda value: REFUSED if value is None else value)
NDARRAY = Caster("numpy.ndarray", _load_ndarray)
INT32 = _integer(-(2**31), 2**31 - 1)
UINT32 = _integer(0, 2**32 - 1)
UINT64 = _integer(0, 2**64 - 1)
INT64 = _integer(-(2**63), 2**63 - 1)
