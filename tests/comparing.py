"""Two engines with the same models, and how their answers are compared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from triton_stub import ServerError
from triton_stub.engines.engine import Engine


class Engines(NamedTuple):
    """The same repository, twice.

    ``tolerance`` is how far their logits may be apart, as a share of the largest.
    """

    stub: Engine
    native: Engine
    tolerance = 1e-5

    def same(self, body: Callable[[Engine], Any]) -> Any:
        """Run ``body`` on both engines, compare what comes out, and return it."""
        stub, native = outcome(body, self.stub), outcome(body, self.native)
        assert stub == native
        return stub


def outcome(body: Callable[[Engine], Any], engine: Engine) -> Any:
    """What ``body`` returns or raises, in a form that ``==`` compares and pytest prints."""
    try:
        return normalise(body(engine))
    except ServerError as error:
        # Over HTTP only the status is left of the code.
        return {"error": error.message, "status": error.code.http_status}


def normalise(value: Any) -> Any:
    """Arrays as dtype, shape and values; everything else as it is."""
    if isinstance(value, np.ndarray):
        return {"dtype": str(value.dtype), "shape": value.shape, "values": value.tolist()}
    if isinstance(value, dict):
        return {key: normalise(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [normalise(item) for item in value]
    return value
