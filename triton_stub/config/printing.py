"""A configuration as the server prints it, in its HTTP answers and for a model.

Source: core ``src/model_config_utils.cc``, ``ModelConfigToJson``.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from google.protobuf.message import Message

# 64-bit numbers that the server forgets to turn back from protobuf's strings (MCU, the JSON
# conversion at the end of the file; seen on the real server). Map keys are strings anyway.
_STRING_INT64 = {
    "inference.ModelSequenceBatching.InitialState.dims",
    "inference.ModelInstanceGroup.SecondaryDevice.device_id",
    "inference.ModelOptimizationPolicy.Cuda.GraphSpec.Shape.dim",
}


def to_dict(config: Any) -> dict[str, Any]:
    """The configuration as the server prints it.

    Every scalar, list and map is there even when it has its default; messages that are not set
    are absent; 64-bit numbers are numbers, but for three that the server leaves as strings. Maps
    are in the order of their keys; the server's own order is that of a hash table.
    """
    return _message_to_dict(config)


def to_json(config: Any) -> str:
    """``args["model_config"]`` of a model: ``to_dict`` without blanks."""
    return json.dumps(to_dict(config), separators=(",", ":"), ensure_ascii=False)


def _message_to_dict(message: Message) -> dict[str, Any]:
    printed: dict[str, Any] = {}
    field: Any  # two classes of descriptors, one typed
    for field in message.DESCRIPTOR.fields:
        if field.has_presence and not message.HasField(field.name):
            continue
        value = getattr(message, field.name)
        if _is_map(field):
            value_field = field.message_type.fields_by_name["value"]
            printed[field.name] = {
                str(key): _value(value_field, value[key]) for key in sorted(value)
            }
        elif field.is_repeated:
            printed[field.name] = [_value(field, item) for item in value]
        else:
            printed[field.name] = _value(field, value)
    return printed


def _is_map(field: Any) -> bool:
    message_type = field.message_type
    return message_type is not None and bool(message_type.GetOptions().map_entry)


def _value(field: Any, value: Any) -> Any:
    if field.message_type is not None:
        return _message_to_dict(value)
    if field.enum_type is not None:
        known = field.enum_type.values_by_number.get(value)
        return value if known is None else known.name
    if field.full_name in _STRING_INT64:
        return str(value)
    if field.cpp_type == field.CPPTYPE_FLOAT:
        return _float_value(value)
    return value


def _float_value(value: float) -> float | int:
    """A float32 as protobuf's C++ prints it: 6 digits, or 9 if 6 do not read back to it."""
    text = f"{value:.6g}"
    if np.float32(text) != np.float32(value):
        text = f"{value:.9g}"
    return int(text) if text.lstrip("-").isdecimal() else float(text)
