"""A model's configuration as it is written down: ``config.pbtxt``, or JSON."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from triton_stub.config.checks import check_labels, check_polled, check_tensors, validate
from triton_stub.config.defaults import find_backend, normalize
from triton_stub.config.fields import fill
from triton_stub.config.schema import schema
from triton_stub.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

CONFIG_FILENAME = "config.pbtxt"


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


def from_json(text: str) -> Any:
    """Read JSON, such as ``to_json`` prints, into a ``ModelConfig`` message, without defaults.

    ConfigError, with the path of the field, for what the server's own reader refuses.
    """
    message = schema().ModelConfig()
    try:
        value = json.loads(text)
        # Half of a surrogate pair, as bytes that are no UTF-8 are, too, is no text.
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"expected a model configuration as JSON; {error}") from None
    fill(message, value)
    return message


def poll(
    model_directory: Path, *, strict: bool = False, override: str | None = None, name: str = ""
) -> Any:
    """A model's configuration as the server has it before it tries to load the model.

    That is ``config.pbtxt``, which may be missing unless ``strict``, or the JSON ``override``;
    with defaults, and checked as far as the server checks when it polls a repository. ``strict``
    is the server's ``--disable-auto-complete-config``; with a ``name`` the model is called so, and
    not like its directory. ConfigError, with the path of the file.
    """
    path = model_directory / CONFIG_FILENAME
    message: Any = _read(path, may_be_missing=not strict) if override is None else None
    try:
        if override is not None:
            message = from_json(override)
        find_backend(message, model_directory)
        normalize(message, name or model_directory.name)
        check_polled(message)
        if strict:
            check_tensors(message)
        if name:
            message.name = name
        _check_name(message, name or model_directory.name)
    except ConfigError as error:
        where = str(path) if override is None else "Invalid config override"
        raise ConfigError(f"{where}: {error.message}", error.code) from None
    return message


def load(model_directory: Path, *, file_name: str = CONFIG_FILENAME) -> Any:
    """The configuration of a model that does not complete it itself, with defaults and checked.

    For who does not run the model. Raises ConfigError with the path of the file.
    """
    path = model_directory / file_name
    message = _read(path, may_be_missing=True)
    try:
        normalize(message, model_directory.name)
        validate(message)
        check_labels(message, model_directory)
        _check_name(message, model_directory.name)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error.message}", error.code) from None
    return message


def _read(path: Path, *, may_be_missing: bool) -> Any:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        if may_be_missing:
            # The server then asks the model's auto_complete_config; without any, no inputs.
            return schema().ModelConfig()
        raise ConfigError(
            f"failed to open text file for read {path}: No such file or directory. It may be "
            "missing only where models complete their configuration."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from None
    return parse(text, source=str(path))


def _check_name(message: Any, name: str) -> None:
    # Last of all checks, as on the server.
    if message.name != name:
        raise ConfigError(
            f"unexpected directory name '{name}' for model '{message.name}', directory name must "
            "equal model name"
        )


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
