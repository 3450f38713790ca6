"""Any changes of a repository, and any loads and unloads: the same models serve on both engines."""

from __future__ import annotations

import contextlib
import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from broken_models import CONFIG
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from mortal import touch
from probing import drawn
from repositories import BROKEN, Two, add, control, seen, two_engines, write, write_ensemble

from triton_stub.engines.engine import Engine

_NUMBERS = itertools.count()
MODELS = ["a", "b"]
ENSEMBLES = ["e", "f"]
# Under each of them there is a version: see deviations.FORGOTTEN_REASON.
POLICIES = ["latest { num_versions: 1 }", "latest { num_versions: 2 }", "all { }"]
NAMES = st.sampled_from([*MODELS, *ENSEMBLES])
VERSIONS = st.integers(1, 3)


def fill(folder: Path) -> None:
    write(folder, "unused")


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    with two_engines(tmp_path_factory.mktemp("drawn"), fill) as engines:
        yield engines


class Repository(RuleBasedStateMachine):
    """Models a and b, and ensembles e and f of them, with names of this run alone."""

    engines: Two

    def __init__(self) -> None:
        super().__init__()
        self.number = next(_NUMBERS)
        for folder in self.folders:
            for name in MODELS:
                write(folder, self.name(name))
            write_ensemble(folder, self.name("e"), self.name("a"), self.name("b"))
            write_ensemble(folder, self.name("f"), self.name("e"), self.name("a"))

    @property
    def folders(self) -> tuple[Path, Path]:
        return self.engines.stub_folder, self.engines.native_folder

    def name(self, name: str) -> str:
        return f"{name}{self.number}"

    @property
    def names(self) -> list[str]:
        return [self.name(name) for name in (*MODELS, *ENSEMBLES)]

    @rule(name=st.sampled_from(MODELS), version=VERSIONS, number=st.integers(1, 9))
    def write_version(self, name: str, version: int, number: int) -> None:
        self.write(name, version, add(number))

    @rule(name=st.sampled_from(MODELS), version=VERSIONS, number=st.integers(1, 9))
    def fail_once(self, name: str, version: int, number: int) -> None:
        self.write(name, version, BROKEN)
        self.same("load", name)
        self.write(name, version, add(number))
        self.same("load", name)

    @rule(name=st.sampled_from(MODELS), version=VERSIONS)
    def remove_version(self, name: str, version: int) -> None:
        for folder in self.folders:
            model = folder / self.name(name)
            if len(list(model.glob("[0-9]"))) > 1:
                shutil.rmtree(model / str(version), ignore_errors=True)
                touch(model)

    @rule(name=st.sampled_from(MODELS), policy=st.sampled_from(POLICIES))
    def change_policy(self, name: str, policy: str) -> None:
        for folder in self.folders:
            path = folder / self.name(name) / "config.pbtxt"
            path.write_text(f"{CONFIG} version_policy {{ {policy} }}")
            touch(path)

    @rule(name=NAMES)
    def load(self, name: str) -> None:
        self.same("load", name)

    @rule(name=NAMES, unload_dependents=st.booleans())
    def unload(self, name: str, *, unload_dependents: bool) -> None:
        self.same("unload", name, unload_dependents=unload_dependents)

    def write(self, name: str, version: int, text: str) -> None:
        for folder in self.folders:
            path = folder / self.name(name) / str(version) / "model.py"
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
            touch(path)

    def same(self, action: str, name: str, **parameters: Any) -> None:
        def ask(engine: Engine, _: Path) -> Any:
            told = control(engine, action, self.name(name), **parameters)
            # The frames of a failure are other cases'.
            return str(told).partition("\\n")[0], seen(engine, self.names)

        self.engines.same(ask)

    def teardown(self) -> None:
        for engine in self.engines[:2]:
            for name in self.names:
                control(engine, "unload", name)
        for folder, name in itertools.product(self.folders, self.names):
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(folder / name)


@pytest.mark.rule("4.11-random")
@pytest.mark.examples(4)
def test_any_changes_loads_and_unloads(two: Two) -> None:
    class OfThese(Repository):
        engines = two

    run_state_machine_as_test(OfThese, settings=drawn(4, stateful_step_count=16))
