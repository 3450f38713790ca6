"""Which backend runs a model: the Python backend, or one that is itself written in Python.

Source: core ``src/backend_model.cc``, ``TritonModel::GetBackendLibraryProperties``.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from triton_stub.errors import LoadError, StatusCode, UnsupportedFeatureError

if TYPE_CHECKING:
    from triton_stub.core.host import ServerHost

_PYTHON = "python"
_MODEL_FILENAME = "model.py"
_ENVIRONMENT = f"pb_exec_env_{_MODEL_FILENAME}.tar.gz"
# Where the server's own backends are, unless --backend-directory says otherwise.
_DIRECTORY = Path("/opt/tritonserver/backends")
_ELF = b"\x7fELF"


def find_code(config: Any, directory: Path, version: int, server: ServerHost) -> Path | None:
    """The ``model.py`` of a backend that is written in Python; None if the model has its own.

    Notes in ``config`` what runs the model. LoadError, in the server's words, if nothing does.
    """
    backends = server.backend_directory or _DIRECTORY
    places = [directory / str(version), directory, backends / config.backend]
    name = config.runtime or _found(config, places)
    if name != _MODEL_FILENAME:
        _check_library(config, places, name)
        return None
    code: Path = backends / config.backend / _MODEL_FILENAME
    if config.runtime and not os.path.isfile(code):  # noqa: PTH113
        raise LoadError(
            f"unable to find Python backend based backend library '{name}' for model "
            f"'{config.name}', searched: '{code}'",
            StatusCode.INVALID_ARG,
        )
    config.runtime = name
    environment = code.parent / _ENVIRONMENT
    if "EXECUTION_ENV_PATH" not in config.parameters and environment.exists():
        config.parameters["EXECUTION_ENV_PATH"].string_value = str(environment)
    return code


def _found(config: Any, places: list[Path]) -> str:
    """What runs a backend, as its files tell."""
    name = _library(config.backend)
    if config.backend == _PYTHON or any(_exists(place / name) for place in places):
        return name
    if _exists(places[-1] / _MODEL_FILENAME):
        return _MODEL_FILENAME
    error = LoadError(
        f"unable to find backend library for backend '{config.backend}', try specifying runtime on "
        "the model configuration.",
        StatusCode.INVALID_ARG,
    )
    error.add_note(
        "triton_stub runs the Python backend, and backends that are written in Python: "
        f"{places[-1] / _MODEL_FILENAME}, below backend_directory. Test models of other backends "
        "with --triton-engine=native."
    )
    raise error


def _check_library(config: Any, places: list[Path], name: str) -> None:
    """The library must be the Python backend's: LoadError."""
    if config.backend == _PYTHON and Path(name).name == _library(_PYTHON):
        return
    paths = [place / name for place in places]
    path = next((path for path in paths if _exists(path)), None)
    if path is None:
        searched = "".join(f"'{place}' " for place in places)
        raise LoadError(
            f"unable to find backend library '{name}' for model '{config.name}', searched: "
            f"{searched}",
            StatusCode.INVALID_ARG,
        )
    if path.read_bytes()[: len(_ELF)] != _ELF:
        raise LoadError(
            f"unable to load shared library: {path}: invalid ELF header", StatusCode.NOT_FOUND
        )
    raise UnsupportedFeatureError(
        f"model '{config.name}' asks for backend \"{config.backend}\", which is a library, {path}, "
        "and triton_stub runs Python alone: test this model with --triton-engine=native"
    )


def _exists(path: Path) -> bool:
    # A client may ask for what is too long for a name: ``Path.exists`` raises there.
    return os.path.exists(path)  # noqa: PTH110


def _library(backend: str) -> str:
    return f"libtriton_{backend}.so"
