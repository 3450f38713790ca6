"""The workflows only call nox and ci/, and what they call is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
SESSION = re.compile(r"^@nox\.session\ndef (\w+)", re.MULTILINE)
SESSIONS = set(SESSION.findall((ROOT / "noxfile.py").read_text()))
INSTALLS = "python -m pip install nox uv"
NOX = re.compile(r"python -m nox -s (?P<sessions>[\w ]+)")
SCRIPT = re.compile(r"(?:sudo --preserve-env )?(?P<script>ci/\w+\.sh)")


def test_there_are_workflows_and_sessions():
    assert [path.name for path in WORKFLOWS] == ["ci.yml", "gpu.yml"]
    assert {"unit", "lint", "types", "conformance", "e2e"} <= SESSIONS


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_they_only_call_nox_and_ci(path):
    commands = re.findall(r"^\s*(?:- )?run: (.+)$", path.read_text(), re.MULTILINE)
    assert commands
    for command in commands:
        if nox := NOX.fullmatch(command):
            assert set(nox["sessions"].split()) <= SESSIONS
        elif script := SCRIPT.fullmatch(command):
            assert (ROOT / script["script"]).stat().st_mode & 0o100, "no program"
        else:
            assert command == INSTALLS


def test_every_session_that_must_pass_runs_in_some_workflow():
    text = "\n".join(path.read_text() for path in WORKFLOWS)
    run = {name for names in NOX.findall(text) for name in names.split()}
    # By way of ci/e2e.sh.
    run |= {"e2e"} if "ci/e2e.sh" in text else set()
    required = re.search(r"\n +sessions=\(([a-z][\w ]+)\)", (ROOT / ".ci/run").read_text())
    assert set(required[1].split()) <= run
