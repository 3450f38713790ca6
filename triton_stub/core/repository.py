"""Model repositories on disk, and the models that are loaded from them.

Sources: core ``src/model_repository_manager/model_repository_manager.cc`` (MRM) and
``model_lifecycle.cc`` (MLC).
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from triton_stub import config as model_config
from triton_stub.core import source as model_source
from triton_stub.core.changes import Changes
from triton_stub.core.factory import create_model
from triton_stub.core.model import ServedModel
from triton_stub.core.versions import folders, wanted_versions
from triton_stub.errors import ConfigError, InferenceError, LoadError, ServerError, StatusCode
from triton_stub.pb_utils.logger import LogLevel

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from triton_stub.core.host import ServerHost
    from triton_stub.core.source import LoadParameters, ModelSource

NEWEST = -1
_UNLOADED = "unloaded"
_FOR_EVER = 1e6


@dataclass(frozen=True, slots=True)
class ModelState:
    """One row of the index: a version of a model, or a model of which no version was tried."""

    name: str
    version: str = ""
    state: str = "UNAVAILABLE"
    reason: str = ""

    @property
    def fine(self) -> bool:
        """True if the version serves, or was unloaded on request."""
        return self.state == "READY" or self.reason == _UNLOADED


class Repository:
    """Finds models under one or more directories; loads, unloads and looks them up."""

    def __init__(self, paths: Iterable[Path], server: ServerHost) -> None:
        self.paths = [Path(path).resolve() for path in paths]
        self._server = server
        self._log = server.log
        server.models = self
        self._changes = Changes()
        self._lock = threading.Lock()  # guards what follows, never for long
        # Each version that was ever tried: the model, or why it does not serve.
        self._models: dict[str, dict[int, ServedModel | str]] = {}
        # What each model that serves was loaded from last.
        self._sources: dict[str, ModelSource] = {}
        # Models that are no longer found, but still at work, or in finalize.
        self._leaving: set[ServedModel] = set()
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

    def open(self) -> None:
        """Models may be loaded (again)."""
        self._changes.open()

    def load(
        self,
        name: str,
        parameters: LoadParameters | None = None,
        *,
        loading: str | None = None,
        wait: bool = True,
    ) -> None:
        """Load every version that the model's policy names, unless nothing has changed on disk.

        ``parameters`` give another configuration (``"config"``, JSON) or other files
        (``"file:1/model.py"``). ``loading`` is the model whose ``initialize`` asks for it.
        Unless ``wait``, what served before may still be at work when this returns.

        All or nothing: LoadError with the reasons of all versions that failed, and what served
        before still serves (MLC 764-848).
        """
        _check_name(name)
        with self._changes.of(name, loading=loading):
            known = self._sources.get(name)
            try:
                source = self._source(name, parameters or {}, known)
                if source is known:
                    return
                versions = self._versions(source)
            except OSError as error:
                raise LoadError(
                    f"cannot read model '{name}': {error}", told=_not_polled(name)
                ) from error
            unchanged = {
                model.version: model
                for model in self.ready(name)
                if known is not None and source.same_for(model.version, known)
            }
            tried = self._try(source, versions, unchanged)
            errors = {v: error for v, error in tried.items() if isinstance(error, LoadError)}
            if errors:
                self._keep_old(name, tried)
                raise _failure(source, errors) from next(iter(errors.values()))
            with self._lock:
                self._sources[name] = source
            self._replace(
                name, {v: m for v, m in tried.items() if isinstance(m, ServedModel)}, wait=wait
            )
            self._log.note(LogLevel.INFO, f"successfully loaded '{name}'")

    def unload(self, name: str, *, loading: str | None = None, wait: bool = True) -> None:
        """Unload a model; nothing happens if it is not loaded.

        Unless ``wait``, it may still be at work when this returns, as on the server.
        """
        with self._changes.of(name, loading=loading):
            with self._lock:
                self._sources.pop(name, None)
            self._replace(name, {}, wait=wait)

    def unload_all(self, timeout: float) -> None:
        """Unload every model, and forget all of them.

        ``timeout`` is how many seconds to wait for what is being loaded, and then for the models.
        """
        self._changes.close(timeout)
        with self._lock:
            models = {model for name in self._models for model in self._ready(name)}
            models |= self._leaving
            self._models.clear()
            self._sources.clear()
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

    def is_ready(self, name: str, version: int) -> bool:
        """True if a model, or the version of it, takes requests; -1 means any version."""
        try:
            return self.find(name, version).ready()
        except InferenceError:
            return False

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
            loaded = all(
                versions
                and all(
                    self._state(name, version, model).fine for version, model in versions.items()
                )
                for name, versions in self._models.items()
            )
            serving = [model for name in self._models for model in self._ready(name)]
        return loaded and all(model.ready() for model in serving)

    def index(self) -> list[ModelState]:
        """Every model on disk and its state."""
        found = self._names_on_disk()
        states: list[ModelState] = []
        with self._lock:
            for name, times in sorted(found.items()):
                if name in self._models:
                    versions = sorted(self._models[name].items())
                    states += [self._state(name, *version) for version in versions]
                else:
                    reason = "model appears in two or more repositories" if times > 1 else ""
                    states.append(ModelState(name, reason=reason))
        return states

    def _ready(self, name: str) -> list[ServedModel]:
        versions = sorted(self._models.get(name, {}).items())
        return [model for _, model in versions if isinstance(model, ServedModel)]

    def _state(self, name: str, version: int, model: ServedModel | str) -> ModelState:
        if isinstance(model, ServedModel):
            return ModelState(name, str(version), "READY")
        if any((left.name, left.version) == (name, version) for left in self._leaving):
            return ModelState(name, str(version), "UNLOADING")
        return ModelState(name, str(version), reason=model)

    def _names_on_disk(self) -> Counter[str]:
        try:
            return Counter(folder.name for path in self.paths for folder in folders(path))
        except OSError as error:
            raise LoadError(
                f"cannot read a model repository: {error}. Remove it, or make it readable; the "
                "server serves nothing of such a repository."
            ) from error

    def _source(
        self, name: str, parameters: LoadParameters, known: ModelSource | None
    ) -> ModelSource:
        """What to load a model from; ``known`` if that has not changed."""
        strict = self._server.strict_model_config
        try:
            if model_source.overrides_files(parameters):
                return model_source.written(name, parameters, strict=strict)
            return model_source.read(self._directory(name), parameters, known, strict=strict)
        except ConfigError as error:
            error.told = _not_polled(name)
            raise

    def _directory(self, name: str) -> Path:
        found = [folder for path in self.paths for folder in folders(path) if folder.name == name]
        if not found:
            raise LoadError(
                f"failed to load '{name}', failed to poll from model repository. Expected a "
                f"directory of that name in {', '.join(map(str, self.paths))}; there are: "
                f"{', '.join(self.model_names()) or 'none'}.",
                told=_not_polled(name),
            )
        if len(found) > 1:
            raise LoadError(
                f"model '{name}' is in more than one repository: {', '.join(map(str, found))}. "
                "Names must be unique; rename or remove one.",
                StatusCode.INVALID_ARG,
                told=_not_polled(name),
            )
        return found[0]

    def _versions(self, source: ModelSource) -> list[int]:
        """Versions to load; a model that has none is known, as on the server."""
        try:
            return wanted_versions(source.directory, source.config, self._log)
        except LoadError:
            with self._lock:
                self._models.setdefault(source.config.name, {})
            raise

    def _try(
        self, source: ModelSource, versions: Sequence[int], unchanged: Mapping[int, ServedModel]
    ) -> dict[int, ServedModel | LoadError]:
        """Load versions; a version that fails does not keep the others from being tried.

        What is ``unchanged`` goes on as it is.
        """
        directory, config = source.directory, source.config
        name = config.name
        tried: dict[int, ServedModel | LoadError] = {}
        try:
            for version in versions:
                self._log.note(LogLevel.INFO, f"loading: {name}:{version}")
                if version in unchanged:
                    tried[version] = unchanged[version]
                    continue
                try:
                    model = create_model(directory, version, config, self._server)
                    model.source = source
                    model.load()
                    tried[version] = model
                except LoadError as error:
                    tried[version] = error
                    self._log.note(
                        LogLevel.ERROR,
                        f"failed to load '{name}' version {version}: {_reason(error)}",
                    )
        except BaseException:
            self._unload_new(name, tried)
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
        self._unload_new(name, tried)

    def _unload_new(self, name: str, tried: Mapping[int, ServedModel | LoadError]) -> None:
        serving = self.ready(name)
        self._unload(
            model
            for model in tried.values()
            if isinstance(model, ServedModel) and model not in serving
        )

    def _replace(self, name: str, models: Mapping[int, ServedModel], *, wait: bool) -> None:
        """Let ``models`` serve, then unload the others that served before."""
        with self._lock:
            old = [model for model in self._ready(name) if model not in models.values()]
            self._leaving.update(old)
            if old or models:
                self._models.setdefault(name, {}).update(
                    {model.version: _UNLOADED for model in old} | dict(models)
                )
        if wait:
            self._unload(old)
        elif old:
            for model in old:
                model.close()  # before anybody asks whether it is ready
            threading.Thread(
                target=self._unload, args=(old, _FOR_EVER), name=f"unload {name}", daemon=True
            ).start()

    def _unload(self, models: Iterable[ServedModel], timeout: float | None = None) -> None:
        models = list(models)
        for model in models:
            model.close()  # all at once, so that they finish side by side
        now = time.monotonic()
        for model in models:
            unloaded = model.unload(timeout, since=now)
            with self._lock:
                self._leaving.discard(model)
            if unloaded:
                self._log.note(
                    LogLevel.INFO,
                    f"successfully unloaded '{model.name}' version {model.version}",
                )


def _reason(error: LoadError) -> str:
    return f"{error.code.label}: {error.message}"


def _failure(source: ModelSource, errors: Mapping[int, LoadError]) -> LoadError:
    reasons = "".join(
        f"version {version} is at UNAVAILABLE state: {_reason(error)};"
        for version, error in errors.items()
    )
    name = source.config.name
    failure = LoadError(f"load failed for model '{name}': {reasons}\n", StatusCode.INVALID_ARG)
    for version, error in errors.items():
        file = source.directory / str(version) / source.config.default_model_filename
        if isinstance(error, ConfigError):
            file = source.directory / model_config.CONFIG_FILENAME
        failure.add_note(f"version {version}: {file}")
    return failure


def _check_name(name: str) -> None:
    # Since 26.03; before, such a name is looked for, and hardly found (MRM, ValidateModelName).
    trimmed = name.strip()
    if not trimmed:
        raise LoadError(
            "Model name cannot be empty. Please enter a valid name to deploy.",
            StatusCode.INVALID_ARG,
        )
    if trimmed == ".." or "/" in trimmed:
        raise LoadError(
            f"invalid model name '{name}', model name must not contain path traversal characters",
            StatusCode.INVALID_ARG,
        )


def _not_polled(name: str) -> str:
    return f"failed to load '{name}', failed to poll from model repository"


def _unknown(message: str, code: StatusCode = StatusCode.NOT_FOUND) -> InferenceError:
    return InferenceError(f"Request for unknown model: {message}", code)


def describe_failures(errors: Mapping[str, ServerError]) -> str:
    """One text for all models that failed to load, a paragraph each."""
    return "\n".join(f"model '{name}': {error.message.rstrip()}" for name, error in errors.items())
