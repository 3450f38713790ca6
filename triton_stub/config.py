"""Model configuration: ``config.pbtxt`` → protobuf → Triton's defaults → checks → Triton's JSON.

The schema is NVIDIA's own, as tritonclient ships it; importing it costs 0.3 s, so it is imported
on first use. Sources: core ``src/model_config_utils.cc``, named ``MCU`` below.
"""

from __future__ import annotations

import json
import re
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from triton_stub.errors import ConfigError, StatusCode

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path
    from types import ModuleType

    from google.protobuf.message import Message

CONFIG_FILENAME = "config.pbtxt"

# 64-bit numbers that the server forgets to turn back from protobuf's strings (MCU, the JSON
# conversion at the end of the file; seen on the real server). Map keys are strings anyway.
_STRING_INT64 = {
    "inference.ModelSequenceBatching.InitialState.dims",
    "inference.ModelInstanceGroup.SecondaryDevice.device_id",
    "inference.ModelOptimizationPolicy.Cuda.GraphSpec.Shape.dim",
}


@cache
def schema() -> ModuleType:
    """NVIDIA's ``model_config_pb2``, out of tritonclient."""
    from tritonclient.grpc import model_config_pb2

    module: ModuleType = model_config_pb2
    return module


def parse(text: str, *, source: str = CONFIG_FILENAME) -> Any:
    """Read the text of a ``config.pbtxt`` into a ``ModelConfig`` message, without defaults.

    Raises ConfigError with file, line and column of the fault.
    """
    from google.protobuf import text_format

    message = schema().ModelConfig()
    try:
        text_format.Parse(text, message)
    except text_format.ParseError as error:
        fault = str(error).rstrip(".")
        raise ConfigError(
            f"{source}:{fault}. Expected {_expected(fault)}; correct the line, every field is "
            "described in Triton's model configuration page."
        ) from None
    return message


def _expected(fault: str) -> str:
    """What could stand where the parser found a fault: a list of names where it tells of which."""
    pool = schema().DESCRIPTOR.pool
    if found := re.search(r'Enum type "([\w.]+)" has no value', fault):
        values = pool.FindEnumTypeByName(found[1]).values
        return f"one of {', '.join(value.name for value in values)}"
    if found := re.search(r'Message type "([\w.]+)" has no field', fault):
        fields = pool.FindMessageTypeByName(found[1]).fields
        return f"one of {', '.join(field.name for field in fields)}"
    return "a ModelConfig message in protobuf text format"


def load(model_directory: Path, *, file_name: str = CONFIG_FILENAME) -> Any:
    """Read and complete ``<model_directory>/config.pbtxt``.

    Returns a ``ModelConfig`` message with the defaults that the server fills in (``normalize``)
    and that passed ``validate``. Raises ConfigError.
    """
    path = model_directory / file_name
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        # The server then asks the model's auto_complete_config; a model without any has no inputs.
        message = schema().ModelConfig()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from None
    else:
        message = parse(text, source=str(path))
    try:
        normalize(message, model_directory.name)
        validate(message)
        _check_label_files(message, model_directory)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error.message}", error.code) from None
    return message


def normalize(config: Any, directory_name: str) -> None:
    """Fill in, in place, what a server without GPUs fills in for a Python model.

    Source: MCU 743-955, 1050-1311.
    """
    if not config.name:
        config.name = directory_name
    if config.name != directory_name:
        raise ConfigError(
            f"unexpected directory name '{directory_name}' for model '{config.name}', "
            "directory name must equal model name"
        )
    if not config.backend and not config.platform:
        config.backend = "python"
    if not config.default_model_filename:
        config.default_model_filename = "model.py"
    if config.HasField("dynamic_batching"):
        _normalize_preferred(config.dynamic_batching, config.max_batch_size)
    if config.HasField("sequence_batching"):
        batching = config.sequence_batching
        batching.max_sequence_idle_microseconds = batching.max_sequence_idle_microseconds or 1000000
        if batching.HasField("oldest"):
            _normalize_preferred(batching.oldest, config.max_batch_size)
    if not config.HasField("version_policy"):
        config.version_policy.latest.num_versions = 1
    if not config.optimization.HasField("input_pinned_memory"):
        config.optimization.input_pinned_memory.enable = True
    if not config.optimization.HasField("output_pinned_memory"):
        config.optimization.output_pinned_memory.enable = True
    _normalize_instance_groups(config)


def _normalize_preferred(batching: Any, max_batch_size: int) -> None:
    if max_batch_size > 0 and not batching.preferred_batch_size:
        batching.preferred_batch_size.append(max_batch_size)


def _normalize_instance_groups(config: Any) -> None:
    groups = config.instance_group
    kinds = schema().ModelInstanceGroup
    if not groups:
        groups.add(name=config.name)
    for index, group in enumerate(groups):
        if not group.name:
            group.name = f"{config.name}_{index}"
        if group.kind == kinds.KIND_AUTO:
            group.kind = kinds.KIND_CPU
        group.count = max(group.count, 1)


def validate(config: Any) -> None:
    """Refuse what the server refuses for a Python model, in its words and order."""
    _validate_when_polled(config)
    _validate_when_loaded(config)


def _validate_when_polled(config: Any) -> None:
    # MCU 1434-1702. The server tells these reasons in its log only.
    name = config.name
    if not config.backend and config.platform != "ensemble":
        raise ConfigError(f"unexpected platform type '{config.platform}' for {name}")
    if config.max_batch_size < 0:
        raise ConfigError(f"'max_batch_size' must be non-negative value for {name}")
    for size in config.dynamic_batching.preferred_batch_size:
        if size <= 0:
            raise ConfigError(f"dynamic batching preferred size must be positive for {name}")
        if size > config.max_batch_size:
            raise ConfigError(
                f"dynamic batching preferred size must be <= max batch size for {name}"
            )


def _validate_when_loaded(config: Any) -> None:
    # MCU 292-425, 1712-1880. These are also in the repository's index.
    for group in config.instance_group:
        _validate_instance_group(group, f"instance group {group.name} of model {config.name}")
    try:
        for tensor in config.input:
            _validate_tensor(tensor, "model input", config.max_batch_size)
        for tensor in config.output:
            _validate_tensor(tensor, "model output", config.max_batch_size)
    except ConfigError as error:
        raise ConfigError(f"{error.message} for {config.name}") from None


def _validate_instance_group(group: Any, what: str) -> None:
    kinds = schema().ModelInstanceGroup
    if group.kind not in (kinds.KIND_CPU, kinds.KIND_MODEL, kinds.KIND_GPU):
        # A number that is no kind of this schema; the text is the server's all the same.
        raise ConfigError(f"{what} has unexpected kind KIND_AUTO", StatusCode.INTERNAL)
    if group.kind != kinds.KIND_GPU and group.gpus:
        kind = kinds.Kind.Name(group.kind)
        raise ConfigError(f"{what} has kind {kind} but specifies one or more GPUs")
    if group.profile:
        # The server forgets the platform's name's blank, too.
        raise ConfigError(
            f"{what} and platform specifies profile field which is only supported for "
            "TensorRT models"
        )


def _validate_tensor(tensor: Any, what: str, max_batch_size: int) -> None:
    if not tensor.name:
        raise ConfigError(f"{what} must specify 'name'")
    named = f"{what} '{tensor.name}'"
    if tensor.data_type == 0:
        raise ConfigError(f"{named} must specify 'data_type'")
    if tensor.data_type not in schema().DataType.values():
        # The server takes it; what it then does with requests is nobody's wish.
        raise ConfigError(f"{named} has data_type {tensor.data_type}, which is no Triton datatype")
    if not tensor.dims:
        raise ConfigError(f"{named} must specify 'dims'")
    if tensor.HasField("reshape") and not tensor.reshape.shape and max_batch_size == 0:
        raise ConfigError(
            f"{named} cannot have empty reshape for non-batching model as scalar "
            "tensors are not supported"
        )
    _validate_dims(tensor.dims, f"{named} dimension")
    if tensor.HasField("reshape"):
        _validate_dims(tensor.reshape.shape, f"{named} reshape dimensions")
        _validate_reshape(tensor.dims, tensor.reshape.shape, named)
    formats = schema().ModelInput
    if (
        "format" in tensor.DESCRIPTOR.fields_by_name
        and tensor.format in (formats.FORMAT_NHWC, formats.FORMAT_NCHW)
        and len(tensor.dims) != 3
    ):
        raise ConfigError("model input NHWC/NCHW require 3 dims")
    if tensor.is_shape_tensor:
        raise ConfigError("shape tensors are only supported for TensorRT platform")
    if tensor.is_non_linear_format_io:
        raise ConfigError("Non-linear IO format is only supported for the TensorRT platform")


def _validate_reshape(dims: Sequence[int], shape: Sequence[int], what: str) -> None:
    """Sizes between the variable-size dimensions must agree: [2,4,-1,6] is [8,-1,1,6]."""
    sizes, reshaped = _sizes_between_wildcards(dims), _sizes_between_wildcards(shape)
    if len(sizes) != len(reshaped) and min(len(sizes), len(reshaped)) > 1:
        raise ConfigError(
            f"{what} has different number of variable-size dimensions for dims and reshape"
        )
    if sizes != reshaped:
        raise ConfigError(f"{what} has different size for dims and reshape")


def _sizes_between_wildcards(dims: Sequence[int]) -> list[int]:
    sizes = [1]
    for dim in dims:
        if dim == -1:
            sizes.append(1)
        else:
            sizes[-1] *= dim
    return sizes


def _validate_dims(dims: Iterable[int], what: str) -> None:
    if any(dim < 1 and dim != -1 for dim in dims):
        raise ConfigError(
            f"{what} must be integer >= 1, or -1 to indicate a variable-size dimension"
        )


def _check_label_files(config: Any, model_directory: Path) -> None:
    for tensor in config.output:
        path = model_directory / tensor.label_filename
        if tensor.label_filename and not path.is_file():
            raise ConfigError(
                f"failed to open text file for read {path}: No such file or directory",
                StatusCode.INTERNAL,
            )


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
