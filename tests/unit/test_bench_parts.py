"""Benchmarks: figures with their spread, the order of measurements, targets."""

from pathlib import Path

import numpy as np
import pytest

BENCH = Path(__file__).parents[1] / "bench"


@pytest.fixture
def parts(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    import parts

    return parts


def test_a_spread(parts):
    spread = parts.Spread.of([12.34, 11.9, 12.8])
    assert (spread.median, spread.least, spread.greatest) == (12.34, 11.9, 12.8)
    assert str(spread) == "12.3 (11.9 to 12.8)"


@pytest.mark.parametrize(
    ("rounds", "text"),
    [
        ([1234.5, 1000.0, 2000.6], "1,234 (1,000 to 2,001)"),
        ([1.234], "1.23"),
        ([0.01234, 0.02], "0.0162 (0.0123 to 0.0200)"),
        ([0.0], "0.00"),
    ],
)
def test_three_figures_of_each(parts, rounds, text):
    assert str(parts.Spread.of(rounds)) == text


def test_a_spread_of_nothing(parts):
    with pytest.raises(ValueError, match="no rounds; expected at least one figure; measure one"):
        parts.Spread.of([])


def test_ratios_are_those_of_each_round(parts):
    # The second round was disturbed, and both sides of it: their ratio was not.
    fast, slow = parts.Spread.of([10, 2, 12]), parts.Spread.of([5, 1, 4])
    assert fast.over(slow) == parts.Spread.of([2, 2, 3])
    with pytest.raises(ValueError, match="zip"):
        fast.over(parts.Spread.of([1]))
    assert fast.times(0.5) == parts.Spread.of([5, 1, 6])


def test_all_ways_in_every_round(parts):
    order = []

    def way(name):
        order.append(name)
        return len(order)

    ways = {name: (lambda name=name: way(name)) for name in "abc"}
    measured = parts.interleaved(ways, 3)
    assert "".join(order) == "abc" + "cba" + "abc"
    assert measured == {"a": [1, 6, 7], "b": [2, 5, 8], "c": [3, 4, 9]}


@pytest.mark.parametrize(
    ("bound", "rounds", "verdict", "words"),
    [
        ({"at_least": 2}, [2.0, 1.0, 3.0], "met", "at least 2 ms"),
        ({"at_least": 2}, [1.9, 1.9, 9.0], "missed", "at least 2 ms"),
        ({"at_most": 2.5}, [2.5, 1.0, 9.0], "met", "at most 2.5 ms"),
        ({"at_most": 2.5}, [1.0, 2.6, 2.6], "missed", "at most 2.5 ms"),
    ],
)
def test_the_median_decides(parts, bound, rounds, verdict, words):
    target = parts.Target("t", parts.Spread.of(rounds), unit="ms", **bound)
    assert target.verdict == verdict
    assert target.met is (verdict == "met")
    assert target.bound == words


def test_a_target_without_a_figure(parts):
    target = parts.Target("t", None, at_least=1, why="There is no GPU.")
    assert (target.met, target.verdict) == (None, "not measured")
    with pytest.raises(ValueError, match="'t' has no figure; expected why"):
        parts.Target("t", None, at_least=1)


@pytest.mark.parametrize("bounds", [{}, {"at_least": 1, "at_most": 2}])
def test_a_target_has_one_bound(parts, bounds):
    with pytest.raises(ValueError, match="expected one of at_least and at_most"):
        parts.Target("t", parts.Spread.of([1]), **bounds)


def test_quick_or_not(parts):
    assert parts.Settings().pick("full", "quick") == "full"
    assert parts.Settings(quick=True).pick("full", "quick") == "quick"


def test_json_there_and_back(parts):
    spread = parts.Spread.of([1, 2, 4])
    part = parts.Part(
        name="n",
        title="t",
        description="d",
        columns={"a": "A"},
        rows=[{"a": spread, "b": np.float32(0.5), "c": None, "d": [1, {"e": "f"}]}],
        targets=[parts.Target("x", spread, at_most=1), parts.Target("y", None, at_most=1, why="w")],
        plots=[
            parts.Plot("p", "P", "x", "y", [parts.Line("l", (1, 2), [spread, spread])], {"z": 3.0})
        ],
        absent=["nothing"],
        measured={"date": "2026-01-01"},
    )
    text = part.to_json()
    again = parts.Part.from_json(text)
    assert again.to_json() == text
    assert again.rows[0] == {"a": spread, "b": 0.5, "c": None, "d": [1, {"e": "f"}]}
    assert again.targets == part.targets
    assert again.plots[0].lines[0].y == [spread, spread]
    assert '"median": 2.0' in text
    assert '"verdict": "missed"' in text
