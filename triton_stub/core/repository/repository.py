"""Model repositories: what is in them, what is loaded from them, and what follows from what.

Source: core ``src/model_repository_manager/model_repository_manager.cc`` (MRM). The folders are
``folders.py``'s, what has changed in them ``polling.py``'s, ensembles and their steps
``dependencies.py``'s, the models themselves ``lifecycle.py``'s.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from triton_stub.core.repository import polling
from triton_stub.core.repository.changes import Changes
from triton_stub.core.repository.dependencies import Dependencies
from triton_stub.core.repository.folders import Folders
from triton_stub.core.repository.lifecycle import NEWEST, Lifecycle, ModelState
from triton_stub.core.repository.polling import Polled
from triton_stub.errors import ConfigError, InferenceError, LoadError, ServerError, StatusCode
from triton_stub.pb_utils.logger import LogLevel

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping
    from pathlib import Path
    from typing import Any

    from triton_stub.core.host import ServerHost
    from triton_stub.core.model import ServedModel
    from triton_stub.core.repository.polling import Known
    from triton_stub.core.repository.source import LoadParameters

__all__ = ["NEWEST", "ControlMode", "ModelState", "Repository", "describe_failures"]

# Who says which models are loaded: what is there at the start, what is there when one looks again,
# or clients.
ControlMode = Literal["none", "poll", "explicit"]
_ALL = "*"


class Repository:
    """Finds models under one or more directories; loads, unloads and looks them up."""

    def __init__(
        self, paths: Iterable[Path], server: ServerHost, *, mode: ControlMode = "explicit"
    ) -> None:
        self._folders = Folders(paths)
        self._mode = mode
        self._server = server
        self._log = server.log
        server.models = self
        self._changes = Changes()
        self._lifecycle = Lifecycle(server)
        # Both change only while ``_changes`` lets nobody else plan.
        self._known: dict[str, Known] = {}
        self._graph = Dependencies()

    @property
    def paths(self) -> list[Path]:
        """The directories, in the order in which they were given or registered."""
        return self._folders.paths

    def model_names(self) -> list[str]:
        """Names of all models on disk, loaded or not, in alphabetical order."""
        return sorted(self._folders.found())

    def open(self) -> None:
        """Models may be loaded (again)."""
        self._changes.open()

    def start(self, names: Collection[str] | None = None) -> dict[str, ServerError]:
        """Load all models, or those of ``names``; what is wrong with which.

        ``["*"]`` are all models, too. ServerError if that is not the only name.
        """
        if names is not None and _ALL in names and len(set(names)) > 1:
            raise ServerError(
                "Wildcard model name '*' must be the ONLY startup model if specified at all.",
                StatusCode.INVALID_ARG,
            )
        named: dict[str, LoadParameters] | None = None
        if names is not None and _ALL not in names:
            named = {name: {} for name in names}
        else:
            self._folders.found()  # raises what is wrong with a whole repository
        return self._follow(named)

    def load(
        self,
        name: str,
        parameters: LoadParameters | None = None,
        *,
        loading: str | None = None,
        wait: bool = True,
    ) -> None:
        """Load every version that the model's policy names, unless nothing has changed on disk.

        With an ensemble its steps are loaded, and with a step the ensembles that lacked it.
        ``parameters`` give another configuration (``"config"``, JSON) or other files
        (``"file:1/model.py"``). ``loading`` is the model whose ``initialize`` asks for it.
        Unless ``wait``, what served before may still be at work when this returns.

        LoadError with the reasons of all versions that failed, and what served before still
        serves (MRM 764-848).
        """
        _check_name(name)
        with self._changes.of(
            lambda: self._plan({name: parameters or {}}), loading=loading
        ) as change:
            error = change.run(wait=wait).get(name)
        if error is not None:
            raise _outer(name, error)
        errors = change.polled.errors
        if errors:
            raise _not_polled(name, errors.get(name) or next(iter(errors.values())))
        if not self._lifecycle.states().get(name):
            # An ensemble that could not be loaded before, and has not changed.
            raise _never_tried(name, self._graph.nodes[name].error)

    def unload(
        self,
        name: str,
        *,
        unload_dependents: bool = False,
        loading: str | None = None,
        wait: bool = True,
    ) -> None:
        """Unload a model; nothing happens if it is not loaded.

        The ensembles that need it go with it; with ``unload_dependents`` so do the steps of an
        ensemble that nobody has asked for by name. Unless ``wait``, it may still be at work when
        this returns, as on the server.
        """

        def plan() -> _Change:
            change = self._change(Polled())
            if name in change.graph.nodes:
                removed, affected = change.graph.unload(name, with_steps=unload_dependents)
                change.removed, change.affected = removed, affected | removed
            return change

        with self._changes.of(plan, loading=loading) as change:
            change.run(wait=wait)

    def poll(self) -> dict[str, ServerError]:
        """Load what is new or has changed on disk, unload what is gone; what is wrong with which.

        ServerError unless the control mode is ``"poll"``.
        """
        if self._mode != "poll":
            raise ServerError("polling is disabled", StatusCode.UNAVAILABLE)
        return self._follow(None)

    def register(self, path: Path, names: Mapping[str, str] | None = None) -> None:
        """Add a repository while the server runs; needs explicit control.

        ``names`` are other names of models, and the folders that they have there.
        """
        self._check_explicit("registration")
        self._folders.register(path, names or {})
        self._log.note(LogLevel.INFO, f"Model repository registered: {path}")

    def unregister(self, path: Path) -> None:
        """Forget a repository; what is loaded from it goes on. Needs explicit control."""
        self._check_explicit("unregistration")
        self._folders.unregister(path)
        self._log.note(LogLevel.INFO, f"Model repository unregistered: {path}")

    def unload_all(self, timeout: float) -> None:
        """Unload every model, and forget all of them.

        ``timeout`` is how many seconds to wait for what is being loaded, and then for the models.
        """
        self._changes.close(timeout)
        self._known, self._graph = {}, Dependencies()
        self._lifecycle.finish(self._lifecycle.release_all(), timeout)

    def find(self, name: str, version: int = NEWEST) -> ServedModel:
        """A ready version of a model, the newest if none is asked for."""
        return self._lifecycle.find(name, version)

    def is_ready(self, name: str, version: int) -> bool:
        """True if a model, or the version of it, takes requests; -1 means any version."""
        try:
            return self._lifecycle.find(name, version).ready()
        except InferenceError:
            return False

    def ready(self, name: str) -> list[ServedModel]:
        """Versions of a model that serve, in ascending order; empty if there is none."""
        return self._lifecycle.ready(name)

    def loaded_names(self) -> list[str]:
        """Names of the models that serve, in alphabetical order."""
        return self._lifecycle.loaded_names()

    def all_ready(self) -> bool:
        """True if every version that was tried serves, or was unloaded on request.

        As the server judges: a model whose configuration cannot be read was never tried.
        """
        states = self._lifecycle.states()
        return all(rows and all(row.fine for row in rows) for rows in states.values()) and all(
            model.ready() for name in states for model in self._lifecycle.ready(name)
        )

    def index(self, *, only_ready: bool = False) -> list[ModelState]:
        """Every model on disk and its state; ``only_ready`` leaves out what does not serve.

        As on the server, a model in two repositories is in it all the same, even if it serves.
        """
        states = self._lifecycle.states()
        rows: list[ModelState] = []
        for name, paths in sorted(self._folders.found().items()):
            if len(paths) > 1:
                rows.append(ModelState(name, reason="model appears in two or more repositories"))
            else:
                tried = states.get(name, [ModelState(name)])
                rows += [row for row in tried if row.state == "READY" or not only_ready]
        return rows

    def _follow(self, names: Mapping[str, LoadParameters] | None) -> dict[str, ServerError]:
        """Load what has changed, of these models or of all; what is wrong with which."""
        with self._changes.of(lambda: self._plan(names)) as change:
            results = change.run()
        errors: dict[str, ServerError] = dict(change.polled.errors)
        errors |= {n: _outer(n, error) for n, error in results.items() if error is not None}
        return dict(sorted(errors.items()))

    def _plan(self, names: Mapping[str, LoadParameters] | None = None) -> _Change:
        """To load these models, or to follow up everything that has changed on disk."""
        strict = self._server.strict_model_config
        if names is None:
            polled = polling.poll_all(self._folders, self._known, strict=strict)
        else:
            polled = polling.poll_named(self._folders, self._known, names, strict=strict)
        change = self._change(polled)
        change.removed = set(polled.deleted)
        change.affected = change.graph.update(polled) | polled.unmodified
        new = polled.added | polled.modified
        change.known |= {name: polled.known[name] for name in new}
        return change

    def _change(self, polled: Polled) -> _Change:
        return _Change(polled, dict(self._known), self._graph.copy(), self._lifecycle, self._commit)

    def _commit(self, change: _Change, *, done: bool) -> None:
        if not done:
            for line in change.polled.lines:
                self._log.note(LogLevel.ERROR, line)
            self._known, self._graph = dict(change.known), change.graph.copy()
            return
        self._graph.write_back(change.graph, change.affected)
        for name in change.affected & change.known.keys() & self._known.keys():
            self._known[name] = change.known[name]

    def _check_explicit(self, what: str) -> None:
        if self._mode != "explicit":
            raise ServerError(
                f"repository {what} is not allowed if model control mode is not EXPLICIT",
                StatusCode.UNSUPPORTED,
            )


class _Change:
    """One change of the repository: planned on copies, then done, then written back."""

    def __init__(
        self,
        polled: Polled,
        known: dict[str, Known],
        graph: Dependencies,
        lifecycle: Lifecycle,
        commit: Callable[..., None],
    ) -> None:
        self.polled = polled
        self.known = known
        self.graph = graph
        self.removed: set[str] = set()
        self.affected: set[str] = set()
        self._busy: Collection[str] = ()
        self._lifecycle = lifecycle
        self._commit = commit

    def begin(self, busy: Collection[str]) -> None:
        """It will be done; others are changing the ``busy`` ones."""
        self._busy = frozenset(busy)
        for name in self.removed:
            self.known.pop(name, None)
        self._commit(self, done=False)

    def end(self) -> None:
        """It is done, or has failed."""
        self._commit(self, done=True)

    def run(self, *, wait: bool = True) -> dict[str, LoadError | None]:
        """Unload what goes, load what comes, steps first; what became of each model."""
        results: dict[str, LoadError | None] = {}
        leaving: list[ServedModel] = []
        try:
            for name in sorted(self.removed):
                leaving += self._lifecycle.release(name)
            changed: Collection[str] | None = None
            while due := self.graph.due(changed, self._busy, results, self._config_of):
                for name in due:
                    superfluous, results[name] = self._change(name)
                    leaving += superfluous
                changed = due
        finally:
            self._lifecycle.unload(leaving, wait=wait)
        return results

    def _change(self, name: str) -> tuple[list[ServedModel], LoadError | None]:
        node = self.graph.nodes[name]
        if node.error is not None:
            node.loaded = frozenset()
            return self._lifecycle.refuse(name, node.error), node.error
        known = self.known[name]
        leaving, error = self._lifecycle.load(known.source, known.before)
        node.loaded = frozenset(model.version for model in self._lifecycle.ready(name))
        if error is not None:
            # It counts as modified until it loads.
            self.known[name] = replace(known, times=known.before)
        return leaving, error

    def _config_of(self, name: str) -> Any:
        return self._lifecycle.find(name).config


def _outer(name: str, error: LoadError) -> LoadError:
    """What is told of a model that has failed to load: which one it is, and why."""
    told = f"load failed for model '{name}': {error.told}\n"
    message = told if error.told == error.message else error.message
    outer = LoadError(message, StatusCode.INVALID_ARG, told=told)
    outer.__cause__ = error.__cause__ or error
    for note in getattr(error, "__notes__", ()):
        outer.add_note(note)
    return outer


def _never_tried(name: str, error: LoadError | None) -> LoadError:
    told = f"failed to load '{name}', no version is available"
    why = "" if error is None else f": {error.message}"
    return LoadError(f"{told}{why}", told=told)


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


def _not_polled(name: str, error: LoadError) -> LoadError:
    """What is told of a model that could not even be polled: not why."""
    kind = ConfigError if isinstance(error, ConfigError) else LoadError
    refused = kind(error.message, StatusCode.INTERNAL)
    refused.told = f"failed to load '{name}', failed to poll from model repository"
    refused.__cause__ = error.__cause__
    return refused


def describe_failures(errors: Mapping[str, ServerError]) -> str:
    """One text for all models that failed to load, a paragraph each."""
    return "\n".join(f"model '{name}': {error.message.rstrip()}" for name, error in errors.items())
