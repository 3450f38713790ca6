"""What a run of the suite must show, and the page that says so."""

from __future__ import annotations

from dataclasses import replace
from unittest.mock import Mock

import pytest
from comparing import Engines
from page import CASES, EXAMPLES, TRAPS, Case, Facts, Surface
from results import FOLDER, Results

RULES = {"1.1-a": "A.", "2.1-b": "B|C.", **{f"trap-{n:02}": "T." for n in range(1, TRAPS + 1)}}
ALL = Case("test_a.py::test_a", "same", tuple(RULES), examples=EXAMPLES)
DIFFERENT = Case("test_a.py::test_b", "deviation", ("1.1-a",), ("key",))
NEW = Case("test_a.py::test_c", "newer", ("2.1-b",), newer=("25.04", "src/a.cc"))
CASE = Case("test_a.py::test_d", "same")


def facts(*cases: Case) -> Facts:
    more = [CASE] * (CASES - len(cases))
    return Facts(RULES, {"key": "what"}, [*cases, *more], [Surface("c.T", "T()", "t", "same")])


def test_a_whole_run_has_no_problems():
    assert facts(ALL, DIFFERENT, NEW).problems() == []


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_without_a_case(rule):
    but = replace(ALL, rules=tuple(RULES.keys() - {rule}))
    assert facts(but, replace(DIFFERENT, rules=())).problems() == [f"no case shows the rule {rule}"]


def test_a_deviation_without_a_case():
    assert facts(ALL).problems() == ["no case shows the deviation key"]


def test_too_few_cases_examples_and_traps():
    few = facts(replace(ALL, examples=7), DIFFERENT)
    few.cases.pop()
    few.rules = {name: rule for name, rule in RULES.items() if name != "trap-30"}
    assert few.problems() == [
        f"{CASES - 1} cases, and at least {CASES} are required",
        f"7 random examples, and at least {EXAMPLES} are required",
        f"{TRAPS - 1} rules trap-NN, and at least {TRAPS} are required",
    ]


def test_the_page_tells_every_rule_name_and_difference():
    page = facts(ALL, DIFFERENT, NEW).page()
    for row in (
        f"| cases | {CASES} | {CASES - 2} | 1 | 1 | 0 |",
        "| 1.1-a | A. | test_a.py::test_a<br>test_a.py::test_b | same, deviation |",
        r"| 2.1-b | B\|C. | test_a.py::test_a<br>test_a.py::test_c | same, newer |",
        "| trap-30 | T. | test_a.py::test_a | same |",
        "| key | what | test_a.py::test_b |",
        "| 25.04 | src/a.cc | test_a.py::test_c |",
        "| `c.T` | `T()` | t | same |",
    ):
        assert row in page.splitlines()


def test_the_page_does_not_depend_on_the_order_of_the_tests():
    assert facts(ALL, DIFFERENT, NEW).page() == facts(NEW, ALL, DIFFERENT).page()


@pytest.mark.parametrize("kind", ["rule", "deviation"])
def test_a_mark_that_names_nothing(request: pytest.FixtureRequest, kind: str):
    mark = getattr(pytest.mark, kind)("no-such").mark
    item = Mock(path=request.path, iter_markers=lambda name: [mark] if name == kind else [])
    with pytest.raises(pytest.UsageError, match=f"there is no {kind} 'no-such'"):
        Results(request.config).pytest_collection_modifyitems([item])


def test_workers_tell_what_their_files_have_shown(request: pytest.FixtureRequest):
    whole = Results(request.config)
    for number, case in enumerate((ALL, NEW)):
        worker = Results(request.config)
        worker._cases[case.test] = case
        worker._examples = number + 3
        worker._problems.append(f"problem {number}")
        item = Mock(path=FOLDER / f"test_{number}.py")
        session = Mock(items=[item], config=Mock(workeroutput={}))
        worker.pytest_sessionfinish(session)
        whole.pytest_testnodedown(Mock(workeroutput=session.config.workeroutput))
    assert list(whole._cases.values()) == [ALL, NEW]
    assert whole._examples == 7
    assert whole._seen == {"test_0.py", "test_1.py"}
    assert whole._problems == ["problem 0", "problem 1"]


def test_a_worker_that_has_crashed_is_a_problem(request: pytest.FixtureRequest):
    whole = Results(request.config)
    whole.pytest_testnodedown(Mock(workeroutput={}, gateway=Mock(id="gw1")))
    assert whole._problems == ["gw1 has told nothing"]


def test_which_engines_a_test_asks_is_noted(request: pytest.FixtureRequest, engines: Engines):
    plugins = request.config.pluginmanager.get_plugins()
    (results,) = (plugin for plugin in plugins if isinstance(plugin, Results))
    assert results._asked_by_fixtures(request.node) == {"stub", "native"}
