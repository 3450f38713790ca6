"""Values of JSON into the fields of a message, with the leniency of protobuf's C++ reader.

That reader takes what Python's own refuses: names of enum values in any case, text for numbers and
for bools, one value where a list is expected, lists in lists. Refusals are the same; their texts
are our own, the server tells them nobody.
"""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, Any

from triton_stub.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator


class FieldKind:
    """``FieldDescriptor.CPPTYPE_…``, which protobuf does not tell without being imported."""

    INT32, INT64, UINT32, UINT64, DOUBLE, FLOAT, BOOL, ENUM, STRING, MESSAGE = range(1, 11)


_INTEGERS = {
    FieldKind.INT32: (-(2**31), 2**31 - 1),
    FieldKind.INT64: (-(2**63), 2**63 - 1),
    FieldKind.UINT32: (0, 2**32 - 1),
    FieldKind.UINT64: (0, 2**64 - 1),
}
# What protobuf's strings become as a bool.
_WORDS = dict.fromkeys(("true", "t", "yes", "y", "1"), True)
_WORDS |= dict.fromkeys(("false", "f", "no", "n", "0"), False)


def fill(message: Any, value: Any, path: str = "") -> None:
    """Set, in place, the fields that the dict ``value`` names; None leaves a field unset.

    ConfigError, with the path of the field, for an unknown name or a value of another type.
    """
    if not isinstance(value, dict):
        raise ConfigError(f"{path or 'a model configuration'} must be an object, found {value!r}")
    known = {**message.DESCRIPTOR.fields_by_camelcase_name, **message.DESCRIPTOR.fields_by_name}
    for name, item in value.items():
        where = f"{path}.{name}" if path else str(name)
        field = known.get(name)
        if field is None:
            names = ", ".join(message.DESCRIPTOR.fields_by_name)
            raise ConfigError(f"there is no field {where}; expected one of {names}")
        if item is None:
            continue
        oneof = field.containing_oneof
        if oneof is not None and message.WhichOneof(oneof.name) not in (None, field.name):
            raise ConfigError(f"{where} and {message.WhichOneof(oneof.name)} exclude each other")
        _fill_field(message, field, item, where)


def _fill_field(message: Any, field: Any, item: Any, where: str) -> None:
    target = getattr(message, field.name)
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        _fill_map(target, field, item, where)
    elif field.is_repeated:
        for index, each in enumerate(_flat(item)):
            if field.message_type is not None:
                fill(target.add(), each, f"{where}[{index}]")
            else:
                target.append(_scalar(field, each, f"{where}[{index}]"))
    elif field.message_type is not None:
        target.SetInParent()
        fill(target, item, where)
    else:
        setattr(message, field.name, _scalar(field, item, where))


def _fill_map(target: Any, field: Any, item: Any, where: str) -> None:
    if not isinstance(item, dict):
        raise ConfigError(f"{where} must be an object, found {item!r}")
    keys, values = (field.message_type.fields_by_name[name] for name in ("key", "value"))
    for name, each in item.items():
        key = _scalar(keys, name, where)
        if values.message_type is not None:
            fill(target[key], each, f"{where}.{name}")
        else:
            target[key] = _scalar(values, each, f"{where}.{name}")


def _scalar(field: Any, item: Any, where: str) -> Any:
    found: Any
    if field.cpp_type in _INTEGERS:
        what, found = "a whole number", _integer(item, *_INTEGERS[field.cpp_type])
    elif field.cpp_type == FieldKind.ENUM:
        what, found = f"a {field.enum_type.name}", _enum(item, field.enum_type)
    elif field.cpp_type == FieldKind.BOOL:
        what, found = "true or false", _boolean(item)
    elif field.cpp_type == FieldKind.STRING:
        what, found = "a text", item if isinstance(item, str) else None
    else:
        what, found = "a number", _number(item)
    if found is None:
        raise ConfigError(f"{where} must be {what}, found {item!r}")
    return found


def _flat(item: Any) -> Iterator[Any]:
    """The values of a list, however deep; null is none."""
    if isinstance(item, list):
        for each in item:
            yield from _flat(each)
    elif item is not None:
        yield item


def _integer(item: Any, lowest: int, highest: int) -> int | None:
    if isinstance(item, str):
        item = int(item) if re.fullmatch("-?[0-9]+", item) else None
    number = _number(item)
    if number is None or number % 1 != 0 or not lowest <= number <= highest:
        return None
    return int(number)


def _number(item: Any) -> int | float | None:
    if isinstance(item, str):
        with contextlib.suppress(ValueError):
            return float(item)
    return item if isinstance(item, int | float) and not isinstance(item, bool) else None


def _boolean(item: Any) -> bool | None:
    if isinstance(item, str):
        item = _WORDS.get(item.lower())
    return item if isinstance(item, bool) else None


def _enum(item: Any, enum: Any) -> int | None:
    if isinstance(item, str) and not item.lstrip("-").isdecimal():
        number: int | None = {
            name.upper(): value.number for name, value in enum.values_by_name.items()
        }.get(item.upper())
        return number
    return _integer(item, *_INTEGERS[FieldKind.INT32])
