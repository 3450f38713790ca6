"""The whole way: models served by the engine of ``--triton-engine``, a container as a rule.

What the suites of stub and real server have asserted on both is asserted here again, of a server
as users have it; and what only a container can show.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from classify_cases import write_classify
from comparing import Engines
from mounted import MountedEngines
from resnet_cases import write_resnets
from starting import GPU, Start, container_options, kind_of

from triton_stub.engines.container import ContainerEngine, ContainerUnavailableError
from triton_stub.engines.engine import Engine
from triton_stub.engines.native import NativeEngine
from triton_stub.engines.stub import StubEngine

OWN = Path(__file__).parent / "models"
SERVED = Path(__file__).parents[1] / "conformance" / "models"
_TOLD = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    """The marks of what not every engine can show, and of the cases shared with other suites."""
    for mark in (
        "container: shows what only a container can; left out with another --triton-engine",
        "gpu: needs a GPU for the container; left out unless TRITON_STUB_GPU=1",
        "rule(id, ...): see tests/conformance",
    ):
        config.addinivalue_line("markers", mark)
    config.stash[_TOLD] = []


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what was not asked for, so that a skipped test is always one that is missing."""
    wanted = {
        "container": kind_of(config) == "container",
        "gpu": GPU,
    }
    left_out = [
        item
        for item in items
        if any(item.get_closest_marker(mark) and not yes for mark, yes in wanted.items())
    ]
    kept = [item for item in items if item not in left_out]
    # First what takes most of a GPU, as long as no other server has a part of it.
    items[:] = sorted(kept, key=lambda item: item.get_closest_marker("gpu") is None)
    config.hook.pytest_deselected(items=left_out)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print what tests have told."""
    if told := config.stash[_TOLD]:
        terminalreporter.section("what was seen")
        for text in told:
            terminalreporter.write_line(text)


@pytest.fixture(scope="session")
def tell(pytestconfig: pytest.Config) -> Callable[[str], None]:
    """Tells what a reader of the whole run wants to see: printed at its end."""
    return pytestconfig.stash[_TOLD].append


@pytest.fixture(scope="session")
def start(pytestconfig: pytest.Config) -> Start:
    """Starts the engine of this run with a repository; a container, with more options."""
    kind = kind_of(pytestconfig)

    def start(repository: Path, **options: Any) -> Engine:
        if kind == "stub":
            return StubEngine(repository, **options)
        if kind == "native":
            return NativeEngine(repository, **options)
        try:
            return ContainerEngine(repository, **{**container_options(pytestconfig), **options})
        except ContainerUnavailableError as error:
            if pytestconfig.getoption("triton_require"):
                raise
            pytest.skip(str(error))

    return start


@pytest.fixture(scope="session")
def new_repository(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Makes an empty model repository, which the user of a container can read, too."""

    def make(name: str) -> Path:
        folder = tmp_path_factory.mktemp(name)
        folder.chmod(0o755)  # pytest's own are for one user alone
        return folder

    return make


@pytest.fixture(scope="session")
def repository(new_repository: Callable[[str], Path]) -> Path:
    """All models that the shared cases ask, in one repository: a container starts in seconds."""
    folder = new_repository("models")
    write_resnets(folder)
    write_classify(folder)
    for name in ("add", "facts", "raises", "slow"):
        shutil.copytree(SERVED / name, folder / name, ignore=shutil.ignore_patterns("*.py[co]"))
    shutil.copytree(OWN, folder, dirs_exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def everywhere(
    repository: Path, start: Start, pytestconfig: pytest.Config
) -> Iterator[dict[str, Engine]]:
    """The same models on the stub, the real server on this machine, and the engine of this run."""
    with ExitStack() as stack:
        # First what may be missing.
        # By default JAX multiplies float32 on a GPU as TF32, with 10 bits (see test_on_gpu.py).
        exact = {"env": {"JAX_DEFAULT_MATMUL_PRECISION": "highest"}} if GPU else {}
        of_this_run = stack.enter_context(start(repository, **exact))
        engines = {of_this_run.name: of_this_run}
        for make in (NativeEngine, StubEngine):
            if make.__name__ != type(of_this_run).__name__:
                other = stack.enter_context(make(repository))
                engines[other.name] = other
        yield engines


@pytest.fixture(scope="session")
def engine(everywhere: dict[str, Engine]) -> Engine:
    """The engine of this run."""
    return next(iter(everywhere.values()))


@pytest.fixture(scope="session")
def engines(everywhere: dict[str, Engine], engine: Engine, repository: Path) -> Engines:
    """The stub, and the engine of this run in the place of the real server."""
    return MountedEngines.of(everywhere["stub"], engine, repository)
