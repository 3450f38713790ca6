"""Model repositories on disk, and the models that are loaded from them.

Sources: core ``src/model_repository_manager/model_repository_manager.cc`` (MRM) and
``model_lifecycle.cc`` (MLC).
"""

from __future__ import annotations

import stat
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from triton_stub import config as model_config
from triton_stub.core.model import ServedModel
from triton_stub.errors import InferenceError, LoadError, ServerError, StatusCode
from triton_stub.pb_utils.logger import LogLevel

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from triton_stub.core.host import ServerHost

NOT_A_VERSION = frozenset({"warmup", "initial_state", "configs"})
NEWEST = -1
_UNLOADED = "unloaded"


@dataclass(frozen=True, slots=True)
class ModelState:
    """One row of the index: a version of a model, or a model of which no version was tried."""

    name: str
    version: str = ""
    state: str = "UNAVAILABLE"
    reason: str = ""


class Repository:
    """Finds models under one or more directories; loads, unloads and looks them up."""

    def __init__(self, paths: Iterable[Path], server: ServerHost) -> None:
        self.paths = [Path(path).resolve() for path in paths]
        self._server = server
        self._log = server.log
        server.models = self
        self._changing = threading.RLock()  # held while a model is loaded or unloaded
        self._lock = threading.Lock()  # guards the next line, never for long
        # Each version that was ever tried: the model, or why it does not serve.
        self._models: dict[str, dict[int, ServedModel | str]] = {}
        for path in self.paths:
            if not path.is_dir():
                raise LoadError(
                    f"model repository {path} is not a directory. Expected a directory with one "
                    "sub-directory for each model; check the path.",
                    StatusCode.INVALID_ARG,
                )

    def model_names(self) -> list[str]:
        """Names of all models on disk, loaded or not, in alphabetical order."""
        return sorted(self._names_on_disk())

    def load(self, name: str, config: str = "", files: Mapping[str, bytes] | None = None) -> None:
        """Load, or load again, every version that the model's policy names.

        All or nothing: LoadError with the reasons of all versions that failed, and what served
        before still serves (MLC 764-848).
        """
        with self._changing:
            try:
                directory = self._directory(name)
                settings = model_config.load(directory)
                versions = self._wanted_versions(directory, settings)
            except OSError as error:
                raise LoadError(f"cannot read model '{name}': {error}") from error
            tried = self._try(directory, versions, settings)
            errors = {v: error for v, error in tried.items() if isinstance(error, LoadError)}
            if errors:
                self._keep_old(name, tried)
                failure = LoadError(_failure(name, errors), StatusCode.INVALID_ARG)
                for version in errors:
                    file = directory / str(version) / settings.default_model_filename
                    failure.add_note(f"version {version}: {file}")
                raise failure from next(iter(errors.values()))
            self._replace(name, {v: m for v, m in tried.items() if isinstance(m, ServedModel)})
            self._log.note(LogLevel.INFO, f"successfully loaded '{name}'")

    def unload(self, name: str) -> None:
        """Unload a model; nothing happens if it is not loaded."""
        with self._changing:
            self._replace(name, {})

    def unload_all(self, timeout: float) -> None:
        """Unload every model, within so many seconds, and forget all of them."""
        with self._changing:
            with self._lock:
                models = [model for name in self._models for model in self._ready(name)]
                self._models.clear()
            self._unload(models, timeout)

    def find(self, name: str, version: int = NEWEST) -> ServedModel:
        """A ready version of a model, the newest if none is asked for (MLC 341-387)."""
        with self._lock:
            if name not in self._models:
                raise _unknown(f"'{name}' is not found")
            if version == NEWEST:
                ready = self._ready(name)
                if not ready:
                    raise _unknown(f"'{name}' has no available versions")
                return ready[-1]
            model = self._models[name].get(version)
        if isinstance(model, ServedModel):
            return model
        if model is None:
            raise _unknown(f"'{name}' version {version} is not found")
        raise _unknown(f"'{name}' version {version} is not at ready state", StatusCode.UNAVAILABLE)

    def is_ready(self, name: str, version: str) -> bool:
        """True if a model, or the version of it, takes requests; an empty version means any."""
        try:
            self.find(name, int(version) if version else NEWEST)
        except InferenceError:
            return False
        return True

    def ready(self, name: str) -> list[ServedModel]:
        """Versions of a model that serve, in ascending order; empty if there is none."""
        with self._lock:
            return self._ready(name)

    def loaded_names(self) -> list[str]:
        """Names of the models that serve, in alphabetical order."""
        with self._lock:
            return sorted(name for name in self._models if self._ready(name))

    def all_ready(self) -> bool:
        """True if every version that was tried serves, or was unloaded on request.

        As the server judges: a model whose configuration cannot be read was never tried.
        """
        with self._lock:
            return all(
                versions
                and all(
                    isinstance(model, ServedModel) or model == _UNLOADED
                    for model in versions.values()
                )
                for versions in self._models.values()
            )

    def index(self) -> list[ModelState]:
        """Every model on disk and its state."""
        found = self._names_on_disk()
        states: list[ModelState] = []
        with self._lock:
            for name, times in sorted(found.items()):
                if name in self._models:
                    versions = sorted(self._models[name].items())
                    states += [_state(name, *version) for version in versions]
                else:
                    reason = "model appears in two or more repositories" if times > 1 else ""
                    states.append(ModelState(name, reason=reason))
        return states

    def _ready(self, name: str) -> list[ServedModel]:
        versions = sorted(self._models.get(name, {}).items())
        return [model for _, model in versions if isinstance(model, ServedModel)]

    def _names_on_disk(self) -> Counter[str]:
        try:
            return Counter(folder.name for path in self.paths for folder in _folders(path))
        except OSError as error:
            raise LoadError(
                f"cannot read a model repository: {error}. Remove it, or make it readable; the "
                "server serves nothing of such a repository."
            ) from error

    def _directory(self, name: str) -> Path:
        found = [folder for path in self.paths for folder in _folders(path) if folder.name == name]
        if not found:
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
        present = self._present_versions(directory)
        policy = config.version_policy
        choice = policy.WhichOneof("policy_choice")
        wanted = present
        if choice == "specific":
            wanted = [version for version in present if version in policy.specific.versions]
            for version in policy.specific.versions:
                if version not in present:
                    self._log.note(
                        LogLevel.ERROR,
                        f"version {version} is specified for model '{config.name}', but the "
                        "version directory is not present",
                    )
        elif choice == "latest":
            count = policy.latest.num_versions
            wanted = present[-count:] if count else []
        if not wanted:
            with self._lock:
                self._models.setdefault(config.name, {})
            raise LoadError(
                "at least one version must be available under the version policy of model "
                f"'{config.name}'. Expected {directory}/1/{config.default_model_filename}, or "
                "another directory named by a number (every directory of a repository is a "
                f"model); there are: {', '.join(map(str, present)) or 'none'}.",
                StatusCode.INVALID_ARG,
            )
        return wanted

    def _present_versions(self, directory: Path) -> list[int]:
        present: list[int] = []
        for folder in _folders(directory):
            name = folder.name
            if name in NOT_A_VERSION:
                continue
            if len(name) > 1 and name.startswith("0"):
                problem = "contains leading zeros in its directory name"
            elif not (name.isascii() and name.isdecimal()):
                problem = "fails to convert to integral number"
            else:
                present.append(int(name))
                continue
            self._log.note(LogLevel.WARNING, f"ignore version directory '{name}' which {problem}")
        return sorted(present)

    def _try(
        self, directory: Path, versions: Sequence[int], config: Any
    ) -> dict[int, ServedModel | LoadError]:
        """Load versions; a version that fails does not keep the others from being tried."""
        name = config.name
        tried: dict[int, ServedModel | LoadError] = {}
        try:
            for version in versions:
                self._log.note(LogLevel.INFO, f"loading: {name}:{version}")
                model = ServedModel(directory, version, config, self._server)
                try:
                    model.load()
                    tried[version] = model
                except LoadError as error:
                    tried[version] = error
                    self._log.note(
                        LogLevel.ERROR,
                        f"failed to load '{name}' version {version}: {_reason(error)}",
                    )
        except BaseException:
            self._unload(model for model in tried.values() if isinstance(model, ServedModel))
            raise
        return tried

    def _keep_old(self, name: str, tried: Mapping[int, ServedModel | LoadError]) -> None:
        """One version failed: unload the others, and note what became of each."""
        with self._lock:
            versions = self._models.setdefault(name, {})
            for version, outcome in tried.items():
                if not isinstance(versions.get(version), ServedModel):
                    versions[version] = (
                        _reason(outcome) if isinstance(outcome, LoadError) else _UNLOADED
                    )
        self._unload(model for model in tried.values() if isinstance(model, ServedModel))

    def _replace(self, name: str, models: Mapping[int, ServedModel]) -> None:
        """Let ``models`` serve, then unload those that served before."""
        with self._lock:
            old = self._ready(name)
            if old or models:
                self._models.setdefault(name, {}).update(
                    {model.version: _UNLOADED for model in old} | dict(models)
                )
        self._unload(old)

    def _unload(self, models: Iterable[ServedModel], timeout: float = 30.0) -> None:
        models = list(models)
        for model in models:
            model.close()  # all at once, so that they finish side by side
        deadline = time.monotonic() + timeout
        for model in models:
            if model.unload(max(0.0, deadline - time.monotonic())):
                self._log.note(
                    LogLevel.INFO,
                    f"successfully unloaded '{model.name}' version {model.version}",
                )


def _folders(path: Path) -> list[Path]:
    """Directories in a directory; OSError if one entry is a link to nowhere, as on the server."""
    return sorted(entry for entry in path.iterdir() if stat.S_ISDIR(entry.stat().st_mode))


def _state(name: str, version: int, model: ServedModel | str) -> ModelState:
    if isinstance(model, ServedModel):
        return ModelState(name, str(version), "READY")
    return ModelState(name, str(version), reason=model)


def _reason(error: LoadError) -> str:
    return f"{error.code.label}: {error.message}"


def _failure(name: str, errors: Mapping[int, LoadError]) -> str:
    reasons = "".join(
        f"version {version} is at UNAVAILABLE state: {_reason(error)};"
        for version, error in errors.items()
    )
    return f"load failed for model '{name}': {reasons}\n"


def _unknown(message: str, code: StatusCode = StatusCode.NOT_FOUND) -> InferenceError:
    return InferenceError(f"Request for unknown model: {message}", code)


def describe_failures(errors: Mapping[str, ServerError]) -> str:
    """One text for all models that failed to load, a paragraph each."""
    return "\n".join(f"model '{name}': {error.message.rstrip()}" for name, error in errors.items())
