"""Sums up what a run of the whole suite has shown, and holds ``RESULTS.md`` against it.

A pytest plugin. A test is a case if it asks both engines, or is marked as a deviation or as newer
than the real server. A test that is marked with a rule must be a case. With pytest-xdist each
worker tells what its files have shown, and the process that started them puts it together.
"""

from __future__ import annotations

import functools
import pickle
import re
import tomllib
from collections import Counter, defaultdict
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cli_process import Process
from hypothesis.statistics import collector
from page import DEVIATION, EXAMPLES, NEWER, SAME, Case, Facts, Surface

from triton_stub import deviations
from triton_stub.cli.parser import Parser
from triton_stub.engines.environment import NativeEnvironment
from triton_stub.engines.native import NativeEngine
from triton_stub.engines.stub import StubEngine

FOLDER = Path(__file__).parent
PAGE = FOLDER / "RESULTS.md"
UPDATE = "--update-results"
_BOTH = {"stub", "native"}
# What is called when an engine, or its program, is started.
_ASKED: tuple[tuple[str, type[Any], str], ...] = (
    ("stub", StubEngine, "__init__"),
    ("stub", Parser, "__init__"),
    ("stub", Process, "__init__"),
    ("native", NativeEngine, "__init__"),
    ("native", NativeEnvironment, "variables"),
)


class Results:
    """The plugin; one object a run."""

    def __init__(self, config: pytest.Config) -> None:
        self._update = config.getoption(UPDATE, default=False)
        self._rules: dict[str, str] = tomllib.loads((FOLDER / "rules.toml").read_text())["rules"]
        self._deviations = {entry.key: entry.what for entry in deviations.ALL}
        self._deselected = False
        self._cases: dict[str, Case] = {}
        self._surface: list[Surface] = []
        self._examples = 0
        # Files of which tests were run, also by workers.
        self._seen: set[str] = set()
        # Which engines were started: how often, and by which fixtures.
        self._starts: Counter[str] = Counter()
        self._by_fixture: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
        self._problems: list[str] = []

    def pytest_sessionstart(self) -> None:
        """Watch which engines are started."""
        for kind, owner, name in _ASKED:
            self._watch(kind, owner, name)

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """A mark that names nothing is a mistake."""
        for item in _own(items):
            for mark, known in (("rule", self._rules), ("deviation", self._deviations)):
                for name in _marked(item, mark):
                    if name not in known:
                        raise pytest.UsageError(f"{item.nodeid}: there is no {mark} {name!r}")

    def pytest_deselected(self) -> None:
        """The run is not a whole one."""
        self._deselected = True

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[Any]
    ) -> Generator[None, object, object]:
        """Note which engines a fixture starts."""
        with self._starting() as started:
            value = yield
        name, place = fixturedef.argname, fixturedef.baseid
        self._by_fixture[name, place] |= started
        if name in fixturedef.argnames:  # it is made of the one in whose place it is
            self._by_fixture[name, place] |= self._asked_by_fixture(name, place.rpartition("/")[0])
        return value

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        """Note which engines a test asks, and how many examples it draws."""
        drawn: list[Any] = []
        with collector.with_value(drawn.append), self._starting() as started:
            value = yield
        if list(_own([item])):
            # Hypothesis' own plugin keeps what a test with @given says of itself.
            told = getattr(item, "hypothesis_statistics", "")
            self._examples += sum(map(int, re.findall(r"(\d+) passing", told)))
            self._examples += sum(
                example["status"] == "valid"
                for statistics in drawn
                for phase in statistics.values()
                if isinstance(phase, dict)
                for example in phase.get("test-cases", ())
            )
            self._add(item, started | self._asked_by_fixtures(item))
        return value

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write the page, or compare it; a run that shows less than it must is a failed one."""
        self._seen |= {item.path.name for item in _own(session.items)}
        if (output := getattr(session.config, "workeroutput", None)) is not None:
            told = (
                *(self._cases, self._surface, self._examples),
                *(self._seen, self._deselected, self._problems),
            )
            output["results"] = pickle.dumps(told)
            return
        missing = self._why_not_whole(session)
        if missing and not self._update:
            self._say(session, f"{PAGE.name} was not compared: {missing}")
            return
        if missing:
            self._fail(session, f"{PAGE.name} was not written: {missing}")
            return
        facts = Facts(self._rules, self._deviations, list(self._cases.values()), self._surface)
        problems = self._problems + facts.problems()
        if self._examples < EXAMPLES:
            problems.append(f"only {self._examples} random examples were drawn")
        text = facts.page()
        if self._update:
            PAGE.write_text(text)
        elif not PAGE.exists() or PAGE.read_text() != text:
            problems.append(f"{PAGE.name} is out of date: run nox -s conformance -- {UPDATE}")
        results = Counter(case.result for case in facts.cases)
        self._say(
            session,
            f"{len(facts.cases)} cases: {results[SAME]} same, {results[DEVIATION]} deviations, "
            f"{results[NEWER]} newer, 0 unexplained; {self._examples} random examples",
        )
        if problems:
            self._fail(session, "\n".join(problems))

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take what a worker has shown; one that has crashed has told nothing: a problem."""
        told = getattr(node, "workeroutput", {}).get("results")
        if told is None:
            self._problems.append(f"{node.gateway.id} has told nothing")
            return
        cases, surface, examples, seen, deselected, problems = pickle.loads(told)
        self._cases |= cases
        self._surface += surface
        self._examples += examples
        self._seen |= seen
        self._deselected |= deselected
        self._problems += problems

    def _add(self, item: pytest.Item, asked: set[str]) -> None:
        rules, keys = tuple(_marked(item, "rule")), tuple(_marked(item, "deviation"))
        newer = item.get_closest_marker("newer")
        if keys:
            result = DEVIATION
        elif newer:
            result = NEWER
        elif asked >= _BOTH:
            result = SAME
        else:
            if rules:
                self._problems.append(
                    f"{item.nodeid} shows a rule, but asks only {asked or 'none'}"
                )
            return
        test = item.nodeid.partition("[")[0].rpartition("/")[2]
        # A test that runs for one engine after the other is one case.
        callspec = getattr(item, "callspec", None)
        if callspec is None or callspec.params.get("engine") != "native":
            examples = item.get_closest_marker("examples")
            self._cases[item.nodeid] = Case(
                test,
                result,
                rules,
                keys,
                (newer.args[0], newer.args[1]) if newer and not keys else None,
                examples.args[0] if examples else 0,
            )
        for name, signature, how in dict(item.user_properties).get("surface", ()):
            self._surface.append(Surface(name, signature, test, how))

    def _asked_by_fixtures(self, item: pytest.Item) -> set[str]:
        asked: set[str] = set()
        for name in getattr(item, "fixturenames", ()):
            asked |= self._asked_by_fixture(name, item.nodeid)
        return asked

    def _asked_by_fixture(self, name: str, place: str) -> set[str]:
        """Which engines the fixture of that name starts, as seen from a test or a folder."""
        places = [
            known
            for fixture, known in self._by_fixture
            if fixture == name and place.startswith(known)
        ]
        # A fixture of the file goes before one of the same name of the folder.
        return self._by_fixture[name, max(places, key=len)] if places else set()

    def _why_not_whole(self, session: pytest.Session) -> str:
        """Why this was not a run of the whole suite; empty if it was."""
        here = {path.name for path in FOLDER.glob("test_*.py")}
        if self._deselected or any("::" in argument for argument in session.config.args):
            return "tests were deselected"
        if unseen := here - self._seen:
            return f"no test of {min(unseen)} was run"
        if session.testsfailed or session.shouldstop or session.shouldfail:
            return "tests have failed"
        return "nothing was run" if session.config.option.collectonly else ""

    def _watch(self, kind: str, owner: type[Any], name: str) -> None:
        start = getattr(owner, name)

        @functools.wraps(start)
        def started(*args: Any, **kwargs: Any) -> Any:
            self._starts[kind] += 1  # also if it fails, which may be what the test is about
            return start(*args, **kwargs)

        setattr(owner, name, started)

    @contextmanager
    def _starting(self) -> Iterator[set[str]]:
        """Engines that are started in the block; known when it ends."""
        before, started = self._starts.copy(), set[str]()
        try:
            yield started
        finally:
            started.update(self._starts - before)

    def _say(self, session: pytest.Session, text: str, **style: bool) -> None:
        reporter = session.config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            reporter.write_line(f"\n{text}", **style)

    def _fail(self, session: pytest.Session, text: str) -> None:
        self._say(session, text, red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _own(items: list[pytest.Item]) -> Iterator[pytest.Item]:
    return (item for item in items if item.path.is_relative_to(FOLDER))


def _marked(item: pytest.Item, mark: str) -> list[str]:
    return [name for marker in item.iter_markers(mark) for name in marker.args]
