"""Both engines, side by side.

A case asks the stub and the real server the same thing and compares the two answers, so what is
right is never typed in.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partialmethod
from pathlib import Path

import grpc_models
import pytest
from broken_models import both_engines
from client_models import clients_of_both
from comparing import Engines
from flavours import Flavours
from hypothesis import settings
from lives import Lives
from results import UPDATE, Results
from stream_models import both_with_stream_models

from triton_stub.engines.engine import Engine
from triton_stub.engines.native import NativeEngine
from triton_stub.engines.stub import StubEngine

MODELS = Path(__file__).parent / "models"

# See probing.examples: 25 times as many as a run of every day.
settings.register_profile("nightly", deadline=None, max_examples=25 * 100)


def pytest_addoption(parser: pytest.Parser) -> None:
    """See ``results.py``; and every case of the suite with the stub's models in processes."""
    parser.addoption(UPDATE, action="store_true", help="write tests/conformance/RESULTS.md anew")
    parser.addoption("--stub-isolation", choices=("thread", "process"), default="thread")


def pytest_configure(config: pytest.Config) -> None:
    """The marks that say what a case shows."""
    for mark in (
        "rule(id, ...): rules of rules.toml that the case shows",
        "deviation(key): the case shows a deliberate deviation, of triton_stub/deviations.py",
        "newer(release, source): newer than the real server of this suite; shown on the stub alone",
        'threads: shows what the stub does with isolation="thread" alone',
        "examples(count): how many random examples the case draws; set by probing.examples",
    ):
        config.addinivalue_line("markers", mark)
    config.pluginmanager.register(Results(config))
    config.pluginmanager.register(Lives())
    if config.getoption("--stub-isolation") == "process":
        in_processes = partialmethod(StubEngine.__init__, isolation="process")
        setattr(StubEngine, "__init__", in_processes)  # noqa: B010 - mypy wants a plain method


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what instances in processes do not have in common with threads."""
    if config.getoption("--stub-isolation") == "process":
        left_out = [item for item in items if item.get_closest_marker("threads")]
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=left_out)


@pytest.fixture(scope="session")
def engines() -> Iterator[Engines]:
    """The stub and the real server with the models of this folder."""
    with NativeEngine(MODELS) as native, StubEngine(MODELS) as stub:
        yield Engines(stub, native)


@pytest.fixture(scope="session")
def stub(engines: Engines) -> Engine:
    """The stub alone, for what the real server does not survive, or is too old for."""
    return engines.stub


@pytest.fixture(scope="session", params=["stub", "native"])
def engine(request: pytest.FixtureRequest, engines: Engines) -> Engine:
    """One engine at a time: the test runs twice."""
    chosen: Engine = getattr(engines, request.param)
    return chosen


@pytest.fixture(scope="session")
def both_urls(engines: Engines) -> tuple[str, str]:
    """HTTP addresses of the stub and of the real server, for raw requests."""
    return engines.stub.http_url, engines.native.http_url


@pytest.fixture(scope="session")
def grpc_engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    """Both with the models for raw requests over gRPC."""
    folder = tmp_path_factory.mktemp("grpc")
    grpc_models.write(folder / "models")
    with both_engines(
        folder / "models",
        options=[f"--trace-config=triton,file={folder / 'native'}", "--trace-config=rate=7"],
        trace_config={"file": str(folder / "stub"), "rate": "7"},
    ) as both:
        yield both


@pytest.fixture(scope="session")
def flavours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flavours]:
    """Clients of all kinds, and both engines with models of their own."""
    with clients_of_both(tmp_path_factory.mktemp("flavours")) as flavours:
        yield flavours


@pytest.fixture(scope="session")
def streams(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    """Both engines with the models of ``stream_models``."""
    with both_with_stream_models(tmp_path_factory.mktemp("streams")) as engines:
        yield engines
