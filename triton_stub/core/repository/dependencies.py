"""Which models are steps of which ensembles, and what follows when one of them changes.

Source: core ``src/model_repository_manager/model_repository_manager.cc`` (MRM),
``DependencyGraph``.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from triton_stub import config as model_config
from triton_stub import deviations
from triton_stub.errors import ConfigError, InferenceError, LoadError, StatusCode

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from triton_stub.core.repository.polling import Known, Polled

_NEWEST = -1


@dataclass(slots=True)
class Node:
    """A model of the graph.

    Attributes:
        config: as it was polled.
        steps: the models that it needs, and which versions of each.
        explicit: whether it was asked for by name, and not as a step of an ensemble.
        checked: whether what has changed about it has been followed up.
        error: why it cannot be loaded, whatever its files say.
        loaded: its versions that serve.
    """

    config: Any
    steps: Mapping[str, Collection[int]]
    explicit: bool
    checked: bool = False
    error: LoadError | None = None
    loaded: frozenset[int] = field(default_factory=frozenset)

    @property
    def steps_in_order(self) -> list[str]:
        """The model of each step."""
        return [step.model_name for step in self.config.ensemble_scheduling.step]

    @classmethod
    def of(cls, known: Known) -> Node:
        """The node of a model that has been polled."""
        config = known.source.config
        steps: dict[str, set[int]] = {}
        for name, version in model_config.composing_models(config):
            steps.setdefault(name, set()).add(version)
        return cls(config, steps, known.explicit)


class Dependencies:
    """The models that are known, and how they depend on each other."""

    def __init__(self, nodes: Mapping[str, Node] | None = None) -> None:
        self.nodes = dict(nodes or {})

    def copy(self) -> Dependencies:
        """The same, to be changed on its own."""
        return Dependencies({name: replace(node) for name, node in self.nodes.items()})

    def write_back(self, changed: Dependencies, names: Iterable[str]) -> None:
        """Take over what became of some models in a copy."""
        for name in names:
            if name in self.nodes and name in changed.nodes:
                node, new = self.nodes[name], changed.nodes[name]
                node.checked, node.error, node.loaded = new.checked, new.error, new.loaded

    def update(self, polled: Polled) -> set[str]:
        """Add and renew models, and drop those that are gone; whom all that concerns."""
        affected = self._remove(polled.deleted)
        return affected | self._renew(polled) | polled.deleted

    def unload(self, name: str, *, with_steps: bool) -> tuple[set[str], set[str]]:
        """Drop a model; what is to be unloaded, and whom that concerns beside these.

        With an ensemble go, if so wished, those of its steps that nobody has asked for by name and
        no other ensemble needs.
        """
        removed: set[str] = set()
        affected: set[str] = set()
        ahead = {name}
        while ahead:
            steps = {step for each in ahead if each in self.nodes for step in self._above(each)}
            affected |= self._remove(ahead)
            removed |= ahead
            ahead = {
                step
                for step in steps
                if with_steps
                and step in self.nodes
                and not self.nodes[step].explicit
                and not self._below(step)
            }
        self._connect(affected - removed)
        return removed, affected - removed

    def due(
        self,
        changed: Collection[str] | None,
        busy: Collection[str],
        errors: Mapping[str, LoadError | None],
        config_of: Callable[[str], Any],
    ) -> list[str]:
        """Models whose turn it is now: every step of theirs is as it will be.

        At first of all models, and then of those below what has ``changed``. ``busy`` ones are
        somebody else's. ``errors`` is what became of the models so far, ``config_of`` the
        completed configuration of one that serves.
        """
        due = [
            name
            for name in sorted(self.nodes if changed is None else self._below_any(changed))
            if not self.nodes[name].checked
            and name not in busy
            and self._check(name, errors, config_of)
        ]
        for name in due:
            self.nodes[name].checked = True
        return due

    def _check(
        self,
        name: str,
        errors: Mapping[str, LoadError | None],
        config_of: Callable[[str], Any],
    ) -> bool:
        """True if it is clear what becomes of a model; its ``error`` says if that is nothing."""
        node = self.nodes[name]
        if node.error is not None:
            return True
        for step, versions in node.steps.items():
            if step not in self.nodes:
                continue
            if not self.nodes[step].checked:
                return False
            node.error = self._fault(name, step, versions, errors.get(step))
            if node.error is not None:
                return True
        if node.steps:
            try:
                node.config.model_transaction_policy.decoupled = model_config.check_steps(
                    node.config,
                    [self._step_config(step, config_of) for step in node.steps_in_order],
                )
            except (ConfigError, InferenceError) as error:
                node.error = LoadError(error.message, error.code)
        return True

    def _step_config(self, name: str, config_of: Callable[[str], Any]) -> Any:
        # One that is missing has nothing to say; it comes to that if another step is loaded anew.
        return config_of(name) if name in self.nodes else model_config.schema().ModelConfig()

    def _fault(
        self, name: str, step: str, versions: Iterable[int], cause: LoadError | None
    ) -> LoadError | None:
        """What keeps an ensemble from being loaded, of one of its steps."""
        node = self.nodes[step]
        text = f"ensemble '{name}' depends on '{step}'"
        if node.error is not None:
            cause = node.error
            text += f" which is not valid. Model '{step}' failed with error: {cause.told}"
        elif not node.loaded:
            text += " which has no loaded version."
            # Without a cause: deviations.FORGOTTEN_REASON.
            if cause is not None:
                text += f" Model '{step}' loading failed with error: {cause.told}"
        else:
            missing = [v for v in sorted(versions) if v != _NEWEST and v not in node.loaded]
            if not missing:
                return None
            text += f" whose required version {missing[-1]} is not loaded."
        error = LoadError(text, StatusCode.INVALID_ARG)
        error.__cause__ = cause
        return error

    def _remove(self, names: Iterable[str]) -> set[str]:
        """Drop models; those that depend on them, which are looked at again."""
        below: set[str] = set()
        for name in names:
            if self.nodes.pop(name, None) is not None:
                below |= self._below(name)
                self._uncheck(self._below(name))
        return below & self.nodes.keys()

    def _renew(self, polled: Polled) -> set[str]:
        affected = self._below_any(polled.deleted) | polled.modified | polled.added
        for name in polled.modified:
            self._uncheck(self._below(name))
            loaded = self.nodes[name].loaded
            self.nodes[name] = Node.of(polled.known[name])
            self.nodes[name].loaded = loaded
        for name in polled.added:
            below = self._below(name)
            self._uncheck(below)
            affected |= below
            self.nodes[name] = Node.of(polled.known[name])
        self._connect(affected)
        return affected

    def _below_any(self, names: Iterable[str]) -> set[str]:
        return {below for name in names for below in self._below(name)}

    def _above(self, name: str) -> set[str]:
        return {step for step in self.nodes[name].steps if step in self.nodes}

    def _below(self, name: str) -> set[str]:
        return {other for other, node in self.nodes.items() if name in node.steps}

    def _uncheck(self, names: Iterable[str]) -> None:
        for name in names:
            node = self.nodes[name]
            if node.checked:
                node.checked, node.error = False, None
                self._uncheck(self._below(name))

    def _connect(self, names: Collection[str]) -> None:
        """Say of ensembles what they lack."""
        for name in sorted(names):
            node = self.nodes[name]
            # The text has room for more, but is made of the first that is found.
            missing = next((step for step in node.steps if step not in self.nodes), None)
            if missing is not None and node.error is None:
                node.error = LoadError(
                    f"ensemble {name} contains models that are not available or ambiguous: "
                    f"{missing}",
                    StatusCode.INVALID_ARG,
                )
        for name in sorted(names):
            if self.nodes[name].error is None:
                self.nodes[name].error = self._circle(name)

    def _circle(self, start: str) -> LoadError | None:
        """What is wrong with an ensemble that needs itself, by whatever detour."""
        seen: set[str] = set()
        error = self._follow(start, start, seen)
        if error is None and any(self._needs_itself(name) for name in seen):
            error = LoadError(
                deviations.ENSEMBLE_CIRCLE.text(
                    f"ensemble '{start}' needs ensembles that need each other", "Part them."
                ),
                StatusCode.INVALID_ARG,
            )
        return error

    def _follow(self, name: str, start: str, seen: set[str]) -> LoadError | None:
        for step in sorted(self._above(name)):
            if step == start:
                return LoadError(
                    f"circular dependency between ensembles: {start} -> ... -> {name} -> {start}",
                    StatusCode.INVALID_ARG,
                )
            if step not in seen:
                seen.add(step)
                error = self._follow(step, start, seen)
                if error is not None:
                    self.nodes[name].error = error  # of all on the way, as on the server
                    return error
        return None

    def _needs_itself(self, name: str) -> bool:
        ahead, seen = list(self._above(name)), set[str]()
        while ahead:
            step = ahead.pop()
            if step == name:
                return True
            if step not in seen:
                seen.add(step)
                ahead += self._above(step)
        return False
