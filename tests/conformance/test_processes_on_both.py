"""Instances in processes of their own: ``isolation="process"`` beside the real server."""

from __future__ import annotations

import contextlib
import textwrap
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from broken_models import both_engines, reasons, write_models
from comparing import Engines, outcome
from mortal import custom_metrics, unloaded
from observed import counted, settled, statistics
from patience import wait_until

from triton_stub.engines.engine import Engine
from triton_stub.engines.stub import StubEngine
from triton_stub.errors import InferenceError, LoadError

CONFIG = """
backend: "python"
input { name: "CODE" data_type: TYPE_STRING dims: [ 1 ] }
output { name: "OUT" data_type: TYPE_STRING dims: [ -1 ] }
"""
DECOUPLED = CONFIG + "model_transaction_policy { decoupled: true }"
TWO = CONFIG + "instance_group { count: 2 }"
HEAD = """
import dataclasses, inspect, multiprocessing, os, pickle, signal, sys, threading, time, typing
import numpy as np
import triton_python_backend_utils as pb_utils

@dataclasses.dataclass
class Point:
    x: "int" = 0

def double(number: "int") -> "Point":
    return 2 * number

def response(*values):
    values = np.array([str(value).encode() for value in values], object)
    return pb_utils.InferenceResponse([pb_utils.Tensor("OUT", values)])

def together(folder):
    # Comes back once two executions are in here at once, or after a minute.
    open(os.path.join(folder, str(os.getpid())), "w").close()
    until = time.monotonic() + 60
    while len(os.listdir(folder)) < 2 and time.monotonic() < until:
        time.sleep(0.01)
    return sorted(os.listdir(folder)).index(str(os.getpid())), len(os.listdir(folder))

class TritonPythonModel:
"""
# Runs what it is sent; the last line is an expression, and None stands for no answer.
EXECUTE = """
    def execute(self, requests):
        *lines, last = requests[0].inputs()[0].as_numpy()[0].decode().splitlines()
        names = {**globals(), "self": self, "request": requests[0]}
        exec("\\n".join(lines), names)
        value = eval(last, names)
        return None if value is None else [response(value)]
"""
MODEL = HEAD + EXECUTE
DEATHS = {
    "exit_0": "os._exit(0)",
    "exit_1": "os._exit(1)",
    "abort": "os.abort()",
    "segv": "os.kill(os.getpid(), signal.SIGSEGV)",
    "kill": "os.kill(os.getpid(), signal.SIGKILL)",
}
AT_LOAD = {
    "at_import": HEAD.replace("class TritonPythonModel", "os._exit(1)\nclass No") + EXECUTE,
    "at_construction": HEAD + "    def __init__(self):\n        os._exit(1)\n",
    "at_initialize": HEAD + "    def initialize(self, args):\n        os.abort()\n",
}
LAST_WORDS = HEAD + "    def finalize(self):\n        os._exit(1)\n" + EXECUTE
SINGLE = [*DEATHS, "own", "again", "counted", "measured", "dead", "alive"]
LOADED = [*SINGLE, "last_words", "two", "pair", "stream", "kept"]


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    folder = tmp_path_factory.mktemp("processes")
    write_models(
        folder, {**dict.fromkeys(SINGLE, MODEL), **AT_LOAD, "last_words": LAST_WORDS}, CONFIG
    )
    write_models(folder, dict.fromkeys(("two", "pair"), MODEL), TWO)
    write_models(folder, dict.fromkeys(("stream", "kept"), MODEL), DECOUPLED)
    options = ["--model-control-mode=explicit", "--load-model=*", "--exit-timeout-secs=1"]
    with both_engines(
        folder,
        options=options,
        strict=True,
        isolation="process",
        model_control_mode="explicit",
        startup_models=[*LOADED, *AT_LOAD],
    ) as engines:
        yield engines


def ask(engine: Engine, model: str, code: str) -> str:
    """What the last line of the code is, in the model."""
    array = np.array([textwrap.dedent(code).strip().encode()], object)
    return engine.infer(model, CODE=array)["OUT"][0].decode()


def stream(engine: Engine, model: str, code: str) -> list[Any]:
    """Every response to the code: a text, or an error."""
    array = np.array([textwrap.dedent(code).strip().encode()], object)
    return [
        {"error": answer.message}
        if isinstance(answer, InferenceError)
        else [text.decode() for text in answer["OUT"]]
        for answer in engine.stream(model, CODE=array)
    ]


def manage(engine: Engine, action: str, name: str) -> None:
    """Load or unload a model."""
    if isinstance(engine, StubEngine):
        getattr(engine.server, action)(name)
        return
    with engine.client() as client:
        getattr(client, f"{action}_model")(name)


@pytest.mark.rule("4.15-own-process", "3.10-main-thread", "3.10-modules", "3.1.1-argv")
@pytest.mark.parametrize(
    "code",
    [
        "threading.current_thread() is threading.main_thread()",
        "sys.argv, sys.path[0], [os.path.basename(path) for path in sys.path[-3:]]",
        "__name__, type(self).__module__",
        "sys.modules['1.model'].TritonPythonModel is type(self)",
        "sys.modules['triton_python_backend_utils'] is pb_utils",
        "typing.get_type_hints(double)['return'] is Point",
        "inspect.getsource(double).splitlines()[0]",
        "pickle.loads(pickle.dumps(Point(7)))",
        "pickle.loads(pickle.dumps(double)) is double",
    ],
)
def test_modules_are_those_of_the_process(engines: Engines, code: str) -> None:
    assert "Error" not in engines.same(lambda engine: ask(engine, "own", code))


@pytest.mark.rule("4.15-pool")
def test_a_pool_runs_functions_of_the_model(engines: Engines) -> None:
    # Without terminate(), which needs SIGTERM: neither engine's processes end of that.
    code = """
        pool = multiprocessing.get_context("fork").Pool(2)
        doubled = pool.map(double, [1, 2, 3])
        pool.close()
        pool.join()
        doubled
    """
    assert engines.same(lambda engine: ask(engine, "own", code)) == "[2, 4, 6]"


@pytest.mark.rule("4.15-environment")
def test_the_environment_and_the_working_directory_are_the_instances_own(
    engines: Engines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TRITON_STUB_CASE", raising=False)

    def body(engine: Engine) -> Any:
        change = f"os.chdir({str(tmp_path)!r})\nos.environ.update(TRITON_STUB_CASE='mine')\n"
        code = "os.getcwd(), os.environ.get('TRITON_STUB_CASE')"
        changed = ask(
            engine, "own", f"before = os.getcwd()\n{change}after = {code}\nos.chdir(before)\nafter"
        )
        return changed, ask(engine, "again", code).endswith(", None)")

    told, stays = engines.same(body)
    assert told == f"({str(tmp_path)!r}, 'mine')"
    assert stays
    assert Path.cwd() != tmp_path


@pytest.mark.rule("4.15-signals", "3.1.1-signals")
@pytest.mark.parametrize("name", ["SIGUSR1", "SIGTERM"])
def test_a_handler_of_the_models_own(engines: Engines, name: str) -> None:
    code = f"""
        got = []
        before = signal.signal(signal.{name}, lambda number, frame: got.append(number))
        os.kill(os.getpid(), signal.{name})
        time.sleep(0.01)
        got == [signal.{name}]
    """
    assert engines.same(lambda engine: ask(engine, "own", code)) == "True"


@pytest.mark.rule("3.1.1-signals")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_for_the_server_does_not_end_an_instance(engines: Engines, name: str) -> None:
    code = f"os.kill(os.getpid(), signal.{name})\ntime.sleep(0.01)\n'alive'"
    assert engines.same(lambda engine: ask(engine, "again", code)) == "alive"


@pytest.mark.rule("4.15-parallel")
def test_two_instances_execute_at_once(engines: Engines, tmp_path: Path) -> None:
    def body(engine: Engine) -> Any:
        folder = tmp_path / engine.name
        folder.mkdir()
        with ThreadPoolExecutor(2) as pool:
            code = f"together({str(folder)!r})"
            return sorted(pool.map(lambda _: ask(engine, "two", code), range(2)))

    assert engines.same(body) == ["(0, 2)", "(1, 2)"]


@pytest.mark.rule("3.9-unhealthy", "4.15-crash-kinds", "4.15-others-go-on")
def test_a_process_that_dies_is_not_healthy_any_more(engines: Engines) -> None:
    def die(engine: Engine, name: str) -> Any:
        first = outcome(lambda engine: ask(engine, name, DEATHS[name]), engine)
        return first, outcome(lambda engine: ask(engine, name, "1"), engine)

    def body(engine: Engine) -> Any:
        with ThreadPoolExecutor(len(DEATHS)) as pool:
            told = list(pool.map(lambda name: die(engine, name), DEATHS))
        return told, ask(engine, "again", "'others go on'")

    told, others = engines.same(body)
    for name, answers in zip(DEATHS, told, strict=True):
        assert answers == [{"error": f"Stub process '{name}_0' is not healthy.", "status": 500}] * 2
    assert others == "others go on"


@pytest.mark.rule("4.15-crash-counted")
def test_what_is_counted_of_a_process_that_dies(engines: Engines) -> None:
    def body(engine: Engine) -> Any:
        codes = ["1", "os._exit(1)", "1"]
        return [outcome(lambda engine, code=code: ask(engine, "counted", code), engine)  # type: ignore[misc]
                for code in codes]  # fmt: skip

    def counts(engine: Engine) -> Any:
        ours = {key: count for key, count in counted(engine).items() if "counted" in str(key)}
        return statistics(engine, "counted")["model_stats"], ours

    engines.same(body)
    (row,), _ = settled(engines, counts)
    assert row["execution_count"] == 1
    assert row["inference_stats"]["fail"] == {"count": 2}


@pytest.mark.rule("4.15-crash-metrics")
def test_metrics_of_a_process_that_dies(engines: Engines) -> None:
    count = """
        self.family = pb_utils.MetricFamily("words", "d", pb_utils.MetricFamily.COUNTER)
        self.metric = self.family.Metric(labels={"a": "b"})
        self.metric.increment(2)
        self.metric.value()
    """

    def body(engine: Engine) -> Any:
        told = [ask(engine, "measured", count)]
        outcome(lambda engine: ask(engine, "measured", "os._exit(1)"), engine)
        told.append(custom_metrics(engine))
        # The real server may never have done with this, and so it is not waited for.
        manage(engine, "unload", "measured")
        manage(engine, "load", "measured")
        return [*told, ask(engine, "measured", count), custom_metrics(engine)]

    first, page, second, _ = engines.same(body)
    assert (first, second) == ("2.0", "4.0")
    assert 'words{a="b"} 2' in page


@pytest.mark.rule("4.15-crash-pair")
def test_the_other_instance_goes_on(engines: Engines) -> None:
    def body(engine: Engine) -> Any:
        told = {str(outcome(lambda engine: ask(engine, "pair", "os._exit(1)"), engine))}
        for _ in range(20):
            told.add(str(outcome(lambda engine: ask(engine, "pair", "1"), engine)))
            if len(told) == 2:
                break
        # Which of the two has died, is a matter of chance.
        return sorted(text.replace("_0_1", "_0_0") for text in told)

    assert engines.same(body) == [
        "1",
        "{'error': \"Stub process 'pair_0_0' is not healthy.\", 'status': 500}",
    ]


@pytest.mark.rule("3.9-no-restart", "4.15-reload")
def test_a_model_that_is_loaded_again_is_healthy(engines: Engines) -> None:
    def body(engine: Engine) -> Any:
        told = outcome(lambda engine: ask(engine, "again", "os._exit(3)"), engine)
        manage(engine, "unload", "again")
        manage(engine, "load", "again")
        return told, ask(engine, "again", "'healthy'")

    assert engines.same(body)[1] == "healthy"


@pytest.mark.rule("4.15-crash-unload")
@pytest.mark.deviation("dead-unload")
def test_a_model_that_is_unloaded_after_its_process_has_died(engines: Engines) -> None:
    states: dict[str, str] = {}
    for engine in engines:
        outcome(lambda engine: ask(engine, "dead", "os._exit(1)"), engine)
        manage(engine, "unload", "dead")
        manage(engine, "unload", "alive")
        wait_until(lambda engine=engine: unloaded(engine, "alive") == 1)  # type: ignore[misc]
        with engine.client() as client:
            rows = client.get_model_repository_index()
        states[engine.name] = next(row["state"] for row in rows if row["name"] == "dead")
    assert states == {"stub": "UNAVAILABLE", "native": "UNLOADING"}


@pytest.mark.rule("4.15-not-ready")
@pytest.mark.newer("25.12", "python_backend src/python_be.cc, TRITONBACKEND_ModelInstanceReady")
def test_a_model_without_its_process_is_not_ready(engines: Engines) -> None:
    stub = engines.stub
    assert stub.ready("own")
    with pytest.raises(InferenceError, match="is not healthy"):
        ask(stub, "kill", DEATHS["kill"])
    assert not stub.ready("kill")


@pytest.mark.rule("3.3-hard-exit", "4.15-crash-load")
def test_a_process_that_dies_while_the_model_loads(engines: Engines) -> None:
    told = engines.same(lambda engine: [reasons(engine)[name] for name in AT_LOAD])
    assert told == [f"Internal: Stub process '{name}_0' is not healthy." for name in AT_LOAD]


@pytest.mark.rule("3.5-crash", "4.15-crash-finalize")
def test_a_process_that_dies_in_finalize_is_unloaded(engines: Engines) -> None:
    def body(engine: Engine) -> Any:
        manage(engine, "unload", "last_words")
        wait_until(lambda: unloaded(engine, "last_words") == 1)
        manage(engine, "load", "last_words")
        return ask(engine, "last_words", "'again'")

    assert engines.same(body) == "again"


@pytest.mark.rule("4.15-crash-stream")
def test_a_process_that_dies_in_the_middle_of_a_stream(engines: Engines) -> None:
    code = """
        request.get_response_sender().send(response("first"))
        time.sleep(0.5)
        os._exit(1)
    """
    told = engines.same(lambda engine: stream(engine, "stream", code))
    assert told == [["first"], {"error": "Stub process 'stream_0' is not healthy."}]


@pytest.mark.deviation("lost-process")
def test_a_process_that_dies_with_a_request_that_it_has_kept(engines: Engines) -> None:
    stub = engines.stub
    kept: list[Any] = []
    code = "self.kept = request.get_response_sender()\nself.kept.send(response('kept'))\nNone"
    began = threading.Event()

    def keep() -> None:
        for answer in stub.stream("kept", CODE=np.array([code.encode()], object)):
            kept.append(answer)
            began.set()

    client = threading.Thread(target=keep)
    client.start()
    assert began.wait(60)
    with contextlib.suppress(InferenceError):
        stream(stub, "kept", "os._exit(9)")
    client.join()
    assert kept[0]["OUT"] == [b"kept"]
    assert "'kept_0' ended with status 9, and had kept this request" in kept[1].message
    assert "the real server waits for its answer for ever" in kept[1].message


@pytest.mark.deviation("lost-process")
def test_a_process_that_dies_in_auto_complete_config(tmp_path: Path) -> None:
    body = "    @staticmethod\n    def auto_complete_config(config):\n        os.abort()\n"
    write_models(tmp_path, {"m": HEAD + body}, CONFIG)
    with pytest.raises(LoadError, match="auto_complete_config of model 'm' was killed by SIGABRT"):
        StubEngine(tmp_path, isolation="process")
