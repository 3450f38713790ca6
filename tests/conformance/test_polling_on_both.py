"""A server that polls its repositories, and one that looks at them once: what changes is served."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mortal import touch
from patience import wait_until
from repositories import (
    ALL,
    BROKEN,
    Two,
    add,
    control,
    index,
    seen,
    two_engines,
    write,
    write_ensemble,
)

from triton_stub.engines.engine import Engine
from triton_stub.engines.stub import StubEngine

Change = Callable[[Path], object]
NAMES = ["a", "b", "ab", "bad", "garbled", "new", "versions"]


def fill(folder: Path) -> None:
    write(folder, "a")
    write(folder, "b", v1=add(10))
    write_ensemble(folder, "ab", "a", "b")
    write(folder, "bad", v1=BROKEN)
    write(folder, "garbled", "nonsense: 1")
    write(folder, "versions", ALL, v1=add(1), v2=add(2))
    # Always there: the real server may die when the last model goes while it polls.
    write(folder.parent / f"{folder.name}_more", "steady")


def text(path: str, content: str) -> Change:
    def change(folder: Path) -> None:
        (folder / path).write_text(content)
        touch(folder / path)

    return change


def removed(path: str) -> Change:
    def change(folder: Path) -> None:
        # At once: the real server waits for ever for a version whose file has gone already.
        gone = folder.parent / f"{folder.name} gone"
        (folder / path).rename(gone)
        shutil.rmtree(gone)

    return change


def new(name: str, config: str = ALL, **versions: str) -> Change:
    def change(folder: Path) -> None:
        # Nothing of it is to be seen before all of it is there.
        write(folder.parent / f"{folder.name} aside", name, config, **versions)
        aside = folder.parent / f"{folder.name} aside" / name
        if (folder / name).exists():
            for version in versions:
                (aside / version[1:]).rename(folder / name / version[1:])
            shutil.rmtree(aside)
        else:
            aside.rename(folder / name)

    return change


@pytest.fixture(scope="module")
def polling(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    """Both engines with a repository each that they poll, and after each change poll again."""
    with two_engines(
        tmp_path_factory.mktemp("polling"),
        fill,
        options=["--model-control-mode=poll", "--repository-poll-secs=1"],
        explicit=False,
        more=True,
        model_control_mode="poll",
    ) as engines:
        yield engines


def follows(polling: Two, *changes: Change) -> None:
    """Make changes one after the other; the real server comes to what the stub says of each."""
    assert isinstance(polling.stub, StubEngine)
    for change in changes:
        change(polling.stub_folder)
        change(polling.native_folder)
        polling.stub.server.poll_model_repository()
        expected = seen(polling.stub, NAMES)

        def told(expected: object = expected) -> bool:
            return seen(polling.native, NAMES) == expected

        try:
            wait_until(told)
        except AssertionError:
            assert seen(polling.native, NAMES) == expected  # shows both


# In this order: each begins where the last has ended.
CHANGES: dict[str, list[Change]] = {
    "nothing": [lambda _: None],
    "other code": [text("a/1/model.py", add(2))],
    "a new model": [new("new", v1=add(5))],
    "broken code, and mended": [text("b/1/model.py", BROKEN), text("b/1/model.py", add(20))],
    "a bad configuration, and a good one": [
        text("new/config.pbtxt", "nonsense: 1"), text("new/config.pbtxt", ALL)],
    "code of a model that failed": [text("bad/1/model.py", add(3))],
    "a configuration that was bad": [text("garbled/config.pbtxt", ALL)],
    "a new version, and another policy": [
        new("versions", v3=add(3)),
        text("versions/config.pbtxt", ALL.replace("all", "latest")),
        text("versions/config.pbtxt", ALL.replace("all { }", "specific { versions: [ 1, 3 ] }")),
        text("versions/config.pbtxt", ALL),
    ],
    "a version that goes": [removed("versions/3")],
    "the step of an ensemble goes and comes": [removed("b"), new("b", v1=add(30))],
    "an ensemble goes": [removed("ab")],
    "all versions go": [removed("new/1")],
    "a model goes": [removed("new")],
}  # fmt: skip


@pytest.mark.rule("4.11-poll", "4.11-index")
def test_what_becomes_of_changes(polling: Two) -> None:
    for changes in CHANGES.values():
        follows(polling, *changes)


@pytest.mark.rule("4.11-poll")
def test_a_repository_that_cannot_be_read(polling: Two) -> None:
    def told(engine: Engine) -> list[bool]:
        return [engine.ready(name) for name in NAMES]

    for folder in polling[2:]:
        (folder / "nowhere").symlink_to("nothing")
    assert isinstance(polling.stub, StubEngine)
    polling.stub.server.poll_model_repository()
    assert told(polling.stub) == [False] * len(NAMES)
    wait_until(lambda: told(polling.native) == [False] * len(NAMES))
    for folder in polling[2:]:
        (folder / "nowhere").unlink()
    follows(polling, lambda _: None)


@pytest.mark.rule("4.11-poll-only")
@pytest.mark.parametrize("action", ["load", "unload"])
def test_nobody_else_loads(polling: Two, action: str) -> None:
    told = polling.same(lambda engine, _: control(engine, action, "a"))
    assert told[0] == 503


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    """Both engines, which look at their repository when they start."""
    with two_engines(tmp_path_factory.mktemp("once"), fill, explicit=False, more=True) as engines:
        yield engines


@pytest.mark.rule("4.11-poll-only")
def test_a_server_that_looks_once(once: Two) -> None:
    once.same(lambda engine, _: seen(engine, NAMES))
    for action in ("load", "unload"):
        assert once.same(lambda engine, _, act=action: control(engine, act, "a"))[0] == 503


@pytest.mark.rule("4.11-index-ready")
def test_an_index_of_what_is_ready(once: Two) -> None:
    rows = once.same(lambda engine, _: index(engine, ready=True))
    assert {row["name"] for row in rows} == {"a", "b", "ab", "steady", "versions"}


@pytest.mark.rule("4.11-index")
def test_an_index_of_all(once: Two) -> None:
    rows = once.same(lambda engine, _: [(row["name"], row.get("version")) for row in index(engine)])
    assert rows == sorted(rows, key=lambda row: row[0])
