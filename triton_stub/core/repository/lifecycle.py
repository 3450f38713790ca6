"""The versions of models that are served, and those that were tried in vain.

Source: core ``src/model_repository_manager/model_lifecycle.cc`` (MLC).
"""

from __future__ import annotations

import copy
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from triton_stub import config as model_config
from triton_stub.core.backend_model import BackendModel
from triton_stub.core.model import ServedModel
from triton_stub.core.repository.factory import create_model
from triton_stub.core.repository.versions import wanted_versions
from triton_stub.errors import ConfigError, InferenceError, LoadError, StatusCode
from triton_stub.pb_utils.logger import LogLevel

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from triton_stub.core.host import ServerHost
    from triton_stub.core.repository.source import ModelSource, ModelTimes

NEWEST = -1
_FOR_EVER = 1e6


@dataclass(frozen=True, slots=True)
class Absence:
    """Why a version does not serve."""

    reason: str = ""
    state: str = "UNAVAILABLE"


_UNLOADED = Absence("unloaded")
_LOADING = Absence(state="LOADING")


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
        return self.state == "READY" or self.reason == _UNLOADED.reason


class Lifecycle:
    """Loads and unloads versions of models, and looks them up; one change of a model at a time."""

    def __init__(self, server: ServerHost) -> None:
        self._server = server
        self._log = server.log
        self._lock = threading.Lock()  # guards what follows, never for long
        # Each version that was ever tried: the model, or why it does not serve.
        self._models: dict[str, dict[int, ServedModel | Absence]] = {}
        # Models that are no longer found, but still at work, or in finalize.
        self._leaving: set[ServedModel] = set()

    def find(self, name: str, version: int = NEWEST) -> ServedModel:
        """A ready version of a model, the newest if none is asked for (MLC 341-387)."""
        with self._lock:
            versions = self._models.get(name)
            if versions is None:
                raise _unknown(f"'{name}' is not found")
            model = versions.get(version)
            if model is None and version == NEWEST:
                model = _newest(versions)
                if model is None:
                    raise _unknown(f"'{name}' has no available versions")
        if model is None:
            raise _unknown(f"'{name}' version {version} is not found")
        if isinstance(model, Absence):
            text = f"'{name}' version {version} is not at ready state"
            raise _unknown(text, StatusCode.UNAVAILABLE)
        return model

    def ready(self, name: str) -> list[ServedModel]:
        """Versions of a model that serve, in ascending order; empty if there is none."""
        with self._lock:
            return self._ready(name)

    def loaded_names(self) -> list[str]:
        """Names of the models that serve, in alphabetical order."""
        with self._lock:
            return sorted(name for name in self._models if self._ready(name))

    def states(self) -> dict[str, list[ModelState]]:
        """What became of each version that was ever tried, by the model's name."""
        with self._lock:
            return {
                name: [self._state(name, *version) for version in sorted(versions.items())]
                for name, versions in self._models.items()
            }

    def load(
        self, source: ModelSource, loaded: ModelTimes
    ) -> tuple[list[ServedModel], LoadError | None]:
        """Load every version that the policy names.

        One that serves and has not changed gets the instances that are wanted now, at most;
        ``loaded`` is how old what serves is. What became superfluous, which is closed, and what
        failed, if anything. What served before then still serves, with its instances as they are
        wanted now, unless those are what failed (MLC 764-848).
        """
        name = source.config.name
        with self._lock:
            self._models.setdefault(name, {})
        try:
            versions = wanted_versions(source.directory, source.config, self._log)
        except (LoadError, OSError) as caught:
            error = caught if isinstance(caught, LoadError) else _unreadable(name, caught)
            self._log.note(LogLevel.ERROR, f"failed to load model '{name}': {error.told}")
            return [], error
        serving = {
            model.version: model
            for model in self.ready(name)
            if isinstance(model, BackendModel) and _serves_on(model, source, loaded)
        }
        tried = self._try(source, versions, serving)
        errors = {v: error for v, error in tried.items() if isinstance(error, LoadError)}
        models = {v: model for v, model in tried.items() if isinstance(model, ServedModel)}
        if errors:
            self._log.note(LogLevel.INFO, f"failed to load '{name}'")
            return self._keep_old(name, models, errors), _failure(source, errors, serving)
        leaving = self._replace(name, models)
        self._log.note(LogLevel.INFO, f"successfully loaded '{name}'")
        return leaving, None

    def release(self, name: str) -> list[ServedModel]:
        """Let a model serve no more; its versions, which are closed."""
        return self._replace(name, {})

    def refuse(self, name: str, error: LoadError) -> list[ServedModel]:
        """The same, of an ensemble that cannot serve because of its steps."""
        self._log.note(LogLevel.ERROR, _reason(error))
        return self.release(name)

    def release_all(self) -> list[ServedModel]:
        """Let no model serve any more, and forget all of them; those at work, which are closed."""
        with self._lock:
            models = {model for name in self._models for model in self._ready(name)}
            models |= self._leaving
            self._models.clear()
        for model in models:
            model.close(at_once=True)
        return list(models)

    def unload(self, models: Sequence[ServedModel], *, wait: bool = True) -> None:
        """Have models that were closed finish what they do; at once, unless ``wait``."""
        if wait:
            self.finish(models)
        elif models:
            threading.Thread(
                target=self.finish,
                args=(models, _FOR_EVER),
                name=f"unload {models[0].name}",
                daemon=True,
            ).start()

    def finish(self, models: Iterable[ServedModel], timeout: float | None = None) -> None:
        """Wait, for so many seconds at most, until models that were closed have stopped."""
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

    def _ready(self, name: str) -> list[ServedModel]:
        versions = sorted(self._models.get(name, {}).items())
        return [model for _, model in versions if isinstance(model, ServedModel)]

    def _state(self, name: str, version: int, model: ServedModel | Absence) -> ModelState:
        if isinstance(model, ServedModel):
            return ModelState(name, str(version), "READY", model.reason)
        if model == _UNLOADED and any(
            (left.name, left.version) == (name, version) for left in self._leaving
        ):
            return ModelState(name, str(version), "UNLOADING")
        return ModelState(name, str(version), model.state, model.reason)

    def _try(
        self, source: ModelSource, versions: Sequence[int], serving: Mapping[int, BackendModel]
    ) -> dict[int, ServedModel | LoadError]:
        """Load versions; a version that fails does not keep the others from being tried.

        Those ``serving`` go on, with the instances that are wanted now.
        """
        directory, config = source.directory, source.config
        name = config.name
        tried: dict[int, ServedModel | LoadError] = {}
        with self._lock:
            known = self._models[name]
            before = {
                v: known.get(v) for v in versions if not isinstance(known.get(v), ServedModel)
            }
            known.update(dict.fromkeys(before, _LOADING))
        try:
            for version in versions:
                self._log.note(LogLevel.INFO, f"loading: {name}:{version}")
                if version in serving:
                    tried[version] = _updated(serving[version], config)
                    continue
                start = time.monotonic()
                try:
                    model = create_model(directory, version, config, self._server)
                    model.source, model.polled = source, config
                    model.load()
                    if not model_config.is_ensemble(config):  # of one of these the server tells 0
                        model.statistics.load_seconds = time.monotonic() - start
                    tried[version] = model
                except LoadError as error:
                    tried[version] = error
                    self._log.note(
                        LogLevel.ERROR,
                        f"failed to load '{name}' version {version}: {_reason(error)}",
                    )
        except BaseException:
            with self._lock:
                known |= {v: state for v, state in before.items() if state is not None}
                for version in [v for v, state in before.items() if state is None]:
                    del known[version]
                if not known:
                    self._models.pop(name, None)
            self.finish(self._closed(set(tried.values()) - set(serving.values())))
            raise
        return tried

    def _keep_old(
        self, name: str, models: Mapping[int, ServedModel], errors: Mapping[int, LoadError]
    ) -> list[ServedModel]:
        """One version failed: note what became of each; the others, which are closed."""
        with self._lock:
            versions = self._models.setdefault(name, {})
            for version in (*models, *errors):
                if not isinstance(versions.get(version), ServedModel):
                    failed = version in errors
                    versions[version] = Absence(_reason(errors[version])) if failed else _UNLOADED
            new = set(models.values()) - set(self._ready(name))
            self._leaving |= new
        return self._closed(new)

    def _replace(self, name: str, models: Mapping[int, ServedModel]) -> list[ServedModel]:
        """Let ``models`` serve; the others that served before, which are closed."""
        with self._lock:
            old = [model for model in self._ready(name) if model not in models.values()]
            self._leaving.update(old)
            if old or models:
                self._models.setdefault(name, {}).update(
                    {model.version: _UNLOADED for model in old} | dict(models)
                )
        return self._closed(old)

    @staticmethod
    def _closed(models: Iterable[object]) -> list[ServedModel]:
        closed = [model for model in models if isinstance(model, ServedModel)]
        for model in closed:
            model.close()  # all at once, so that they finish side by side
        return closed


def _serves_on(model: ServedModel, source: ModelSource, loaded: ModelTimes) -> bool:
    """True if a version that serves needs not be loaded again, but for its instances."""
    return (
        model.source is not None
        and source.times.of_version(model.version) <= loaded.of_version(model.version)
        and _comparable(source.config) == _comparable(model.polled)
    )


def _comparable(config: Any) -> Any:
    """A configuration without its instances, and the choice of versions."""
    config = copy.deepcopy(config)
    config.ClearField("version_policy")
    config.ClearField("instance_group")
    return config


def _updated(model: BackendModel, config: Any) -> BackendModel | LoadError:
    """A version with the instances of another configuration; or why it has none of these."""
    try:
        model.update(config)
    except LoadError as error:
        model.reason = _reason(error)
        return error
    model.reason = ""
    model.polled = config
    return model


def _newest(versions: Mapping[int, ServedModel | Absence]) -> ServedModel | None:
    """The newest version that serves, if one does; asked for every request."""
    for version in sorted(versions, reverse=True):
        model = versions[version]
        if not isinstance(model, Absence):
            return model
    return None


def _reason(error: LoadError) -> str:
    return f"{error.code.label}: {error.message}"


def _failure(
    source: ModelSource, errors: Mapping[int, LoadError], serving: Collection[int]
) -> LoadError:
    failure = LoadError(
        "".join(
            f"version {version} is at {'READY' if version in serving else 'UNAVAILABLE'} state: "
            f"{_reason(error)};"
            for version, error in errors.items()
        ),
        StatusCode.INVALID_ARG,
    )
    for version, error in errors.items():
        file = source.directory / str(version) / source.config.default_model_filename
        if isinstance(error, ConfigError):
            file = source.directory / model_config.CONFIG_FILENAME
        failure.add_note(f"version {version}: {file}")
    failure.__cause__ = next(iter(errors.values()))
    return failure


def _unreadable(name: str, error: OSError) -> LoadError:
    told = f"failed to stat file {error.filename}"
    unreadable = LoadError(f"cannot read model '{name}': {error}", told=told)
    unreadable.__cause__ = error
    return unreadable


def _unknown(message: str, code: StatusCode = StatusCode.NOT_FOUND) -> InferenceError:
    return InferenceError(f"Request for unknown model: {message}", code)
