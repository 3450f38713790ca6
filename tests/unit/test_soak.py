"""A short run of the soak test, and that it would notice."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[1] / "bench"


def test_everything_adds_up():
    command = [sys.executable, str(BENCH / "soak.py"), "--seconds=2.5", "--clients=16"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr
    assert done.stderr == ""
    assert done.stdout.endswith("\neverything adds up\n")
    asked = re.findall(r"^ *([0-9]+) .*  (\w+)$", done.stdout, re.MULTILINE)
    assert len({name for _, name in asked}) == 20
    assert all(int(count) for count, _ in asked)


@pytest.fixture
def soak(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    import soak

    return soak


@pytest.fixture
def account(soak):
    from soak_clients import Account

    return Account(1)


def asked(account, name):
    from soak_clients import plan

    return next(plan(account, name))


@pytest.mark.parametrize("name", ["plain", "batched", "fails", "direct"])
def test_a_client_notices_what_is_wrong(account, name):
    one = asked(account, name)
    account.judge(name, one, one.answers, 1)
    assert account.wrong == []
    account.judge(name, one, asked(account, name).answers, 1)  # somebody else's
    account.judge(name, one, [], 1)
    account.judge(name, one, one.answers * 2, 1)
    account.judge(name, one, one.answers, 0)
    account.judge(name, one, one.answers, 2)
    assert len(account.wrong) == 5


def test_a_client_notices_a_model_that_should_be_there(account):
    account.refused("plain_restless")
    assert account.wrong == []
    account.refused("plain")
    assert account.wrong == ["plain: refused, and nobody has unloaded it"]


def test_numbers_that_do_not_fit_together(soak):
    counts = {("plain", "answered"): 2, ("plain", "rows"): 2, ("plain", "responses"): 2}
    totals = {("plain", "success"): 2, ("plain", "inferences"): 2, ("plain", "executions"): 2}
    done = {("plain", "requests"): 2, ("plain", "responses"): 2, ("plain", "executions"): 2}
    count = soak.Counter
    assert soak.adds_up(count(counts), count(totals), count(done)) == []
    for which in (counts, totals, done):
        for key in which:
            which[key] += 1
            (wrong,) = soak.adds_up(count(counts), count(totals), count(done))
            assert wrong.startswith("plain: clients have counted ")
            which[key] -= 1


@pytest.mark.parametrize(
    ("memory", "threads", "wrong"),
    [
        (lambda second: 100.0, lambda second: 40, 0),
        (lambda second: 100 + 0.1 * second, lambda second: 40 + second % 3, 0),
        (lambda second: 100 + second, lambda second: 40, 1),
        (lambda second: 100.0, lambda second: 40 + second, 1),
        (lambda second: max(100, 80 + second), lambda second: 40, 1),
    ],
)
def test_growth(soak, memory, threads, wrong):
    samples = [(float(second), memory(second), threads(second)) for second in range(60)]
    assert len(soak.flat(samples)) == wrong
