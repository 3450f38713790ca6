"""What is told while models load."""

import io

from patience import wait_until

from triton_stub.cli.progress import Progress
from triton_stub.core.repository.repository import ModelState


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Told:
    """A progress, and the states that it sees."""

    def __init__(self, out):
        self.rows = []
        self.out = out
        self.progress = Progress(lambda: self.rows, out)

    def look(self, *rows):
        """What is written because of these states: (name, state)."""
        self.rows = [ModelState(name, "1", state) for name, state in rows]
        before = len(self.out.getvalue())
        self.progress.look()
        return self.out.getvalue()[before:]


def test_a_line_for_each_change():
    told = Told(io.StringIO())
    assert told.look() == ""
    assert told.look(("a", "LOADING"), ("b", "LOADING")) == (
        "loading a version 1\nloading b version 1\n"
    )
    assert told.look(("a", "LOADING"), ("b", "LOADING")) == ""
    ready = told.look(("a", "LOADING"), ("b", "READY"))
    assert ready.startswith("ready b version 1 after ")
    assert ready.endswith(" s\n")
    assert told.look(("a", "UNAVAILABLE"), ("b", "READY")).startswith("failed a version 1 after ")
    assert told.look(("a", "UNAVAILABLE"), ("b", "READY")) == ""


def test_a_model_that_is_never_seen_to_load():
    told = Told(io.StringIO())
    assert [line.split()[:2] for line in told.look(("a", "READY")).splitlines()] == [
        ["loading", "a"],
        ["ready", "a"],
    ]


def test_a_model_without_a_version_was_not_tried():
    told = Told(io.StringIO())
    told.rows = [ModelState("a")]
    told.progress.look()
    assert told.out.getvalue() == ""


def test_one_line_on_a_terminal():
    told = Told(Terminal())
    assert told.look(("a", "LOADING"), ("b", "READY")) == "\r\x1b[2Kloaded 1; loading a 0 s"
    with told.progress.shown():
        wait_until(lambda: told.out.getvalue().count("loading a") > 1)
    assert told.out.getvalue().endswith("\r\x1b[2K")


def test_log_lines_stand_above_the_line():
    told = Told(Terminal())
    told.look(("a", "LOADING"))
    line = told.out.getvalue()
    log = told.progress.over(told.out)
    print("half", end="", file=log)
    assert told.out.getvalue() == line
    print(" a line", file=log, flush=True)
    assert told.out.getvalue() == f"{line}\r\x1b[2Khalf a line\n{line}"


def test_a_log_that_goes_elsewhere_is_left_alone():
    file = io.StringIO()
    assert Told(Terminal()).progress.over(file) is file
    assert Told(io.StringIO()).progress.over(file) is file


def test_a_repository_that_cannot_be_read_is_told_of_elsewhere():
    def states():
        raise FileNotFoundError("gone")

    out = io.StringIO()
    Progress(states, out).look()
    assert out.getvalue() == ""
