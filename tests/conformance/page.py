"""The page ``RESULTS.md``: what is shown by which case, and with which result."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from probing import NEWER_TEXTS

CASES, EXAMPLES, TRAPS = 400, 2000, 30
SAME, DEVIATION, NEWER = "same", "deviation", "newer"
_SECTIONS = {
    "1": "Names and signatures",
    "2": "The objects of a model",
    "3": "The life of a model",
    "4": "Triton around the model",
    "5": "Ports, clients, the command line",
    "trap": "Mistakes that an imitation makes first",
    "example": "Models of the Python backend's own examples",
}


@dataclass(frozen=True)
class Case:
    """One test with one set of parameters that compares, or shows a difference.

    Attributes:
        test: ``test_file.py::test_name``, without the parameters.
        result: ``same``, ``deviation`` or ``newer``; a case that finds another difference fails.
        rules: ids of the rules that it shows.
        deviations: keys of the deviations that it shows.
        newer: release and source of what is newer than the real server, if it shows that.
        examples: how many random examples it draws in a run of every day.
    """

    test: str
    result: str
    rules: tuple[str, ...] = ()
    deviations: tuple[str, ...] = ()
    newer: tuple[str, str] | None = None
    examples: int = 0


@dataclass(frozen=True)
class Surface:
    """One name of the two modules, or one member of a class, as both were seen to have it."""

    name: str
    signature: str
    test: str
    result: str


@dataclass
class Facts:
    """All that a whole run of the suite has shown."""

    rules: Mapping[str, str]
    deviations: Mapping[str, str]
    cases: list[Case] = field(default_factory=list)
    surface: list[Surface] = field(default_factory=list)

    def problems(self) -> list[str]:
        """What the run has not shown, and had to."""
        shown = {rule for case in self.cases for rule in case.rules}
        keys = {key for case in self.cases for key in case.deviations}
        examples = sum(case.examples for case in self.cases)
        traps = sum(rule.startswith("trap-") for rule in self.rules)
        found = [f"no case shows the rule {rule}" for rule in self.rules if rule not in shown]
        found += [
            f"no case shows the deviation {key}" for key in self.deviations if key not in keys
        ]
        for count, least, what in (
            (len(self.cases), CASES, "cases"),
            (examples, EXAMPLES, "random examples"),
            (traps, TRAPS, "rules trap-NN"),
        ):
            if count < least:
                found.append(f"{count} {what}, and at least {least} are required")
        return found

    def page(self) -> str:
        """The whole text; the same for the same facts."""
        return "\n".join(
            [
                "# What the conformance suite shows\n",
                "Written by `nox -s conformance -- --update-results`, and compared by every "
                "complete run. The real server is tritonserver 2.51 (24.10). A result is",
                "",
                "- **same**: asked of both, and the answers are equal,",
                "- **deviation**: different on purpose, see the README's known differences,",
                "- **newer**: as a release after 2.51 does it, shown on the stub alone.",
                "",
                "Any other difference fails the run.",
                "",
                *self._totals(),
                *self._newer(),
                *self._deviations(),
                *self._surface(),
                *self._rules(),
            ]
        )

    def _totals(self) -> list[str]:
        results = Counter(case.result for case in self.cases)
        examples = sum(case.examples for case in self.cases)
        names = Counter(row.result.partition(" ")[0] for row in self.surface)
        return [
            *_table(
                ("", "all", SAME, DEVIATION, NEWER, "unexplained"),
                [
                    ("cases", len(self.cases), *(results[kind] for kind in _RESULTS), 0),
                    ("random examples", examples, examples, 0, 0, 0),
                    (
                        "names and members",
                        len(self.surface),
                        *(names[kind] for kind in _RESULTS),
                        0,
                    ),
                ],
            ),
            "",
        ]

    def _newer(self) -> list[str]:
        cases = defaultdict(list)
        for case in self.cases:
            if case.newer:
                cases[case.newer].append(case)
        rows = [(release, source, _tests(cases)) for (release, source), cases in cases.items()]
        texts = [(release, source, "(texts)") for release, source, _, _ in NEWER_TEXTS]
        return [
            "## Newer than the real server of this suite\n",
            *_table(("since", "source", "cases"), sorted({*rows, *texts}, key=_by_release)),
            "",
        ]

    def _deviations(self) -> list[str]:
        rows = []
        for key, what in self.deviations.items():
            cases = [case for case in self.cases if key in case.deviations]
            rows.append((key, what, _tests(cases)))
        return ["## Deviations\n", *_table(("key", "what", "cases"), rows), ""]

    def _surface(self) -> list[str]:
        rows = [
            (f"`{row.name}`", f"`{row.signature}`" if row.signature else "", row.test, row.result)
            for row in self.surface
        ]
        return ["## Names\n", *_table(("name", "signature", "case", "result"), rows), ""]

    def _rules(self) -> list[str]:
        lines = []
        for section, title in _SECTIONS.items():
            rows = []
            for rule, sentence in self.rules.items():
                if rule.startswith(section):
                    cases = [case for case in self.cases if rule in case.rules]
                    results = sorted({case.result for case in cases}, key=_RESULTS.index)
                    rows.append((rule, sentence, _tests(cases), ", ".join(results)))
            lines += [f"## {title}\n", *_table(("rule", "", "cases", "result"), rows), ""]
        return lines


_RESULTS = (SAME, DEVIATION, NEWER)


def _tests(cases: Iterable[Case]) -> str:
    """Tests by name, with the number of their cases if it is more than one."""
    counts = sorted(Counter(case.test for case in cases).items())
    return "<br>".join(f"{test} ({n})" if n > 1 else test for test, n in counts)


def _by_release(row: tuple[str, str, str]) -> tuple[tuple[int, ...], str, str]:
    return tuple(map(int, row[0].split("."))), row[1], row[2]


def _table(head: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> list[str]:
    cells = [head, ("---",) * len(head), *rows]
    return [
        f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in row)} |" for row in cells
    ]
