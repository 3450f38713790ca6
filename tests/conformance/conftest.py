"""Both engines, side by side.

A case asks the stub and the real server the same thing and compares the two answers, so what is
right is never typed in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from triton_stub import ServerError
from triton_stub.engines.engine import Engine
from triton_stub.engines.native import NativeEngine
from triton_stub.engines.stub import StubEngine

MODELS = Path(__file__).parent / "models"


class Engines(NamedTuple):
    """The same repository, twice."""

    stub: Engine
    native: Engine

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


@pytest.fixture(scope="session")
def engines() -> Iterator[Engines]:
    """The stub and the real server with the models of this folder."""
    with NativeEngine(MODELS) as native, StubEngine(MODELS) as stub:
        yield Engines(stub, native)


@pytest.fixture(scope="session", params=["stub", "native"])
def engine(request: pytest.FixtureRequest, engines: Engines) -> Engine:
    """One engine at a time: the test runs twice."""
    chosen: Engine = getattr(engines, request.param)
    return chosen


@pytest.fixture(scope="session")
def both_urls(engines: Engines) -> tuple[str, str]:
    """HTTP addresses of the stub and of the real server, for raw requests."""
    return engines.stub.http_url, engines.native.http_url
