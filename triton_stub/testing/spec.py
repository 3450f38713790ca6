"""Which Triton a test wants: the command line, the ini file and the marker, put together."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from triton_stub.core.host import Isolation

MARKER = (
    "triton(*, repository=None, models=None, isolation=None): what the fixture `triton` serves to "
    "this test. "
    "repository: folder of models, relative to the test file; that of the command line or the ini "
    "file unless given. models: list of the models to load; all unless given. isolation: thread or "
    "process, in which instances run; as for all tests unless given."
)
ENGINES = ("stub", "native")
ISOLATIONS: tuple[Isolation, ...] = ("thread", "process")
_DEFAULT_REPOSITORY = "model_repository"


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """What tells one engine from another; ``models`` None loads all.

    ``isolation`` is where instances of the stub run; those of the real server have processes.
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
    if name in ENGINES:
        return name
    source = "--triton-engine=" if option else "ini option triton_engine = "
    hint = ""
    if name == "container" or "://" in name:
        hint = "; containers and URLs are not among the engines of this release"
    raise pytest.UsageError(f"{source}{name}: expected {' or '.join(ENGINES)}{hint}")


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
