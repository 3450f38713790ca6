"""The list of deliberate deviations: complete, used, shown, and printed in the README.

``python tests/unit/test_deviations.py`` writes the README's table anew.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import triton_stub
from triton_stub import deviations
from triton_stub.deviations import Deviation

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
PACKAGE = Path(triton_stub.__file__).parent
HEADING = "### Known differences\n"
NAMES = {name: entry for name, entry in vars(deviations).items() if isinstance(entry, Deviation)}
# The table is the whole of the lines that begin with a bar.
TABLE = re.compile(rf"(?<={re.escape(HEADING)})((?:[^|\n].*\n|\n)*)((?:\|.*\n)+)")


def table() -> str:
    """The README's table as the list says it."""
    rows = [("what", "the real server", "here", "why"), ("---",) * 4]
    rows += [(entry.what, entry.server, entry.stub, entry.why) for entry in deviations.ALL]
    return "".join(f"| {' | '.join(row)} |\n".replace(" --- ", "---") for row in rows)


def marked_keys() -> set[str]:
    """Keys that cases of the conformance suite are marked with."""
    found: set[str] = set()
    for path in (ROOT / "tests" / "conformance").glob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.deviation":
                found |= {ast.literal_eval(key) for key in node.args}
    return found


def test_every_entry_is_in_the_list_and_has_a_key_of_its_own():
    assert list(deviations.ALL) == list(NAMES.values())
    assert len({entry.key for entry in deviations.ALL}) == len(deviations.ALL)


@pytest.mark.parametrize("name", NAMES)
def test_every_entry_is_referred_to_where_the_code_deviates(name):
    sources = [path for path in PACKAGE.rglob("*.py") if path.name != "deviations.py"]
    assert any(re.search(rf"\bdeviations\.{name}\b", path.read_text()) for path in sources)


def test_what_the_code_refers_to_is_an_entry():
    for path in PACKAGE.rglob("*.py"):
        named = re.findall(r"\bdeviations\.([A-Z_]+)\b", path.read_text())
        assert set(named) - {"ALL"} <= NAMES.keys(), path


def test_every_entry_has_its_conformance_case_and_every_mark_its_entry():
    assert marked_keys() == {entry.key for entry in deviations.ALL}


def test_the_readme_has_the_table():
    found = TABLE.search(README.read_text())
    assert found is not None
    assert found[2] == table(), f"run: python {Path(__file__).relative_to(ROOT)}"


@pytest.mark.parametrize("entry", deviations.ALL, ids=lambda entry: entry.key)
def test_every_entry_fits_into_a_row_and_into_a_sentence(entry):
    words = (entry.what, entry.server, entry.stub, entry.why)
    assert all(word and "\n" not in word and "|" not in word for word in words)
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", entry.key)
    assert not entry.server.endswith(".")


def test_an_error_says_what_happened_what_the_server_does_and_what_to_do():
    entry = Deviation("key", "what", "dies", "stub", "why")
    assert entry.text("It broke", "Mend it.") == "It broke: the real server dies. Mend it."


if __name__ == "__main__":
    README.write_text(TABLE.sub(lambda found: found[1] + table(), README.read_text()))
