"""Which Triton a test wants: the command line, the ini file and the marker, put together."""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from triton_stub.engines.box import check_gpus, check_size

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from triton_stub.core.host import Isolation

MARKER = (
    "triton(*, repository=None, models=None, isolation=None): what the fixture `triton` serves to "
    "this test. "
    "repository: folder of models, relative to the test file; that of the command line or the ini "
    "file unless given. models: list of the models to load; all unless given. isolation: thread or "
    "process, in which instances run; as for all tests unless given."
)
ENGINES = ("stub", "native", "container")
ISOLATIONS: tuple[Isolation, ...] = ("thread", "process")
_DEFAULT_REPOSITORY = "model_repository"
_URL = re.compile(r"https?://[^/\s]+(/\S*)?")
_ADDRESS = re.compile(r"[^/\s]+:\d+")


@dataclass(frozen=True, slots=True)
class ContainerOptions:
    """Of the engine `container`; None where the engine's own are meant."""

    image: str | None = None
    gpus: str | None = None
    shm_size: str | None = None

    def given(self) -> dict[str, Any]:
        """What somebody has said, as keywords of ``ContainerEngine``."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """What tells one engine from another; ``models`` None loads all.

    ``engine`` is one of ``ENGINES``, or the URL of a server. ``isolation`` is where instances of
    the stub run; those of the real server have processes.
    """

    engine: str
    repository: Path
    models: tuple[str, ...] | None
    # For error texts: who named the repository.
    source: str = field(compare=False)
    isolation: Isolation = "thread"


def engine_name(config: pytest.Config) -> str:
    """The engine of this test run; UsageError if there is no such engine."""
    option = config.getoption("triton_engine")
    name: str = option or config.getini("triton_engine")
    if name in ENGINES or _URL.fullmatch(name):
        return name
    source = "--triton-engine=" if option else "ini option triton_engine = "
    raise pytest.UsageError(
        f"{source}{name}: expected {', '.join(ENGINES)}, or the URL of a server, such as "
        "http://localhost:8000"
    )


def container_options(config: pytest.Config) -> ContainerOptions:
    """What to start containers with in this test run; UsageError if Docker cannot know it."""
    return ContainerOptions(
        image=_either(config, "triton_image", str),
        gpus=_either(config, "triton_gpus", check_gpus),
        shm_size=_either(config, "triton_shm_size", check_size),
    )


def grpc_url(config: pytest.Config) -> str | None:
    """Where the server behind a URL has gRPC, if somebody says it; UsageError if it is wrong."""
    return _either(config, "triton_grpc_url", _check_address)


def _either(config: pytest.Config, name: str, check: Callable[[str], str | None]) -> str | None:
    """What the command line says, or else the ini file; None if neither does."""
    option = config.getoption(name)
    text = option or config.getini(name)
    try:
        return check(text) if text else None
    except ValueError as error:
        source = f"--{name.replace('_', '-')}=" if option else f"ini option {name} = "
        raise pytest.UsageError(f"{source}{error}") from None


def _check_address(address: str) -> str:
    bare = address.removeprefix("grpc://")
    if not _ADDRESS.fullmatch(bare):
        raise ValueError(f"{address}: expected host:port, such as localhost:8001")
    return bare


def isolation(config: pytest.Config) -> Isolation:
    """Where instances of the stub run in this test run; UsageError if that is nowhere."""
    option = config.getoption("triton_isolation")
    source = "--triton-isolation=" if option else "ini option triton_isolation = "
    return _isolation(option or config.getini("triton_isolation"), source)


def _isolation(name: object, source: str) -> Isolation:
    for known in ISOLATIONS:
        if name == known:
            return known
    raise pytest.UsageError(f"{source}{name}: expected {' or '.join(ISOLATIONS)}")


def timeout(config: pytest.Config) -> float | None:
    """Seconds for each wait for a model; None if nobody says so. UsageError if it is no number."""
    option: float | None = config.getoption("triton_timeout")
    text = config.getini("triton_timeout")
    source = "--triton-timeout=" if option is not None else "ini option triton_timeout = "
    given = text if option is None else option
    if option is None and not text:
        return None
    with contextlib.suppress(ValueError):
        if 0 <= (seconds := float(given)) <= threading.TIMEOUT_MAX:
            return seconds
    raise pytest.UsageError(f"{source}{given}: expected a number of seconds")


def read_spec(config: pytest.Config, mark: pytest.Mark | None, folder: Path) -> EngineSpec:
    """Put together what a test with this marker, in this folder, is to be served.

    Raises UsageError with what is wrong with the marker.
    """
    repository, models, where = (None, None, None) if mark is None else _read_mark(mark)
    if models is None and repository is None:
        # A marker that names a repository means another one than the ini file.
        models = tuple(config.getini("triton_models")) or None
    path, source = _repository(config, repository, folder)
    return EngineSpec(
        engine_name(config), path.resolve(), models, source, where or isolation(config)
    )


def _repository(
    config: pytest.Config, marked: str | os.PathLike[str] | None, folder: Path
) -> tuple[Path, str]:
    if marked is not None:
        return folder / marked, "@pytest.mark.triton(repository=...)"
    if option := config.getoption("triton_repository"):
        return config.invocation_params.dir / option, "--triton-repository"
    if ini := config.getini("triton_repository"):
        return config.rootpath / ini, "the ini option triton_repository"
    return config.rootpath / _DEFAULT_REPOSITORY, ""


def _read_mark(
    mark: pytest.Mark,
) -> tuple[str | os.PathLike[str] | None, tuple[str, ...] | None, Isolation | None]:
    unknown = [
        *map(repr, mark.args),
        *(key for key in mark.kwargs if key not in ("repository", "models", "isolation")),
    ]
    if unknown:
        raise pytest.UsageError(
            f"@pytest.mark.triton does not take {', '.join(unknown)}; expected "
            "@pytest.mark.triton(*, repository=None, models=None, isolation=None)"
        )
    repository, models = mark.kwargs.get("repository"), mark.kwargs.get("models")
    if not isinstance(repository, str | os.PathLike | None):
        raise pytest.UsageError(
            f"@pytest.mark.triton(repository={repository!r}): expected the path of a folder"
        )
    where = mark.kwargs.get("isolation")
    if where is not None:
        where = _isolation(where, "@pytest.mark.triton, isolation=")
    if models is None:
        return repository, None, where
    if isinstance(models, str) or not isinstance(models, Sequence):
        raise pytest.UsageError(
            f"@pytest.mark.triton(models={models!r}): expected a list, such as ['resnet50']"
        )
    return repository, tuple(models), where
