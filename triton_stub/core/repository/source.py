"""Where a model is loaded from: its directory, its configuration, and how old both are.

Sources: core ``src/model_repository_manager/model_repository_manager.cc`` (MRM) and
``model_lifecycle.cc``.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from triton_stub import config as model_config
from triton_stub.errors import ConfigError

# "config": another configuration, as JSON; "file:1/model.py" and so on: other files.
LoadParameters = Mapping[str, str | bytes | int | bool]

_FILE = "file:"
_TYPES = {bool: "BOOL", int: "INT", str: "STRING", bytes: "BYTES"}


@dataclass(frozen=True)
class ModelTimes:
    """When the entries of a model's directory have changed last, in nanoseconds."""

    entries: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, directory: Path) -> ModelTimes:
        """Times of everything in a directory, and under "" that of the directory itself."""
        times = {entry.name: _newest(entry) for entry in directory.iterdir()}
        return cls({**times, "": directory.stat().st_mtime_ns})

    def configured_now(self) -> ModelTimes:
        """The same, after the configuration has been replaced by another."""
        if model_config.CONFIG_FILENAME not in self.entries:
            return self
        return ModelTimes({**self.entries, model_config.CONFIG_FILENAME: time.time_ns()})

    def newest(self) -> int:
        """When anything has changed last."""
        return max(self.entries.values(), default=0)

    def of_version(self, version: int) -> int:
        """When anything has changed last that concerns a version, but for the configuration."""
        shared = [
            changed
            for name, changed in self.entries.items()
            if name.strip("0123456789") and name != model_config.CONFIG_FILENAME
        ]
        return max(self.entries.get(str(version), 0), *shared, 0)


@dataclass(frozen=True, eq=False)
class ModelSource:
    """What a model is loaded from."""

    directory: Path
    config: Any
    times: ModelTimes


def read(
    directory: Path,
    parameters: LoadParameters,
    known: ModelTimes | None,
    *,
    name: str = "",
    strict: bool,
) -> ModelSource | None:
    """A model as it is on disk, or with another configuration; None if it is no newer than known.

    With a ``name`` it is called so, whatever its directory is. Raises ConfigError, or OSError.
    """
    times = ModelTimes.of(directory)
    override = _override(parameters)
    if override is not None:
        times = times.configured_now()
    elif known is not None and times.newest() <= known.newest():
        return None
    config = model_config.poll(directory, strict=strict, override=override, name=name)
    return ModelSource(directory, config, times)


def overrides_files(parameters: LoadParameters) -> bool:
    """True if a model is to be loaded from files that come with the request."""
    return any(name.startswith(_FILE) for name in parameters)


def written(name: str, parameters: LoadParameters, *, strict: bool) -> ModelSource:
    """A model from files that come with the request, in a directory that goes with the source.

    Raises ConfigError, or OSError.
    """
    override = parameters.get("config")
    if not isinstance(override, str):
        raise ConfigError("Load parameter 'config' must be specified for model file override")
    root = Path(tempfile.mkdtemp(prefix="triton-stub-")).resolve()
    try:
        directory = root / name
        directory.mkdir()
        for key, content in parameters.items():
            if key.startswith(_FILE):
                _write(directory, key, content)
        config = model_config.poll(directory, strict=strict, override=override)
        # As on the server, for whoever looks.
        text = str(model_config.from_json(override))
        (directory / model_config.CONFIG_FILENAME).write_text(text)
        source = ModelSource(directory, config, ModelTimes())
    except BaseException:
        _remove(root)
        raise
    weakref.finalize(source, _remove, root)
    return source


def _override(parameters: LoadParameters) -> str | None:
    """The configuration that comes with the request, as JSON; None if none does."""
    for name, value in parameters.items():
        if type(value) not in _TYPES:
            raise TypeError(
                f"load parameter '{name}': expected a str, such as json.dumps(config), bytes, an "
                f"int or a bool; got {value!r}"
            )
        if name == "config" and isinstance(value, str):
            return value
        if not name.startswith(_FILE):
            raise ConfigError(
                f"Unrecognized load parameter '{name}' with type '{_TYPES[type(value)]}'"
            )
    return None


def _write(directory: Path, key: str, content: object) -> None:
    # A path that begins with a slash is meant to be below the directory, too.
    relative = os.path.normpath(key.removeprefix(_FILE).lstrip("/"))
    path = Path(os.path.normpath(directory / relative))
    if relative.split("/")[0] == "..":  # also if it comes back
        raise ConfigError(
            f"Invalid file parameter '{key}' with normalized path '{path}' must stay within model "
            "directory."
        )
    if not isinstance(content, bytes):
        raise ConfigError(f"File parameter '{key}' must have bytes type for its value")
    if path.parent.is_file():
        raise ConfigError(f"Invalid file parameter '{key}', directory has been created as a file")
    # One by one: pathlib is lost in very deep ones.
    for parent in reversed(path.relative_to(directory).parents):
        (directory / parent).mkdir(exist_ok=True)
    path.write_bytes(content)


def _remove(root: Path) -> None:
    """Remove a directory, as far as it can be; ``shutil.rmtree`` is lost in very deep ones."""
    with contextlib.suppress(OSError):
        directories = [root]
        for directory in directories:
            for path in directory.iterdir():
                if path.is_dir() and not path.is_symlink():
                    directories.append(path)
                else:
                    path.unlink()
        for directory in reversed(directories):
            directory.rmdir()


def _newest(path: Path) -> int:
    """When a file, or anything in a directory, has changed last; 0 for what cannot be read."""
    try:
        changed = path.stat().st_mtime_ns
        if path.is_dir():
            changed = max(changed, *map(_newest, path.iterdir()), 0)
    except OSError:
        return 0
    return changed
