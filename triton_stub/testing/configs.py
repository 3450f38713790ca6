"""The configuration that a test means, however it says so."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from triton_stub import config as model_config
from triton_stub.errors import ConfigError

if TYPE_CHECKING:
    from google.protobuf.message import Message

    #: A folder with a config.pbtxt, such a file, what a server prints of it, or the message.
    ConfigLike = str | os.PathLike[str] | Mapping[str, Any] | Message

# Stands for the name that a configuration without a folder need not have.
_UNNAMED = "unnamed"


def read_config(config: ConfigLike) -> Any:
    """A complete and valid ``ModelConfig`` message; the argument is left as it is.

    Raises:
        ConfigError: there is no such file, or a server would refuse what is in it.
    """
    if isinstance(config, str | os.PathLike):
        return _read_path(Path(config))
    from google.protobuf import json_format

    message = model_config.schema().ModelConfig()
    if isinstance(config, Mapping):
        try:
            # A newer server prints fields that this schema may not have.
            json_format.ParseDict(dict(config), message, ignore_unknown_fields=True)
        except json_format.ParseError as error:
            raise ConfigError(
                f"this dict is no model configuration: {error}. Expected what "
                "triton.config(model) returns."
            ) from None
    elif isinstance(config, type(message)):
        message.CopyFrom(config)
    else:
        raise ConfigError(
            f"expected a model configuration, found {config!r} of type {type(config).__name__}. "
            "Pass the path of a model's folder or of its config.pbtxt, the dict that "
            "triton.config(model) returns, or a ModelConfig message."
        )
    return _complete(message, message.name or _UNNAMED)


def _read_path(path: Path) -> Any:
    if path.is_dir() and (path / model_config.CONFIG_FILENAME).is_file():
        return model_config.load(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        found = "a folder without it" if path.is_dir() else "no readable file"
        raise ConfigError(
            f"expected a config.pbtxt, or a model's folder with one; {path.absolute()} is {found}. "
            "A relative path starts at the working directory; "
            "Path(__file__).parent / ... starts at the test file."
        ) from None
    message = model_config.parse(text, source=str(path))
    return _complete(message, message.name or path.absolute().parent.name)


def _complete(message: Any, name: str) -> Any:
    model_config.normalize(message, name)
    model_config.validate(message)
    return message
