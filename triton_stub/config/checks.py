"""What the server refuses in a configuration, in its words and order.

Source: core ``src/model_config_utils.cc``, named ``MCU`` below.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from triton_stub import deviations
from triton_stub.config.ensembles import PLATFORM, check_ensemble
from triton_stub.config.schema import schema
from triton_stub.config.sequences import check_sequence_batching
from triton_stub.errors import ConfigError, StatusCode

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path


def validate(config: Any) -> None:
    """All checks of a configuration that is not completed by its model: ConfigError."""
    check_polled(config)
    check_instance_groups(config)
    check_tensors(config)


def check_polled(config: Any) -> None:
    """What is checked when a repository is polled, and again when a model has completed it.

    ConfigError; of the first time the server tells its log only. Source: MCU 1434-1702.
    """
    name = config.name
    if not config.backend and config.platform != PLATFORM:
        raise ConfigError(f"unexpected platform type '{config.platform}' for {name}")
    if config.backend and config.platform == PLATFORM:
        raise ConfigError(
            f"Ensemble model '{name}' must have platform type '{PLATFORM}' and empty backend type"
        )
    if config.max_batch_size < 0:
        raise ConfigError(f"'max_batch_size' must be non-negative value for {name}")
    if config.HasField("dynamic_batching"):
        _check_dynamic_batching(config)
    if config.HasField("sequence_batching"):
        check_sequence_batching(config)
    if config.HasField("ensemble_scheduling"):
        check_ensemble(config)
    elif config.platform == PLATFORM:
        raise ConfigError(
            f"ensemble scheduling must be set for ensemble {name} whose platform is {PLATFORM}"
        )
    if config.model_transaction_policy.decoupled and config.response_cache.enable:
        raise ConfigError(
            f"Response Cache does not currently support model {name} with 'decoupled' transaction "
            "policy. Please disable the response cache."
        )


def check_instance_groups(config: Any) -> None:
    """What is checked before the model is asked to complete its configuration: ConfigError.

    Source: MCU 1712-1812.
    """
    for group in config.instance_group:
        _check_instance_group(group, f"instance group {group.name} of model {config.name}")


def check_tensors(config: Any) -> None:
    """What is checked when the model has completed its configuration: ConfigError.

    Source: MCU 292-425, 1314-1432, 1815-1880.
    """
    try:
        for tensor in config.input:
            _check_tensor(tensor, "model input", config.max_batch_size)
        for tensor in config.output:
            _check_tensor(tensor, "model output", config.max_batch_size)
        _check_batch_tensors(config)
    except ConfigError as error:
        raise ConfigError(f"{error.message} for {config.name}") from None


def check_labels(config: Any, model_directory: Path) -> None:
    """The files of labels must be there, in the model's directory: ConfigError.

    Source: core ``src/model.cc``, ``Init``; the directory counts since Triton 26.02.
    """
    for tensor in config.output:
        if not tensor.label_filename:
            continue
        path = model_directory / tensor.label_filename
        # A name with a zero in it cannot be resolved, nor be there.
        is_name = "\0" not in tensor.label_filename
        if is_name and not path.resolve().is_relative_to(model_directory.resolve()):
            raise ConfigError(
                f"label file path '{path}' for output '{tensor.name}' in model '{config.name}' is "
                "outside model directory",
                StatusCode.UNSUPPORTED,
            )
        if not os.path.isfile(path):  # noqa: PTH113 - it may be too long for a name
            raise ConfigError(
                f"failed to open text file for read {path}: No such file or directory",
                StatusCode.INTERNAL,
            )


def _check_dynamic_batching(config: Any) -> None:
    batching, name = config.dynamic_batching, config.name
    for size in batching.preferred_batch_size:
        if size <= 0:
            raise ConfigError(f"dynamic batching preferred size must be positive for {name}")
        if size > config.max_batch_size:
            raise ConfigError(
                f"dynamic batching preferred size must be <= max batch size for {name}"
            )
    levels = batching.priority_levels
    if levels:
        if not 1 <= batching.default_priority_level <= levels:
            raise ConfigError(f"default priority level must be in range [1, {levels}] for {name}")
        if any(not 1 <= level <= levels for level in batching.priority_queue_policy):
            raise ConfigError(
                f"priority queue policy must have priority level in range [1, {levels}] for {name}"
            )
    if not batching.preserve_ordering:
        return
    if levels > 1:
        raise ConfigError(
            f"Only one priority level is allowed when 'preserve_ordering' is true for {name}"
        )
    for policy in (batching.default_queue_policy, *batching.priority_queue_policy.values()):
        if policy.default_timeout_microseconds and policy.timeout_action == policy.DELAY:
            raise ConfigError(
                "Queue policy can not have DELAY as timeout action when 'preserve_ordering' is "
                f"true for {name}"
            )


def _check_batch_tensors(config: Any) -> None:
    inputs = {tensor.name for tensor in config.input}
    outputs = {tensor.name for tensor in config.output}
    types = schema()
    for entry in config.batch_input:
        _check_sources(entry, f"batch input kind '{types.BatchInput.Kind.Name(entry.kind)}'")
        if entry.data_type not in (types.TYPE_INT32, types.TYPE_FP32):
            raise ConfigError("batch input data type must be TYPE_INT32 or TYPE_FP32")
        _check_known(entry.source_input, inputs, "source input")
    for entry in config.batch_output:
        _check_sources(entry, f"batch output kind '{types.BatchOutput.Kind.Name(entry.kind)}'")
        _check_known(entry.source_input, inputs, "source input")
        targets = list(entry.target_name)
        for index, name in enumerate(targets):
            _check_known([name], outputs, "target output")
            if name in targets[:index]:
                raise ConfigError(f"target output name '{name}' can only be specified once")


def _check_sources(entry: Any, what: str) -> None:
    if len(entry.source_input) != 1:
        raise ConfigError(f"{what} expects 1 source input, got {len(entry.source_input)}")


def _check_known(names: Iterable[str], known: set[str], what: str) -> None:
    for name in names:
        if name not in known:
            raise ConfigError(f"unknown {what} name '{name}'")


def _check_instance_group(group: Any, what: str) -> None:
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


def _check_tensor(tensor: Any, what: str, max_batch_size: int) -> None:
    if not tensor.name:
        raise ConfigError(f"{what} must specify 'name'")
    named = f"{what} '{tensor.name}'"
    if tensor.data_type == 0:
        raise ConfigError(f"{named} must specify 'data_type'")
    if tensor.data_type not in schema().DataType.values():
        raise ConfigError(
            deviations.UNKNOWN_DATATYPE.text(
                f"{named} has data_type {tensor.data_type}, which is no Triton datatype",
                "Name one.",
            )
        )
    if not tensor.dims:
        raise ConfigError(f"{named} must specify 'dims'")
    if tensor.HasField("reshape") and not tensor.reshape.shape and max_batch_size == 0:
        raise ConfigError(
            f"{named} cannot have empty reshape for non-batching model as scalar "
            "tensors are not supported"
        )
    _check_dims(tensor.dims, f"{named} dimension")
    if tensor.HasField("reshape"):
        _check_dims(tensor.reshape.shape, f"{named} reshape dimensions")
        _check_reshape(tensor.dims, tensor.reshape.shape, named)
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


def _check_reshape(dims: Sequence[int], shape: Sequence[int], what: str) -> None:
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


def _check_dims(dims: Iterable[int], what: str) -> None:
    if any(dim < 1 and dim != -1 for dim in dims):
        raise ConfigError(
            f"{what} must be integer >= 1, or -1 to indicate a variable-size dimension"
        )
