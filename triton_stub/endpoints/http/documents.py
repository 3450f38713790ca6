"""JSON as the server's own library reads it, down to the words it complains in.

The server parses with RapidJSON; python-rapidjson wraps the same code, so what parses, what does
not, and how a number is rounded are the same. Source: common ``triton_json.h``.
"""

from __future__ import annotations

import codecs
import json
from typing import TYPE_CHECKING, Any, TypeGuard, TypeVar

import rapidjson

from triton_stub import deviations
from triton_stub.errors import InferenceError, StatusCode

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
D = TypeVar("D")

INT64_MAX = 2**63 - 1
INT64_MIN = -(2**63)
UINT64_MAX = 2**64 - 1
_PARSE_ERROR = "Parse error at offset "


class Members(dict[str, Any]):
    """An object that tells which ``names`` it has, in order, and each as often as it is there."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(_first_of_equals(pairs))
        self.names = [name for name, _ in pairs]


class _Decoder(rapidjson.Decoder):
    """Objects become dicts in which the first of several equal names wins, as in RapidJSON."""

    def start_object(self) -> list[Any]:
        return []  # python-rapidjson then collects pairs

    def end_object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        return _first_of_equals(pairs)


class _MembersDecoder(_Decoder):
    def end_object(self, pairs: list[tuple[str, Any]]) -> Members:
        return Members(pairs)


# Native: integers beyond 64 bits become floats, and floats are rounded as the server rounds them.
_NUMBERS = rapidjson.NM_NATIVE | rapidjson.NM_NAN
_decode: Callable[[bytes], Any] = _Decoder(number_mode=_NUMBERS)
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_decode_members: Callable[[bytes], Any] = _MembersDecoder(number_mode=_NUMBERS)


def parse(body: bytes) -> Any:
    """The value of a JSON text; InferenceError if it is none."""
    return _parse_any(body, _decode, _first_of_equals)


def parse_members(body: bytes) -> Any:
    """The same, and every object is of ``Members``."""
    return _parse_any(body, _decode_members, Members)


def _parse_any(
    body: bytes,
    decode: Callable[[bytes], Any],
    new_object: Callable[[list[tuple[str, Any]]], dict[str, Any]],
) -> Any:
    if body.startswith(codecs.BOM_UTF8):
        body = body.replace(codecs.BOM_UTF8, b"   ", 1)  # blanks keep the offsets of complaints
    try:
        return _parse(body, decode)
    except UnicodeDecodeError:
        # The server takes any bytes inside a string, and reads up to a NUL if there is one.
        text = body.partition(b"\0")[0].decode(errors="surrogateescape")
        # Byte for byte; only to complain as the server does.
        _parse(text.encode(errors="replace"), decode)
        return _parse(text, lambda text: json.loads(text, object_pairs_hook=new_object))


def _parse(body: T, decode: Callable[[T], Any]) -> Any:
    try:
        return decode(body)
    except RecursionError:
        raise InferenceError(
            deviations.DEEP_JSON.text(
                "the request's JSON is nested deeper than Python's recursion limit allows",
                "Nest it less deep.",
            ),
            StatusCode.INVALID_ARG,
        ) from None
    except rapidjson.JSONDecodeError as error:
        # For example: Parse error at offset 5: Invalid value.
        offset, _, reason = str(error).removeprefix(_PARSE_ERROR).partition(": ")
        # What later versions of RapidJSON say of a control character in a string.
        reason = reason.replace("Invalid encoding", "Invalid escape character")
        raise _internal(f"failed to parse the request JSON buffer: {reason} at {offset}") from None


def _first_of_equals(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for name, value in pairs:
        members.setdefault(name, value)
    return members


def dump(value: Any) -> bytes:
    """A JSON text without blanks; NaN and Infinity are written as the server writes them.

    Bytes that are no UTF-8 are in ``value`` as surrogate escapes, and leave as they were.
    """
    text = _encode(value)
    return text.encode(errors="surrogateescape")


def as_string(value: Any) -> str:
    """The value if it is a string."""
    if type(value) is str:
        return value
    raise _internal("attempt to access JSON non-string as string")


def as_bool(value: Any) -> bool:
    """The value if it is true or false."""
    if type(value) is bool:
        return value
    raise _internal("attempt to access JSON non-boolean as boolean")


def as_unsigned(value: Any) -> int:
    """The value if it is an integer of 64 bits without a sign."""
    if type(value) is int and 0 <= value <= UINT64_MAX:
        return value
    raise _internal("attempt to access JSON non-unsigned-integer as unsigned-integer")


def as_array(value: Any) -> list[Any]:
    """The value if it is an array."""
    if type(value) is list:
        return value
    raise _internal("attempt to access JSON non-array as array")


def has(value: Any, name: str) -> TypeGuard[dict[str, Any]]:
    """True if the value is an object with such a member; None is a value, too."""
    return isinstance(value, dict) and name in value


def required(value: Any, name: str, kind: Callable[[Any], T]) -> T:
    """A member that must be there."""
    if not has(value, name):
        raise _internal(
            f"Unable to parse '{name}': attempt to access non-existing object member '{name}'"
        )
    return _member(value, name, kind, "parse")


def optional(
    value: Any, name: str, kind: Callable[[Any], T], default: D, *, verb: str = "parse"
) -> T | D:
    """A member that may be missing, also because ``value`` is no object."""
    return _member(value, name, kind, verb) if has(value, name) else default


def _member(value: Any, name: str, kind: Callable[[Any], T], verb: str) -> T:
    try:
        return kind(value[name])
    except InferenceError as error:
        raise _internal(f"Unable to {verb} '{name}': {error.message}") from None


def _internal(message: str) -> InferenceError:
    return InferenceError(message, StatusCode.INTERNAL)
