"""The load generator: what it sends, when, and what it counts. Nothing here is about speed."""

import csv
import subprocess
import sys
import time
from pathlib import Path

import pytest
from patience import wait_until

from triton_stub.engines.stub import StubEngine

BENCH = Path(__file__).parents[1] / "bench"
# It refuses every request whose number it has divides by that.
REFUSING = """
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    count = 0

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        self.count += 1
        if self.count % 3 == 0:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError("every third"))
        numbers = pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()
        return pb_utils.InferenceResponse([pb_utils.Tensor("OUT", numbers)])
"""


@pytest.fixture
def load(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    import load

    return load


@pytest.fixture
def stub(load, tmp_path):
    from echo import write_echo

    write_echo(tmp_path, "echo", [4])
    write_echo(tmp_path, "refusing", [4])
    (tmp_path / "refusing/1/model.py").write_text(REFUSING)
    with StubEngine(tmp_path) as engine:
        yield engine


def counted(engine, model, result="success"):
    (row,) = engine.statistics(model)["model_stats"]
    return row["inference_stats"][result]["count"]


def test_due_at_even_distances(load):
    due = load.Load("", "", rate=4, seconds=1.5, constant=True).schedule()
    assert due == [0, 0.25, 0.5, 0.75, 1, 1.25]


def test_due_as_people_come(load):
    wanted = load.Load("", "", rate=100, seconds=50, seed=1)
    due = wanted.schedule()
    assert due == wanted.schedule()
    assert due == sorted(due)
    assert 0 < due[0] < due[-1] < 50
    # 5000 of them, give or take five standard deviations.
    assert 5000 - 354 < len(due) < 5000 + 354
    assert due != load.Load("", "", rate=100, seconds=50, seed=2).schedule()


def test_a_closed_loop_has_no_schedule(load):
    assert load.Load("", "", clients=3).schedule() is None


def test_figures_of_a_closed_loop(load):
    spans = [
        (0.0, 1.0, True),  # to warm up
        (1.0, 1.5, True),  # the clock starts at 1.0, when an answer came, not at 1.2
        (1.5, 1.7, False),
        (1.7, 2.0, True),
        (2.0, 3.1, True),  # after the end
    ]
    figures = load.closed(spans, begin=1.2, end=3.0)
    # Up to the last answer in time: what was under way at the end counts neither way.
    assert figures["Inferences/Second"] == pytest.approx(2 / 1.0)
    assert figures["Request Count"] == 2
    assert figures["Avg latency"] == pytest.approx(400_000)
    assert figures["p50 latency"] == pytest.approx(400_000)
    assert figures["p99 latency"] == pytest.approx(498_000)


def test_an_open_loop_counts_from_when_a_request_was_due(load):
    # The server stood still for two seconds; each request after the first had to wait for it.
    spans = [(9.0, 9.1, True), (10.0, 12.0, True), (10.5, 12.1, True), (11.0, 12.2, True)]
    figures = load.opened(spans, begin=10.0)
    assert figures["Request Count"] == 3
    assert figures["Inferences/Second"] == pytest.approx(3 / 2.2)
    assert figures["p50 latency"] == pytest.approx(1_600_000)


def test_nothing_answered(load):
    figures = load.closed([(0.0, 1.0, False)], begin=0.0, end=2.0)
    assert (figures["Inferences/Second"], figures["Request Count"]) == (0, 0)
    assert figures["p50 latency"] != figures["p50 latency"]  # not a number


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_closed_loop(load, stub, protocol):
    url = getattr(stub, f"{protocol}_url")
    with load.Generator(2) as generator:
        figures = generator.must(load.Load(url, "echo", 3, 0.5, protocol))
        again = generator.must(load.Load(url, "echo", 1, 0.2, protocol))
    assert list(figures) == [
        "Concurrency", "Inferences/Second", "p50 latency", "p90 latency", "p95 latency",
        "p99 latency", "Avg latency", "Request Count", "Errors",
    ]  # fmt: skip
    assert (figures["Concurrency"], again["Concurrency"]) == (3, 1)
    assert figures["Errors"] == 0
    assert 0 < figures["p50 latency"] <= figures["p99 latency"]
    # Of the four clients each has asked once to warm up.
    answered = figures["Request Count"] + again["Request Count"]
    wait_until(lambda: counted(stub, "echo") >= answered + 4)


@pytest.mark.parametrize("rate", [None, 40])
def test_looks_at_the_begin_and_at_the_end(load, stub, rate):
    looks = []

    def look():
        looks.append((time.perf_counter(), counted(stub, "echo")))

    wanted = load.Load(stub.http_url, "echo", 2, 1.0, rate=rate, constant=True)
    with load.Generator(1) as generator:
        generator.must(wanted, look)
    (begin, before), (end, after) = looks
    assert end - begin >= wanted.seconds
    assert after > before  # of the first second at least one request is answered


@pytest.mark.parametrize("shared", [False, True])
def test_an_open_loop(load, stub, shared):
    wanted = load.Load(stub.http_url, "echo", 3, 0.5, rate=40, shared=shared)
    with load.Generator(2) as generator:
        figures = generator.must(wanted)
    due = len(wanted.schedule())
    assert figures["Request Rate"] == 40
    assert figures["Request Count"] == due
    wait_until(lambda: counted(stub, "echo") == due + wanted.clients)
    with stub.client("http") as client:
        assert client.get_system_shared_memory_status() == []


def test_errors_are_counted(load, stub, capfd):
    wanted = load.Load(stub.http_url, "refusing", 2, 0.5, rate=40, constant=True)
    with load.Generator(1) as generator:
        figures = generator.run(wanted)
        # Of 22 requests every third; the first two of them were to warm up.
        assert (figures["Errors"], figures["Request Count"]) == (7, 13)
        assert "every third" in capfd.readouterr().err
        with pytest.raises(load.LoadError, match="requests failed"):
            generator.must(wanted)
        # It goes on.
        assert generator.run(load.Load(stub.http_url, "echo", 2, 0.1))["Errors"] == 0


@pytest.mark.parametrize(
    ("url", "model"), [(None, "nobody"), ("127.0.0.1:1", "echo"), ("http://a", "echo")]
)
def test_whoever_cannot_ask_at_all(load, stub, url, model, capfd):
    with load.Generator(2) as generator:
        figures = generator.run(load.Load(url or stub.http_url, model, 3, 0.1))
    assert figures["Errors"] == 3
    assert figures["Request Count"] == 0
    assert "3 errors, the first: " in capfd.readouterr().err


def test_the_command(stub):
    command = [sys.executable, str(BENCH / "load.py"), "--url", stub.http_url, "--seconds=0.2"]

    def ask(*options):
        return subprocess.run(
            [*command, *options], capture_output=True, text=True, timeout=300, check=False
        )

    done = ask("--model=echo", "--clients", "1", "2")
    assert (done.returncode, done.stderr) == (0, "")
    rows = list(csv.DictReader(done.stdout.splitlines()))
    assert [row["Concurrency"] for row in rows] == ["1", "2"]
    assert all(float(row["Inferences/Second"]) > 0 for row in rows)
    done = ask("--model=refusing", "--rates", "50")
    assert done.returncode == 1
    assert done.stdout.startswith("Request Rate,Inferences/Second,p50 latency,")
    done = ask("--model=nobody")
    assert done.returncode == 1
    assert ",nan,nan,nan,nan,nan,0,1\n" in done.stdout
    done = ask("--model=echo", "--rates", "50", "--clients", "1", "2")
    assert done.returncode == 2
    assert "expected one number of --clients" in done.stderr
