"""``load_model``, ``unload_model`` and ``is_model_ready``: models that manage other models.

Source: python_backend ``src/model_loader.cc``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from triton_stub import deviations
from triton_stub.errors import ServerError
from triton_stub.pb_utils import pybind
from triton_stub.pb_utils.casters import BOOL, OBJECT, REFUSED, STR, c_string
from triton_stub.pb_utils.errors import TritonModelException
from triton_stub.pb_utils.host import told

if TYPE_CHECKING:
    from collections.abc import Callable

    from triton_stub.pb_utils.host import Host

# What C's stol takes for a number: the text may go on.
_NUMBER = re.compile(r"[ \t\n\v\f\r]*([+-]?[0-9]+)")
_LARGEST = 2**63 - 1


def model_control(host: Host) -> dict[str, Callable[..., Any]]:
    """The functions of one model instance, by name."""

    @pybind.function("None", model_name=STR, config=(STR, ""), files=(OBJECT, None))
    def load_model(model_name: str, config: str, files: Any) -> None:
        """Load a model, or load it again; returns when it serves.

        ``config`` is another configuration, as JSON; ``files`` are other files, by paths such as
        ``file:1/model.py``, instead of those in the repository.
        """
        contents = _contents(model_name, files)
        with told(host, "Failed to load model: "):
            host.load_model(c_string(model_name), c_string(config), contents)

    @pybind.function("None", model_name=STR, unload_dependents=(BOOL, False))
    def unload_model(model_name: str, unload_dependents: bool) -> None:  # noqa: FBT001
        """Unload a model, if it is there; returns before its ``finalize``."""
        with told(host, "Failed to unload model: "):
            host.unload_model(c_string(model_name), unload_dependents=unload_dependents)

    @pybind.function("bool", model_name=STR, model_version=(STR, ""))
    def is_model_ready(model_name: str, model_version: str) -> bool:
        """True if a model, or the version of it, takes requests."""
        with told(host, "Failed to check model readiness: "):
            return host.is_model_ready(c_string(model_name), _version(model_version))

    functions = (load_model, unload_model, is_model_ready)
    return {function.__name__: function for function in functions}


def _contents(model_name: str, files: Any) -> dict[str, bytes]:
    if files is None:
        return {}
    if not isinstance(files, dict):
        text = (
            f"failed to load model '{model_name}', files should be a dictionary of file paths and "
            "file contents"
        )
        raise TritonModelException(c_string(text))
    contents: dict[str, bytes] = {}
    for path, content in files.items():
        name = STR.load(path)
        if name is REFUSED:
            raise pybind.cast_error(path)
        if not isinstance(content, bytes):
            raise TypeError(
                f"Object of type '{pybind.type_name(type(content))}' is not an instance of 'bytes'"
            )
        contents[c_string(name)] = content
    if len(contents) > 1:
        # All of them are told by the address of the last (src/model_loader.cc, LoadModel).
        raise TritonModelException(
            deviations.SEVERAL_FILES.text(
                f"load_model('{model_name}') has {len(contents)} files",
                "Give it one file, or load the model from a repository.",
            )
        )
    return contents


def _version(text: str) -> int:
    """The number that a text begins with; -1 for the newest."""
    if not text:
        return -1
    found = _NUMBER.match(text)
    problem = "failed to get model version from specified version string "
    if found is None or not -_LARGEST - 1 <= int(found[1]) <= _LARGEST:
        raise ServerError(
            f"{problem}'{text}' (details: stol), version should be an integral value > 0"
        )
    if int(found[1]) < 0:
        raise ServerError(f"{problem}'{text}', version should be an integral value > 0")
    return int(found[1])
