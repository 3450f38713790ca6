"""Model repositories on disk, and the models that are loaded from them.

Sources: core ``src/model_repository_manager/model_repository_manager.cc`` (MRM) and
``model_lifecycle.cc`` (MLC).
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from triton_stub import config as model_config
from triton_stub.core.model import ServedModel
from triton_stub.errors import InferenceError, LoadError, ServerError, StatusCode
from triton_stub.pb_utils.logger import LogLevel

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from triton_stub.core.log import Log

NOT_A_VERSION = frozenset({"warmup", "initial_state", "configs"})
NEWEST = -1


@dataclass(slots=True)
class _Entry:
    """What is known of one model: its versions, ready or failed."""

    ready: dict[int, ServedModel] = field(default_factory=dict)
    failed: dict[int, LoadError] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ModelState:
    """One row of the index: a version of a model, or a model of which no version was tried."""

    name: str
    version: str
    state: str
    reason: str = ""


class Repository:
    """Finds models under one or more directories; loads, unloads and looks them up."""

    def __init__(self, paths: Iterable[Path], log: Log) -> None:
        self.paths = [Path(path).resolve() for path in paths]
        self._log = log
        self._lock = threading.RLock()
        self._entries: dict[str, _Entry] = {}
        for path in self.paths:
            if not path.is_dir():
                raise LoadError(
                    f"model repository {path} is not a directory. Expected a directory with one "
                    "sub-directory for each model; check the path.",
                    StatusCode.INVALID_ARG,
                )

    def model_names(self) -> list[str]:
        """Names of all models on disk, loaded or not, in alphabetical order."""
        return sorted({folder.name for path in self.paths for folder in _folders(path)})

    def load(self, name: str) -> None:
        """Load, or load again, every version that the model's policy names.

        Raises LoadError with all versions' reasons; versions that loaded before stay as they
        were if the model's files cannot be read, and are replaced otherwise.
        """
        directory = self._directory(name)
        config = model_config.load(directory)
        versions = self._wanted_versions(directory, config)
        entry = _Entry()
        for version in versions:
            model = ServedModel(directory, version, config, self._log)
            try:
                model.load()
            except LoadError as error:
                entry.failed[version] = error
                self._log.write(
                    LogLevel.ERROR,
                    f"failed to load '{name}' version {version}: {error.message}",
                    __file__,
                    0,
                )
            else:
                entry.ready[version] = model
        with self._lock:
            replaced = self._entries.get(name, _Entry())
            if entry.failed and replaced.ready:
                # A failed reload leaves the old versions serving.
                replaced, entry = entry, replaced
                failed = replaced.failed
            else:
                failed = entry.failed
            self._entries[name] = entry
        for model in replaced.ready.values():
            model.unload()
        if failed:
            reasons = "".join(
                f"version {version} is at UNAVAILABLE state: {error.code.label}: {error.message};\n"
                for version, error in failed.items()
            )
            raise LoadError(
                f"load failed for model '{name}': {reasons}", StatusCode.INVALID_ARG
            ) from next(iter(failed.values()))

    def unload(self, name: str) -> None:
        """Unload a model; nothing happens if it is not loaded."""
        with self._lock:
            entry = self._entries.pop(name, _Entry())
        for model in entry.ready.values():
            model.unload()

    def unload_all(self) -> None:
        """Unload every model."""
        for name in list(self._entries):
            self.unload(name)

    def find(self, name: str, version: int = NEWEST) -> ServedModel:
        """A ready version of a model, the newest if none is asked for (MLC 341-387)."""
        with self._lock:
            entry = self._entries.get(name)
            if entry is None:
                raise _unknown(f"'{name}' is not found")
            if version == NEWEST:
                if not entry.ready:
                    raise _unknown(f"'{name}' has no available versions")
                return entry.ready[max(entry.ready)]
            if version in entry.ready:
                return entry.ready[version]
            if version in entry.failed:
                raise _unknown(
                    f"'{name}' version {version} is not at ready state", StatusCode.UNAVAILABLE
                )
            raise _unknown(f"'{name}' version {version} is not found")

    def ready_versions(self, name: str) -> list[int]:
        """Versions of a model that serve, in ascending order; empty if there is none."""
        with self._lock:
            return sorted(self._entries.get(name, _Entry()).ready)

    def index(self) -> list[ModelState]:
        """Every model on disk and its state."""
        with self._lock:
            states: list[ModelState] = []
            for name in self.model_names():
                entry = self._entries.get(name, _Entry())
                rows = [ModelState(name, str(v), "READY") for v in entry.ready] + [
                    ModelState(name, str(v), "UNAVAILABLE", f"{e.code.label}: {e.message}")
                    for v, e in entry.failed.items()
                ]
                states += rows or [ModelState(name, "", "UNAVAILABLE")]
            return states

    def _directory(self, name: str) -> Path:
        found = [path / name for path in self.paths if (path / name).is_dir()]
        if not found or Path(name).name != name:
            raise LoadError(
                f"failed to load '{name}', failed to poll from model repository. Expected a "
                f"directory of that name in {', '.join(map(str, self.paths))}; there are: "
                f"{', '.join(self.model_names()) or 'none'}.",
            )
        if len(found) > 1:
            raise LoadError(
                f"model '{name}' is in more than one repository: {', '.join(map(str, found))}. "
                "Names must be unique; rename or remove one.",
                StatusCode.INVALID_ARG,
            )
        return found[0]

    def _wanted_versions(self, directory: Path, config: Any) -> list[int]:
        """Versions that the policy names and that are there (MLC 84-143, 453-458)."""
        present: list[int] = []
        for folder in _folders(directory):
            if folder.name in NOT_A_VERSION:
                continue
            if folder.name.isdecimal() and (folder.name == "0" or folder.name[0] != "0"):
                present.append(int(folder.name))
            else:
                self._log.write(
                    LogLevel.WARNING,
                    f"ignore version directory '{folder.name}' which fails to convert to "
                    "integral number",
                    __file__,
                    0,
                )
        wanted = _select(sorted(present), config.version_policy)
        if not wanted:
            raise LoadError(
                "at least one version must be available under the version policy of model "
                f"'{config.name}'. Expected {directory}/1/{config.default_model_filename}, or "
                "another directory named by a number; there are: "
                f"{', '.join(map(str, sorted(present))) or 'none'}.",
                StatusCode.INVALID_ARG,
            )
        return wanted


def _select(present: Sequence[int], policy: Any) -> list[int]:
    choice = policy.WhichOneof("policy_choice")
    if choice == "all":
        return list(present)
    if choice == "specific":
        return [version for version in present if version in policy.specific.versions]
    return list(present[-(policy.latest.num_versions or 1) :])


def _folders(path: Path) -> list[Path]:
    return sorted(
        folder for folder in path.iterdir() if folder.is_dir() and not folder.name.startswith(".")
    )


def _unknown(message: str, code: StatusCode = StatusCode.NOT_FOUND) -> InferenceError:
    return InferenceError(f"Request for unknown model: {message}", code)


def describe_failures(errors: dict[str, ServerError]) -> str:
    """One text for all models that failed to load, a paragraph each."""
    return "\n".join(f"model '{name}': {error.message.rstrip()}" for name, error in errors.items())
