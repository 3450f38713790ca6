"""Benchmarks: the page and its plots say what was measured."""

from pathlib import Path

import pytest

BENCH = Path(__file__).parents[1] / "bench"
MACHINE = {"CPU": "eight of them", "Python": "3"}


@pytest.fixture
def parts(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    import parts

    return parts


@pytest.fixture
def page(parts):
    import page

    return page


def measured_on(machine):
    return {
        "date": "2026-02-03", "took": 12.3, "quick": False, "machine": machine, "benchmark": "b",
    }  # fmt: skip


@pytest.fixture
def part(parts):
    return parts.Part(
        name="speed",
        title="Speed",
        description="How fast it is.",
        columns={"what": "what", "a": "a second"},
        rows=[
            {"what": "this | that", "a": parts.Spread.of([1, 2, 3]), "more": 1},
            {"what": "other", "a": None},
            {"what": "third", "a": 0.123},
        ],
        targets=[
            parts.Target("fast", parts.Spread.of([3.0]), at_least=2, unit="ms"),
            parts.Target("small", parts.Spread.of([9.0]), at_most=2, why="Tried: all."),
            parts.Target("there", None, at_most=2, why="No such thing."),
        ],
        plots=[parts.Plot("speed-plot", "Speed over time", "s", "m", [])],
        absent=["moons: there are none"],
        measured=measured_on(MACHINE),
    )


def test_a_section(page, part):
    assert page.section(part) == (
        "## Speed\n\n"
        "How fast it is.\n\n"
        "Measured on 2026-02-03: 3 rounds, 12 s.\n\n"
        "| what | a second |\n"
        "| --- | --- |\n"
        "| this \\| that | 2.00 (1.00 to 3.00) |\n"
        "| other |  |\n"
        "| third | 0.12 |\n\n"
        "| target | wanted | measured | verdict |\n"
        "| --- | --- | --- | --- |\n"
        "| fast | at least 2 ms | 3.00 | met |\n"
        "| small | at most 2 | 9.00 | **missed** |\n"
        "| there | at most 2 |  | not measured |\n\n"
        "- small: missed. Tried: all.\n"
        "- there: not measured. No such thing.\n\n"
        "- Not measured: moons: there are none\n\n"
        "![Speed over time](plots/speed-plot.svg)\n"
    )


def test_a_quick_run_says_so(page, part):
    part.measured["quick"] = True
    assert "Measured on 2026-02-03: a quick run, 12 s." in page.section(part)


@pytest.mark.parametrize(
    ("counts", "said"), [([1], "1 round"), ([2, 2], "2 rounds"), ([15, 3], "3 to 15 rounds")]
)
def test_the_rounds_of_its_figures(page, parts, part, counts, said):
    part.rows = [{"what": "this", "a": parts.Spread.of(range(count))} for count in counts]
    assert f"Measured on 2026-02-03: {said}, 12 s." in page.section(part)


def test_figures_of_one_value_are_of_one_round(page, part):
    part.rows = [{"what": "this", "a": 1.5}]
    assert "Measured on 2026-02-03: 1 round, 12 s." in page.section(part)


def test_the_page(page, part):
    text = page.page([part], MACHINE, ["GPU: there is none"])
    assert text.startswith(page.INTRODUCTION)
    assert "| CPU | eight of them |\n| Python | 3 |\n" in text
    assert "\n## Not measured\n\n- GPU: there is none\n" in text
    assert "\n## All targets\n\n1 of 3 are met.\n\n| target |" in text
    assert text.count("| small | at most 2 | 9.00 | **missed** |") == 2
    assert page.section(part) in text
    assert "was measured where" not in text


def test_a_part_from_elsewhere(page, part):
    part.measured = measured_on({"CPU": "one", "System": "other"})
    assert (
        "“Speed” was measured where other things were so: "
        "CPU: one, Python: not told, System: other." in page.page([part], MACHINE)
    )


@pytest.fixture
def plot(parts):
    some, others = (
        [parts.Spread.of([height, height * 2]) for height in heights]
        for heights in ((1, 2), (3, 40))
    )
    return parts.Plot(
        name="plot",
        title="A title",
        x_label="clients",
        y_label="requests a second",
        lines=[parts.Line("some", (1, 16), some), parts.Line("others", (1, 16), others)],
        peaks={"the peak": 50.0},
    )


def test_plots_are_drawn(parts, plot, tmp_path):
    import plots

    files = plots.draw(plot, tmp_path / "new")
    assert files == [tmp_path / "new/plot.svg", tmp_path / "new/plot.png"]
    text = files[0].read_text()
    for word in ("A title", "clients", "requests a second", "some", "others", "the peak", ">16<"):
        assert word in text
    assert files[1].read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("log", [{}, {"log_x": True}, {"log_y": True}])
def test_the_same_figures_make_the_same_file(parts, plot, tmp_path, log):
    import dataclasses

    import plots

    plot = dataclasses.replace(plot, **log)
    first, second = (
        plots.draw(plot, tmp_path / name, ["svg"])[0].read_bytes() for name in ("a", "b")
    )
    assert first == second
    assert b"<dc:date>" not in first
