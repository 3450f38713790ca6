"""The benchmarks' entry: what is run, what becomes of a failure, and the page."""

import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[1] / "bench"
GOOD = """
from parts import Line, Part, Plot, Settings, Spread, Target

def run(settings):
    figure = Spread.of(range(1, settings.rounds + 1))
    return Part(
        name="good-figures",
        title="Good",
        columns={"a": "a"},
        rows=[{"a": figure}],
        targets=[Target("quick" if settings.quick else "full", figure, at_least=2)],
        plots=[Plot("good-plot", "A plot", "x", "y", [Line("l", [1], [figure])])],
    )
"""
BROKEN = "def run(settings): raise RuntimeError('it is broken')"
DEAD = "import os\ndef run(settings): os._exit(3)"


@pytest.fixture
def bench(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(BENCH))
    modules = tmp_path / "modules"
    modules.mkdir()
    for name, code in {"good_one": GOOD, "broken_one": BROKEN, "dead_one": DEAD}.items():
        (modules / f"{name}.py").write_text(code)
    monkeypatch.syspath_prepend(str(modules))
    import bench

    names = ("broken_one", "dead_one", "good_one")
    monkeypatch.setattr(bench, "BENCHMARKS", {name: f"what {name} is" for name in names})
    monkeypatch.setattr(bench, "machine", lambda: {"CPU": "some"})
    monkeypatch.setattr(bench, "PAGE", tmp_path / "page/RESULTS.md")
    bench.PAGE.parent.mkdir()
    return bench


@pytest.fixture
def run(bench, monkeypatch, tmp_path):
    def run(*arguments):
        monkeypatch.setattr(
            sys, "argv", ["bench.py", "--output", str(tmp_path / "out"), *arguments]
        )
        return bench.main()

    return run


def test_one_of_them(run, bench, tmp_path, capsys):
    assert run("good_one") == 0
    out = tmp_path / "out"
    assert sorted(str(file.relative_to(out)) for file in out.rglob("*.*")) == [
        "good-figures.json", "good-figures.md", "plots/good-plot.png", "plots/good-plot.svg",
    ]  # fmt: skip
    text = (out / "good-figures.md").read_text()
    assert text.startswith("## Good\n\nMeasured on 20")
    assert "| full | at least 2 | 2.00 (1.00 to 3.00) | met |" in text
    assert text in capsys.readouterr().out
    assert not bench.PAGE.exists()


def test_quick(run, tmp_path):
    assert run("--quick", "good_one") == 0
    text = (tmp_path / "out/good-figures.md").read_text()
    assert "| quick | at least 2 | 1.50 (1.00 to 2.00) | **missed** |" in text
    assert ": a quick run, " in text


def test_one_that_fails_fails_the_run_after_the_others(run, bench, tmp_path, capsys):
    assert run("--update-results") == 1
    told = capsys.readouterr()
    assert "RuntimeError: it is broken" in told.err
    assert "BrokenProcessPool" in told.err
    assert told.err.endswith(
        "\nbroken_one failed; see above\ndead_one failed; see above\n"
        f"{bench.PAGE} is left as it was\n"
    )
    assert (tmp_path / "out/good-figures.json").exists()
    assert not bench.PAGE.exists()


def test_parts_in_their_order_and_none_of_yesterday(run, bench, tmp_path):
    module = tmp_path / "modules/good_one.py"
    parts = "from parts import Part\ndef run(settings): return [{}]"
    module.write_text(parts.format("Part('z', 'Last'), Part('a', 'First')"))
    assert run("good_one", "--update-results") == 0
    text = bench.PAGE.read_text()
    assert text.index("## Last") < text.index("## First")
    module.write_text(parts.format("Part('m', 'Other')"))
    assert run("good_one", "--update-results") == 0
    assert [file.name for file in (tmp_path / "out").glob("*.*")] == ["m.json", "m.md"]
    assert "## First" not in bench.PAGE.read_text()


def test_nothing_is_left_of_a_part_that_is_no_more(run, tmp_path):
    out = tmp_path / "out"
    assert run("good_one") == 0
    (out / "plots/other.svg").touch()
    module = tmp_path / "modules/good_one.py"
    module.write_text(GOOD.replace("good-figures", "new").replace("good-plot", "new-plot"))
    assert run("good_one") == 0
    assert sorted(str(file.relative_to(out)) for file in out.rglob("*.*")) == [
        "new.json", "new.md", "plots/new-plot.png", "plots/new-plot.svg", "plots/other.svg",
    ]  # fmt: skip


def test_the_page(run, bench, tmp_path):
    assert run("good_one", "--update-results", "--rounds", "1") == 0
    text = bench.PAGE.read_text()
    assert "| CPU | some |" in text
    assert "\n- broken_one (what broken_one is): no result is there\n- dead_one" in text
    assert "\n- GPU: no result is there." in text
    assert "0 of 1 are met." in text
    assert "| full | at least 2 | 1.00 | **missed** |" in text
    assert "![A plot](plots/good-plot.svg)" in text
    assert [file.name for file in (bench.PAGE.parent / "plots").iterdir()] == ["good-plot.svg"]


def test_the_page_of_a_gpu(run, bench, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "gpu.md").write_text("# ResNet50 on a GPU\n\n## Target\n\n| #1 |\n")
    (out / "gpu.json").write_text("{}\n")
    assert run("good_one", "--update-results") == 0
    text = bench.PAGE.read_text()
    assert text.endswith("\n\n## ResNet50 on a GPU\n\n### Target\n\n| #1 |\n")
    assert "GPU: no result" not in text


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["bad_one"], "no benchmark is called 'bad_one'; expected broken_one, dead_one, good_one"),
        (["--rounds", "0"], "--rounds 0: expected 1 or more"),
    ],
)
def test_mistakes(run, capsys, arguments, complaint):
    with pytest.raises(SystemExit) as error:
        run(*arguments)
    assert error.value.code == 2
    assert complaint in capsys.readouterr().err


def test_pytorch_must_be_there_if_it_is_wanted(run, bench, monkeypatch, capsys):
    monkeypatch.setattr(bench.importlib.util, "find_spec", {}.get)
    with pytest.raises(SystemExit):
        run("--torch")
    assert "--torch: PyTorch is not installed" in capsys.readouterr().err


def test_every_benchmark_is_there(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    import bench

    for name in bench.BENCHMARKS:
        assert "\ndef run(settings: Settings)" in (BENCH / f"{name}.py").read_text()
