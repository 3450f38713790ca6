"""The stub and the engine of this run, which has the models elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from comparing import Engines, outcome
from starting import GPU

from triton_stub.engines.engine import Engine

MODELS = "/models"  # in every container
# What config.pbtxt leaves to the server, if it has a GPU.
PLACE = {"kind", "gpus"} if GPU else set()


class MountedEngines(Engines):
    """Two engines whose answers are compared as if both had the models in one place."""

    @classmethod
    def of(cls, stub: Engine, other: Engine, repository: Path) -> Self:
        """``other`` is a container, or any other engine with the same ``repository``."""
        engines = cls(stub, other)
        engines.moved = (str(repository), MODELS if other.name == "container" else str(repository))
        if GPU:
            engines.tolerance = 1e-4  # its sums are in another order
        return engines

    def same(self, body: Callable[[Engine], Any]) -> Any:
        """See ``Engines.same``: tracebacks and what models are told have paths in them."""
        stub, other = outcome(body, self.stub), outcome(body, self.native)
        assert placed(stub, *self.moved) == placed(other)
        return stub


def placed(value: Any, old: str = "", new: str = "") -> Any:
    """``value`` without what a GPU changes, the path ``old`` replaced in all texts."""
    if isinstance(value, str):
        return value.replace(old, new) if old else value
    if isinstance(value, dict):
        return {key: placed(item, old, new) for key, item in value.items() if key not in PLACE}
    if isinstance(value, list):
        return [placed(item, old, new) for item in value]
    return value
