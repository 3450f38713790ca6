"""What the server fills in where a configuration says nothing.

Source: core ``src/model_config_utils.cc``, named ``MCU`` below.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from triton_stub.config.schema import schema
from triton_stub.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

MODEL_FILENAME = "model.py"
_IDLE_MICROSECONDS = 1_000_000
# The backend that a file of a model speaks for, in the order in which the server looks.
_BACKEND_OF_FILE = {
    "model.savedmodel": "tensorflow",
    "model.graphdef": "tensorflow",
    "model.plan": "tensorrt",
    "model.onnx": "onnxruntime",
    "model.xml": "openvino",
    "model.pt": "pytorch",
    MODEL_FILENAME: "python",
}
# Of backends that are no libraries of the server's own, nothing is said.
_FILE_OF_BACKEND = {backend: file for file, backend in reversed(_BACKEND_OF_FILE.items())}
_BACKEND_OF_PLATFORM = {
    "tensorflow_savedmodel": "tensorflow",
    "tensorflow_graphdef": "tensorflow",
    "tensorrt_plan": "tensorrt",
    "onnxruntime_onnx": "onnxruntime",
    "pytorch_libtorch": "pytorch",
}


def normalize(config: Any, name: str) -> None:
    """Fill in, in place, what a server without GPUs fills in for a Python model called ``name``.

    Source: MCU 743-955, 1050-1311.
    """
    if not config.name:
        config.name = name
    if not config.backend and not config.platform:
        config.backend = "python"
    if not config.default_model_filename:
        config.default_model_filename = _FILE_OF_BACKEND.get(config.backend, "")
    if config.HasField("dynamic_batching"):
        _normalize_preferred(config.dynamic_batching, config.max_batch_size)
    if config.HasField("sequence_batching"):
        batching = config.sequence_batching
        if not batching.max_sequence_idle_microseconds:
            batching.max_sequence_idle_microseconds = _IDLE_MICROSECONDS
        if batching.HasField("oldest"):
            _normalize_preferred(batching.oldest, config.max_batch_size)
    if not config.HasField("version_policy"):
        config.version_policy.latest.num_versions = 1
    if config.HasField("ensemble_scheduling"):
        return
    if not config.optimization.HasField("input_pinned_memory"):
        config.optimization.input_pinned_memory.enable = True
    if not config.optimization.HasField("output_pinned_memory"):
        config.optimization.output_pinned_memory.enable = True
    _normalize_instance_groups(config)


def find_backend(config: Any, model_directory: Path) -> None:
    """Fill in, in place, the backend of a model that names none, as its files tell it.

    ConfigError if they do not. Source: MCU 1050-1311.
    """
    if config.backend:
        return
    named = config.default_model_filename
    if named in _BACKEND_OF_FILE:
        config.backend = _BACKEND_OF_FILE[named]
        return
    if config.platform:
        config.backend = _BACKEND_OF_PLATFORM.get(config.platform, "")
        return
    if named:
        name = config.name or model_directory.name
        raise ConfigError(f"unexpected platform type '' for {name}")
    # The first by name, of all of them: there may be more than versions.
    folders = sorted(entry for entry in model_directory.iterdir() if entry.is_dir())
    files = {entry.name for entry in folders[0].iterdir()} if folders else set()
    found = [backend for file, backend in _BACKEND_OF_FILE.items() if file in files]
    _, dot, suffix = model_directory.name.partition(".")
    if found:
        config.backend = found[0]
    elif dot:
        config.backend = suffix
        config.default_model_filename = f"model.{suffix}"
    else:
        name = model_directory.name
        missing = (folders[0] if folders else model_directory / "1") / MODEL_FILENAME
        raise ConfigError(
            f"Invalid model name: Could not determine backend for model '{name}' with no backend "
            "in model configuration. Expected model name of the form 'model.<backend_name>'. "
            f"There is no file {missing}.{no_repository(model_directory.parent)}"
        )


def no_repository(folder: Path) -> str:
    """What to say of the commonest mistake: a model's folder, given as a repository; or nothing."""
    if not any(file.parent.name.isdecimal() for file in folder.glob(f"*/{MODEL_FILENAME}")):
        return ""
    return (
        f" {folder} is the folder of one model, not a model repository: give the folder above it, "
        f"{folder.parent}."
    )


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
