"""Both engines, side by side.

A case asks the stub and the real server the same thing and compares the two answers, so what is
right is never typed in.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from comparing import Engines

from triton_stub.engines.engine import Engine
from triton_stub.engines.native import NativeEngine
from triton_stub.engines.stub import StubEngine

MODELS = Path(__file__).parent / "models"


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
