"""The stub and the engine of this run, which may have the repository at another path."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from comparing import Engines, outcome

from triton_stub.engines.engine import Engine

MODELS = "/models"  # in every container


class MountedEngines(Engines):
    """Two engines whose answers are compared as if both had the repository in one place."""

    @classmethod
    def of(cls, stub: Engine, other: Engine, repository: Path) -> Self:
        """``other`` is a container, or any other engine with the same ``repository``."""
        engines = cls(stub, other)
        engines.moved = (str(repository), MODELS if other.name == "container" else str(repository))
        return engines

    def same(self, body: Callable[[Engine], Any]) -> Any:
        """See ``Engines.same``: tracebacks and what models are told have paths in them."""
        stub, other = outcome(body, self.stub), outcome(body, self.native)
        assert moved(stub, *self.moved) == other
        return stub


def moved(value: Any, old: str, new: str) -> Any:
    """``value`` with the path ``old`` replaced in all of its texts."""
    if isinstance(value, str):
        return value.replace(old, new)
    if isinstance(value, dict):
        return {key: moved(item, old, new) for key, item in value.items()}
    if isinstance(value, list):
        return [moved(item, old, new) for item in value]
    return value
