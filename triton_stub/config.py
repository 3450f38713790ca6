"""Model configuration: ``config.pbtxt`` → protobuf → Triton's defaults → checks → Triton's JSON.

The schema is NVIDIA's own, as tritonclient ships it; importing it costs 0.3 s, so it is imported
on first use. Sources: core ``src/model_config_utils.cc``, named ``MCU`` below.
"""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, Any

from triton_stub.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable
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
    from tritonclient.grpc import model_config_pb2  # noqa: PLC0415

    module: ModuleType = model_config_pb2
    return module


def parse(text: str, *, source: str = CONFIG_FILENAME) -> Any:
    """Read the text of a ``config.pbtxt`` into a ``ModelConfig`` message, without defaults.

    Raises ConfigError with file, line and column of the fault.
    """
    from google.protobuf import text_format  # noqa: PLC0415

    message = schema().ModelConfig()
    try:
        text_format.Parse(text, message)
    except text_format.ParseError as error:
        fault = str(error).rstrip(".")
        raise ConfigError(
            f"{source}:{fault}. Expected a ModelConfig message in protobuf text format; "
            "correct the line, every field is described in Triton's model configuration page."
        ) from None
    return message


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
    except ConfigError as error:
        raise ConfigError(f"{path}: {error.message}", error.code) from None
    return message


def normalize(config: Any, directory_name: str) -> None:
    """Fill in, in place, what the server fills in for a Python model (MCU 743-955, 1050-1311)."""
    if not config.name:
        config.name = directory_name
    if config.name != directory_name:
        raise ConfigError(
            f"unexpected directory name '{directory_name}' for model '{config.name}', "
            "directory name must equal model name"
        )
    if not config.backend and config.platform != "ensemble":
        config.backend = "python"
    if not config.default_model_filename:
        config.default_model_filename = "model.py"
    if config.WhichOneof("scheduling_choice") == "dynamic_batching":
        batching = config.dynamic_batching
        if config.max_batch_size > 0 and not batching.preferred_batch_size:
            batching.preferred_batch_size.append(config.max_batch_size)
    if config.version_policy.WhichOneof("policy_choice") is None:
        config.version_policy.latest.num_versions = 1
    if not config.optimization.HasField("input_pinned_memory"):
        config.optimization.input_pinned_memory.enable = True
    if not config.optimization.HasField("output_pinned_memory"):
        config.optimization.output_pinned_memory.enable = True
    _normalize_instance_groups(config)


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
    """Refuse what the server refuses for a Python model, in its words (MCU 1434-1880)."""
    name = config.name
    if config.max_batch_size < 0:
        raise ConfigError(f"'max_batch_size' must be non-negative value for {name}")
    if config.WhichOneof("scheduling_choice") == "dynamic_batching":
        for size in config.dynamic_batching.preferred_batch_size:
            if size <= 0:
                raise ConfigError(f"dynamic batching preferred size must be positive for {name}")
            if size > config.max_batch_size:
                raise ConfigError(
                    f"dynamic batching preferred size must be <= max batch size for {name}"
                )
    kinds = schema().ModelInstanceGroup
    for group in config.instance_group:
        if group.kind in (kinds.KIND_CPU, kinds.KIND_MODEL) and group.gpus:
            raise ConfigError(
                f"instance group {group.name} of model {name} has kind "
                f"{kinds.Kind.Name(group.kind)} but specifies one or more GPUs"
            )
    try:
        for kind, tensors in (("input", config.input), ("output", config.output)):
            for tensor in tensors:
                _validate_tensor(tensor, f"model {kind}", config.max_batch_size)
    except ConfigError as error:
        raise ConfigError(f"{error.message} for {name}") from None


def _validate_tensor(tensor: Any, what: str, max_batch_size: int) -> None:
    if not tensor.name:
        raise ConfigError(f"{what} must specify 'name'")
    what_named = f"{what} '{tensor.name}'"
    if tensor.data_type == 0:
        raise ConfigError(f"{what_named} must specify 'data_type'")
    if not tensor.dims:
        raise ConfigError(f"{what_named} must specify 'dims'")
    _validate_dims(tensor.dims, f"{what_named} dimension")
    if tensor.HasField("reshape"):
        shape = tensor.reshape.shape
        _validate_dims(shape, f"{what_named} reshape dimensions")
        if not shape and max_batch_size == 0:
            raise ConfigError(
                f"{what_named} cannot have empty reshape for non-batching model as scalar "
                "tensors are not supported"
            )
        if list(tensor.dims).count(-1) != list(shape).count(-1):
            raise ConfigError(
                f"{what_named} has different number of variable-size dimensions for dims "
                "and reshape"
            )
        if -1 not in tensor.dims and _product(tensor.dims) != _product(shape):
            raise ConfigError(f"{what_named} has different size for dims and reshape")
    if tensor.is_shape_tensor:
        raise ConfigError("shape tensors are only supported for TensorRT platform")


def _validate_dims(dims: Iterable[int], what: str) -> None:
    if any(dim < 1 and dim != -1 for dim in dims):
        raise ConfigError(
            f"{what} must be integer >= 1, or -1 to indicate a variable-size dimension"
        )


def _product(dims: Iterable[int]) -> int:
    result = 1
    for dim in dims:
        result *= dim
    return result


def to_dict(config: Any) -> dict[str, Any]:
    """The configuration as the server prints it.

    Every scalar, list and map is there even when it has its default; messages that are not set
    are absent; 64-bit numbers are numbers, but for three that the server leaves as strings.
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
                _map_key(key): _value(value_field, value[key]) for key in sorted(value)
            }
        elif field.is_repeated:
            printed[field.name] = [_value(field, item) for item in value]
        else:
            printed[field.name] = _value(field, value)
    return printed


def _is_map(field: Any) -> bool:
    message_type = field.message_type
    return message_type is not None and bool(message_type.GetOptions().map_entry)


def _map_key(key: Any) -> str:
    return json.dumps(key) if isinstance(key, bool) else str(key)


def _value(field: Any, value: Any) -> Any:
    if field.message_type is not None:
        return _message_to_dict(value)
    if field.enum_type is not None:
        known = field.enum_type.values_by_number.get(value)
        return value if known is None else known.name
    if field.full_name in _STRING_INT64:
        return str(value)
    if field.cpp_type == field.CPPTYPE_FLOAT:
        # Protobuf prints a float with the fewest digits that read back to it.
        return _shortest_float(value)
    return value


def _shortest_float(value: float) -> float | int:
    import numpy as np  # noqa: PLC0415

    shortest = float(str(np.float32(value)))
    return int(shortest) if shortest.is_integer() else shortest
