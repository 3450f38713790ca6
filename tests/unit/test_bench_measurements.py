"""Each benchmark runs, with the stub where the real server would be, and says what it found."""

import sys
import time
from pathlib import Path

import pytest

from triton_stub.engines.stub import StubEngine

BENCH = Path(__file__).parents[1] / "bench"


class Other(StubEngine):
    """Where the real server would be."""

    name = "native"


@pytest.fixture
def settings(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    from parts import Settings

    return Settings(quick=True, rounds=1)


def test_what_a_request_costs(settings, monkeypatch):
    import overhead

    monkeypatch.setattr(overhead, "NativeEngine", Other)
    part = overhead.run(settings)
    ways = [row["way"] for row in part.rows]
    assert ways[:2] == [overhead.FLOOR, overhead.IN_PROCESS]
    assert ways[-4:] == ["stub, HTTP", "stub, gRPC", "native, HTTP", "native, gRPC"]
    assert all(row["p10"] <= row["p90"] <= row["p99"] for row in part.rows)
    (target,) = part.targets
    assert target.figure == part.rows[1]["median"]
    assert (target.at_most, target.unit) == (20, "µs")


def test_what_a_tensor_costs(settings, monkeypatch):
    import tensors

    monkeypatch.setattr(tensors, "NativeEngine", Other)
    part = tensors.run(settings)
    assert len(part.rows) == 6
    for row in part.rows:
        each = [(m - f) / 16 for f, m in zip(row["few"].rounds, row["many"].rounds, strict=True)]
        assert row["each"].rounds == tuple(each)
    in_process = part.rows[0]
    assert in_process["way"] == tensors.IN_PROCESS
    assert in_process["many"].median > in_process["few"].median


def test_requests_a_second(settings, monkeypatch):
    import endpoints

    monkeypatch.setattr(endpoints, "NativeEngine", Other)
    part = endpoints.run(settings)
    assert [(row["tensor"], row["clients"]) for row in part.rows] == [
        ("602 KB", 1), ("602 KB", 16), ("16 bytes", 1), ("16 bytes", 16),
    ]  # fmt: skip
    for row, target in zip(part.rows, part.targets, strict=True):
        assert target.figure == row["share"] == row["stub"].over(row["native"])
        assert target.at_least == 0.4
    assert [line.label for plot in part.plots for line in plot.lines] == ["stub", "native"] * 2
    assert part.plots[0].lines[1].y == [row["native"] for row in part.rows[:2]]


def test_costs(settings):
    import costs

    start, memory, copies = costs.run(settings)
    imports, again = start.targets[0], start.targets[-1]
    assert (imports.at_most, again.at_most) == (60, 15)
    assert [target.figure for target in start.targets] == [
        start.rows[number]["ms"] for number in (1, 3, 4)
    ]
    held = [row["MiB"].median for row in memory.rows]
    assert held == sorted(held)
    assert [row["held"] and row["held"].median for row in copies.rows] == [None, 1, 1, 2]
    assert [target.figure for target in copies.targets] == [row["held"] for row in copies.rows[1:3]]
    assert all(row["ratio"] == row["ms"].over(copies.rows[0]["ms"]) for row in copies.rows)


def test_two_buffers_for_one_tensor_miss_the_target(settings, monkeypatch):
    import costs

    monkeypatch.setattr(costs, "LARGE", 2**23)
    # The model has read its input twice, and answers with what it has just made.
    again = costs.ANSWERING.replace(".as_numpy()", ".as_numpy().copy()")
    again = again.replace("InferenceResponse([self.answer])", "InferenceResponse([self.fresh()])")
    again += (
        "\n    def fresh(self):\n"
        "        return pb_utils.Tensor('OUT', self.answer.as_numpy().copy())\n"
    )
    monkeypatch.setattr(costs, "ANSWERING", again)
    part = costs.copies(settings)
    assert [target.figure.median for target in part.targets] == [2, 2]
    assert [target.verdict for target in part.targets] == ["missed", "missed"]


def test_copies_are_counted(settings, monkeypatch):
    import costs
    import numpy as np

    monkeypatch.setattr(costs, "LARGE", 2**20)
    tensor = np.ones(2**20, np.uint8)
    assert [
        costs.buffers(what)
        for what in (
            lambda: None, tensor.copy, lambda: (tensor.copy(), tensor.copy()),
            tensor[: 2**19].copy,
        )
    ] == [0, 1, 2, 0.5]  # fmt: skip


def figures(rate):
    return {
        "Inferences/Second": rate, "p50 latency": 2000.0, "p99 latency": 3000.0, "mean batch": 1.5,
        "Request Count": 2 * rate,
    }  # fmt: skip


def test_gains(settings):
    import serving
    from parts import Spread

    rates = {
        ("tutorial", 1): (5, 4), ("tutorial", 16): (5, 5), ("ours", 1): (60, 44),
        ("ours", 16): (60, 60), ("other", 1): (40, 40), ("other", 16): (90, 90),
    }  # fmt: skip
    measured = {
        (owner, "resnet18", clients): [figures(rate) for rate in each]
        for (owner, clients), each in rates.items()
    }
    measured["ours directly", "resnet18", 16] = [{"Inferences/Second": rate} for rate in (64, 80)]
    owners = {"tutorial": "theirs", "ours": "ours", "other": "the other", "stub": "stub"}
    part = serving.gains(measured, owners, (1, 16), 1.0, settings)
    assert [(row["clients"], row["owner"], row["gain"].median) for row in part.rows] == [
        (1, "theirs", 1), (1, "ours", 11.5), (1, "the other", 9),
        (16, "theirs", 1), (16, "ours", 12), (16, "the other", 18),
    ]  # fmt: skip
    assert part.rows[1]["gain"] == Spread.of([12, 11])
    assert part.rows[1]["p50"].median == 2
    assert [row["count"].median for row in part.rows] == [9, 104, 80, 10, 120, 180]
    # Of the second row one round has 88 answers: none is beyond the 99th percentile.
    assert [row["p99"] and row["p99"].median for row in part.rows] == [None] * 4 + [3, 3]
    verdicts = {target.name: target.verdict for target in part.targets}
    assert list(verdicts.values()) == [
        "met", "missed", *["not measured"] * 2, "missed", "met", *["not measured"] * 2,
    ]  # fmt: skip
    assert verdicts["ResNet18, 16 clients, ours: beside the tutorial's"] == "missed"
    assert [plot.name for plot in part.plots] == ["serving-resnet18"]

    measured["stub", "resnet18", 16] = [figures(rate) for rate in (300, 400)]
    last = serving.gains(measured, owners, (16,), 1.0, settings).rows[-1]
    assert (last["owner"], last["rate"].median, last["gain"]) == ("stub", 350, None)

    part = serving.loss(measured, owners, 2)
    assert [row["kept"] for row in part.rows] == [Spread.of([60 / 64, 60 / 80])]
    assert [target.verdict for target in part.targets] == ["missed", *["not measured"] * 3]
    assert "(2)" in part.description


def test_latency_over_load(settings, tmp_path):
    import latency
    from echo import write_echo
    from load import Generator

    write_echo(tmp_path, "echo", [4])
    with StubEngine(tmp_path) as engine, Generator(1) as generator:
        offered = latency.measure(generator, engine.http_url, "echo", 50.0, settings)
    part = latency.part(offered, 50.0)
    assert [row["part"] for row in part.rows] == ["50%", "80%"]
    assert [row["Request Rate"].median for row in part.rows] == [25, 40]
    assert all(row["Request Count"].median > 10 for row in part.rows)
    # A second and a half of that is not enough for the 99th percentile.
    (plot,) = part.plots
    assert "p99 latency" not in [line.label for line in plot.lines]
    assert plot.lines[0].label == "p50 latency"
    assert plot.lines[0].x == [25, 40]


def test_a_percentile_has_an_answer_beyond_it(settings):
    import latency
    from load import opened
    from parts import Spread

    def rounds(*counts):
        spans = [[(0.0, 0.001 * n, True) for n in range(1, count + 1)] for count in counts]
        return [{**opened(each, 0.0), "Request Rate": 9} for each in spans]

    few, some, many = rounds(19, 50), rounds(20, 99), rounds(100, 200)
    part = latency.part({0.1: few, 0.5: some, 0.9: many}, 10.0)
    measured = [{q for q in (50, 90, 95, 99) if row[f"p{q} latency"]} for row in part.rows]
    assert measured == [{50, 90}, {50, 90, 95}, {50, 90, 95, 99}]
    assert part.rows[2]["p99 latency"] == latency.percentile(many, 99)
    assert latency.percentile(many, 50) == Spread.of([50.5, 100.5])
    assert {line.label: len(line.y) for line in part.plots[0].lines} == {
        "p50 latency": 3, "p90 latency": 3, "p95 latency": 2, "p99 latency": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("print('ready'); raise SystemExit(2)", "said 'ready' and ended with status 2"),
        ("print('loading')", "said 'loading' and ended with status 0"),
        ("", "said '' and ended with status 0"),
    ],
)
def test_a_script_that_does_not_become_ready(settings, code, said):
    import start

    with pytest.raises(RuntimeError, match=said):
        start.until_ready([sys.executable, "-c", code], {})


def test_the_end_of_a_process_is_no_part_of_its_start(settings):
    import start

    begin = time.perf_counter()
    code = "import time; print('ready', flush=True); time.sleep(0.5)"
    spent = start.until_ready([sys.executable, "-c", code], {})
    assert 0 < spent <= time.perf_counter() - begin - 0.5
