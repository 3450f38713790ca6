"""Ensembles and their steps: what is loaded and unloaded with what, and what is said of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mortal import touch
from repositories import (
    BROKEN,
    Two,
    add,
    control,
    lines,
    seen,
    two_engines,
    write,
    write_ensemble,
)

from triton_stub.engines.engine import Engine
from triton_stub.engines.stub import StubEngine

Step = str | Callable[[Path], object]


def fill(folder: Path) -> None:
    write(folder, "a")
    write(folder, "b", v1=add(10))
    write(folder, "c", v1=add(100))
    write(folder, "two", v1=add(1), v2=add(2))
    write(folder, "broken", v1=BROKEN)
    write(folder, "garbled", "nonsense: 1")
    write_ensemble(folder, "ab", "a", "b")
    write_ensemble(folder, "aa", "a", "a")
    write_ensemble(folder, "abc", "ab", "c")
    write_ensemble(folder, "ac", "a", "c")
    write_ensemble(folder, "gone", "a", "nobody")
    write_ensemble(folder, "several_gone", "nobody", "a", "nothing")
    write_ensemble(folder, "with_broken", "a", "broken")
    write_ensemble(folder, "with_garbled", "a", "garbled")
    write_ensemble(folder, "version_1", "a", "two:1")
    write_ensemble(folder, "version_2", "a", "two:2")
    write_ensemble(folder, "version_7", "two:7")
    write_ensemble(folder, "itself", "itself")
    write_ensemble(folder, "ring_of_2", "ring_of_2_b")
    write_ensemble(folder, "ring_of_2_b", "ring_of_2")
    write_ensemble(folder, "misnamed_input", "a")
    config = folder / "misnamed_input" / "config.pbtxt"
    config.write_text(config.read_text().replace('key: "IN"', 'key: "X"'))
    write_ensemble(folder, "on_misnamed_input", "misnamed_input")
    write_ensemble(folder, "no_version", "a")
    (folder / "no_version" / "1").rmdir()


def changed(path: str) -> Step:
    return lambda folder: touch(folder / path)


def written(path: str, text: str) -> Step:
    def write_it(folder: Path) -> None:
        (folder / path).write_text(text)
        touch(folder / path)

    return write_it


def removed(path: str) -> Step:
    return lambda folder: (folder / path).rename(_aside(folder, path))


def _aside(folder: Path, path: str) -> Path:
    return folder.parent / f"{folder.name} {path.replace('/', ' ')}"


def back(path: str) -> Step:
    return lambda folder: _aside(folder, path).rename(folder / path)


# "load x", "unload x", and "drop x": with unload_dependents.
CASES: dict[str, tuple[str, list[Step]]] = {
    "steps come along": ("ensemble-loads-steps", ["load ab", "load ab"]),
    "steps stay": ("unload-leaves-steps", ["load ab", "unload ab", "load ab"]),
    "steps go along": ("unload-dependents", ["load ab", "drop ab"]),
    "a step that was loaded before": ("unload-dependents", ["load a", "load ab", "drop ab"]),
    "a step that was asked for later": ("asked-for-later", ["load ab", "load a", "drop ab"]),
    "a step that was asked for anew": (
        "unload-dependents", ["load ab", changed("a/1/model.py"), "load a", "drop ab"]),
    "a step of another ensemble": ("unload-dependents", ["load ab", "load ac", "drop ab"]),
    "a step goes": ("step-goes", ["load ab", "unload a", "load b"]),
    "a step goes and comes": ("step-comes", ["load ab", "unload a", "load a", "unload ab"]),
    "a step goes with dependents": ("step-goes", ["load ab", "drop a", "load a"]),
    "one step twice": ("ensemble-loads-steps", ["load aa", "drop aa"]),
    "an ensemble of an ensemble": ("nested", ["load abc", "drop abc"]),
    "an inner ensemble goes": ("nested", ["load abc", "unload ab", "load ab"]),
    "a step of an inner ensemble goes": ("nested", ["load abc", "unload b", "load b"]),
    "an inner ensemble was loaded before": ("nested", ["load ab", "load abc", "drop abc"]),
    "a step changes": (
        "step-changes", ["load ab", written("b/1/model.py", add(20)), "load b",
                         written("b/1/model.py", add(10)), "load ab"]),
    "a step breaks": (
        "step-breaks", ["load ab", written("b/1/model.py", BROKEN), "load b", "load ab",
                        written("b/1/model.py", add(10)), "load b"]),
    "a step has gone from disk": (
        "step-not-there", ["load ab", removed("b"), "load ab", changed("ab/config.pbtxt"),
                           "load ab", back("b"), "load b"]),
    "no such step": ("step-not-there", ["load gone", "load gone", "load a", changed("a/1/model.py"),
                                        "load a"]),
    "no such steps": ("step-not-there", ["load several_gone"]),
    "a broken step": ("step-fails", ["load with_broken", "load with_broken", "unload a"]),
    "a garbled step": ("step-not-polled", ["load with_garbled", "load garbled"]),
    "another version": ("step-version", ["load version_1", "load version_2", "load version_7"]),
    "a version that goes": (
        "step-version", ["load version_2", removed("two/2"), "load two", back("two/2"),
                         changed("two/2/model.py"), "load two"]),
    "itself": ("ring", ["load itself", "load itself"]),
    "a ring": ("ring", ["load ring_of_2", "load ring_of_2_b"]),
    "checked beside its steps": ("checked-beside-steps", ["load misnamed_input", "load b"]),
    "a step that is not valid": ("step-not-valid", ["load on_misnamed_input"]),
    "no version": ("ensemble-version", ["load no_version"]),
}  # fmt: skip
NAMES = [
    "a", "b", "c", "two", "broken", "garbled", "ab", "aa", "abc", "ac", "gone", "several_gone",
    "with_broken", "with_garbled", "version_1", "version_2", "version_7", "itself", "ring_of_2",
    "ring_of_2_b", "misnamed_input", "on_misnamed_input", "no_version",
]  # fmt: skip


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    with two_engines(tmp_path_factory.mktemp("dependents"), fill) as engines:
        yield engines


def run(engine: Engine, folder: Path, steps: list[Step]) -> list[Any]:
    """What comes of each step; afterwards the server knows no model, and may be asked again."""
    told = []
    try:
        for step in steps:
            if callable(step):
                step(folder)
                continue
            action, name = step.split()
            if action == "load":
                told.append(control(engine, "load", name))
            else:
                told.append(control(engine, "unload", name, unload_dependents=action == "drop"))
            told.append({n: rows for n, rows in seen(engine, NAMES).items() if rows and rows[0][1]})
    finally:
        for name in NAMES:
            control(engine, "unload", name)
        seen(engine, NAMES)
    return told


@pytest.mark.rule("4.11-step-fails")
@pytest.mark.deviation("forgotten-reason")
def test_a_step_that_has_failed_before(tmp_path: Path) -> None:
    fill(tmp_path)
    with StubEngine(tmp_path, models=[], exit_on_error=False) as engine:
        assert control(engine, "load", "with_broken")
        touch(tmp_path / "a" / "1" / "model.py")
        before = engine.log()
        assert control(engine, "load", "a") == ""
        said = lines(engine, ["with_broken"], before)
    text = "ensemble 'with_broken' depends on 'broken' which has no loaded version."
    assert said == [f"Invalid argument: {text}"]


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.rule(f"4.11-{CASES[name][0]}")) for name in CASES],
)
def test_an_ensemble_and_its_steps(two: Two, name: str) -> None:
    two.same(lambda engine, folder: run(engine, folder, CASES[name][1]))
