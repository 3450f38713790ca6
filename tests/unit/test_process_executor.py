"""Models in processes of their own, behind a server."""

import contextlib
import os
import signal
import threading
import time
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from instances import execute, model_class, write_files

from triton_stub import InferenceError, LoadError, Server
from triton_stub.core.clock import ManualClock
from triton_stub.engines.stub import StubEngine
from triton_stub.errors import RemoteError
from triton_stub.pb_utils.logger import LogLevel

PATIENCE = 60.0  # seconds
CONFIG = """
backend: "python"
input { name: "X" data_type: TYPE_INT32 dims: [ -1 ] }
output { name: "Y" data_type: TYPE_INT32 dims: [ -1 ] }
"""
DECOUPLED = CONFIG + "model_transaction_policy { decoupled: true }"
ITERATIVE = CONFIG + "sequence_batching { iterative_sequence: true }"
MODEL = model_class(
    """
    def initialize(self, args):
        self.kept = []
        pb_utils.Logger.log_info("hello")
    def execute(self, requests):
        x = requests[0].inputs()[0].as_numpy()
        return getattr(self, f"do_{int(x[0])}")(requests[0], x)
    def do_0(self, request, x):
        return [answer(2 * x)]
    def do_1(self, request, x):
        raise ValueError("one")
    def do_2(self, request, x):
        sender = request.get_response_sender()
        def send():
            while not request.is_cancelled():
                time.sleep(0.01)
            sender.send(answer(x + 100), 1)
        threading.Thread(target=send).start()
    def do_3(self, request, x):
        return None
    def do_4(self, request, x):
        cycle = [request]
        cycle.append(cycle)
        request.get_response_sender()
    def do_5(self, request, x):
        return [call("called", x).exec()]
    def do_6(self, request, x):
        metric = self.family.Metric(labels={"a": "b"})
        metric.increment(int(x[1]))
        return [answer(np.array([metric.value()], np.int32))]
    def do_7(self, request, x):
        return [answer(np.array([os.getpid(), os.getppid()], np.int32))]
    def do_8(self, request, x):
        return [call("itself", x).exec()]
    def do_9(self, request, x):
        ready = [pb_utils.is_model_ready(name) for name in ("called", "none")]
        return [answer(np.array(ready, np.int32))]
    """,
    """
    import os, threading, time
    def answer(y):
        return pb_utils.InferenceResponse([pb_utils.Tensor("Y", y)])
    def call(name, x):
        return pb_utils.InferenceRequest(
            model_name=name, requested_output_names=["Y"], inputs=[pb_utils.Tensor("X", x)]
        )
    """,
).replace(
    "self.kept = []",
    "self.family = pb_utils.MetricFamily('n', 'd', pb_utils.MetricFamily.COUNTER)",
)
COUNTS = execute(
    """
    sender = requests[0].get_response_sender()
    for number in range(3):
        y = pb_utils.Tensor("Y", np.full(1, number, np.int32))
        sender.send(pb_utils.InferenceResponse([y]))
    sender.send(flags=1)
    """
)
DOUBLES = execute(
    """
    return [
        pb_utils.InferenceResponse([pb_utils.Tensor("Y", 2 * r.inputs()[0].as_numpy())])
        for r in requests
    ]
    """
)
AGAIN = execute(
    """
    requests[0].set_release_flags(2 if requests[0].flags() else 1)
    y = pb_utils.Tensor("Y", np.full(1, requests[0].flags(), np.int32))
    return [None if requests[0].flags() else pb_utils.InferenceResponse([y])]
    """
)
MODELS = {
    "m": (MODEL, CONFIG),
    "itself": (MODEL, CONFIG),
    "called": (DOUBLES, CONFIG),
    "counts": (COUNTS, DECOUPLED),
    "again": (AGAIN, ITERATIVE),
}


def write_models(folder, models):
    for name, (code, config) in models.items():
        write_files(folder / name, {"1/model.py": code, "config.pbtxt": config})
    return folder


def start(folder, code, config=CONFIG, **options):
    write_models(folder, {"m": (code, config)})
    options = {"strict_model_config": True, "isolation": "process", **options}
    return Server(folder, **options)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = write_models(tmp_path_factory.mktemp("models"), MODELS)
    with Server(folder, isolation="process", response_timeout=PATIENCE) as server:
        yield server


def ask(server, *numbers, model="m"):
    return server.model(model)(X=np.array(numbers, np.int32))["Y"].tolist()


def error(server, *numbers, model="m"):
    with pytest.raises(InferenceError) as caught:
        ask(server, *numbers, model=model)
    return caught.value


def test_it_is_another_process_and_a_child_of_this_one(server):
    pid, parent = ask(server, 7)
    assert parent == os.getpid() != pid


def test_values_of_any_size_come_back_and_may_be_written_to(server):
    for count in (1, 100, 1_000_000):
        x = np.arange(count, dtype=np.int32) % 1000
        y = server.model("called")(X=x)["Y"]
        assert np.array_equal(y, 2 * x)
        assert y.flags.writeable


def test_an_exception_has_the_traceback_of_the_model_as_its_cause(server):
    raised = error(server, 1)
    assert str(raised).startswith("Failed to process the request(s) for model 'm_0', message: Val")
    assert isinstance(raised.__cause__, RemoteError)
    assert 'model.py", line' in str(raised.__cause__)
    assert str(raised.__cause__).endswith('ValueError: one\n"""')


def test_a_sender_answers_from_a_thread_and_sees_a_cancellation(server):
    responses = server.model("m").infer(inputs={"X": np.array([2], np.int32)})
    responses.cancel()
    (response,) = responses
    assert response.result()["Y"].tolist() == [102]


def test_a_dropped_sender_is_told_at_once_and_in_a_cycle_a_little_later(server):
    assert "execute returned None for this request" in str(error(server, 3))
    assert "execute returned None for this request" in str(error(server, 4))


def test_responses_of_a_decoupled_model_come_one_by_one(server):
    responses = list(server.model("counts").infer(inputs={"X": np.zeros(1, np.int32)}))
    told = [response.result()["Y"].tolist() for response in responses[:3]]
    assert told == [[0], [1], [2]]
    assert [response.final for response in responses] == [False, False, False, True]


def test_a_request_is_executed_again(server):
    assert ask(server, 0, model="again") == [0]


def test_a_process_that_ends_in_the_second_execution_is_told_as_in_the_first(tmp_path):
    # One request is executed for the second time, and one waits for its turn.
    body = """
        self.seen = getattr(self, "seen", 0) + 1
        if self.seen == 3:
            os._exit(1)
        requests[0].set_release_flags(2)
        return [None]
    """
    config = ITERATIVE.replace("true }", "true oldest { max_candidate_sequences: 2 } }")
    with start(tmp_path, execute(body, "import os"), config) as server:
        with server.hold("m"):
            x = np.zeros(1, np.int32)
            asked = [server.model("m").infer(inputs={"X": x}) for _ in range(3)]
        for answer in asked:
            with pytest.raises(InferenceError) as caught:
                next(answer)
            assert str(caught.value) == "Stub process 'm_0' is not healthy."


def test_nothing_is_left_of_requests_that_were_executed_again(tmp_path):
    with start(tmp_path, AGAIN, ITERATIVE) as server:
        for _ in range(3):
            assert ask(server, 0) == [0]
        (worker,) = server.find("m")._workers
        assert not worker._executor._open
        assert not worker._executor._again


def test_nothing_is_left_of_metrics_that_are_forgotten(server):
    (worker,) = server.find("m")._workers
    for _ in range(3):
        ask(server, 6, 0)
    ask(server, 0)  # what was told before is done by now
    assert len(worker._executor._service._series) <= 1


@pytest.mark.usefixtures("nothing_left")
def test_an_instance_that_is_given_up_before_it_has_a_process_leaves_none(tmp_path):
    blocks = model_class("def initialize(self, args):\n    time.sleep(600)", STUCK)
    with start(tmp_path, DOUBLES) as server:
        write_models(tmp_path, {"m": (blocks, CONFIG)})
        model = server.find("m")
        (worker,) = model._new_workers(model._wanted(model.config))
        worker._executor.give_up()
        worker.start()
        assert str(worker.load_error(PATIENCE)) == "Stub process 'm_0' is not healthy."
        worker.join(PATIENCE)
        assert worker.has_ended()


def test_a_model_asks_another_one(server):
    assert ask(server, 5, 7) == [10, 14]


def test_a_model_that_waits_for_itself_is_told(server):
    assert "'itself_0' waits for model 'itself'" in str(error(server, 8, model="itself"))
    assert ask(server, 0, 4, model="itself") == [0, 8]


def test_metrics_are_the_servers(server):
    assert ask(server, 6, 3) == [3]
    assert ask(server, 6, 4) == [7]
    assert 'n{a="b"} 7' in server.metrics()


def test_the_log_is_the_servers(server):
    lines = [record for record in server.log().records() if record.message == "hello"]
    assert {record.file for record in lines} == {"model.py"}
    assert {record.level for record in lines} == {LogLevel.INFO}


def test_which_models_are_ready(server):
    assert ask(server, 9) == [1, 0]


def test_statistics_are_counted(server):
    (before,) = server.statistics("called")["model_stats"]
    ask(server, 1, model="called")
    (after,) = server.statistics("called")["model_stats"]
    assert after["inference_count"] == before["inference_count"] + 1


def test_many_threads_at_once(server):
    wrong = []

    def run(number):
        told = [ask(server, number, model="called") for _ in range(50)]
        wrong.extend(each for each in told if each != [2 * number])

    threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_bfloat16_and_texts(tmp_path):
    config = """
        backend: "python"
        input [ { name: "B" data_type: TYPE_BF16 dims: [ -1 ] },
                { name: "S" data_type: TYPE_STRING dims: [ -1 ] } ]
        output [ { name: "B" data_type: TYPE_BF16 dims: [ -1 ] },
                 { name: "S" data_type: TYPE_STRING dims: [ -1 ] } ]
    """
    echo = execute("return [pb_utils.InferenceResponse(r.inputs()) for r in requests]")
    big = np.arange(100_000).astype(ml_dtypes.bfloat16)
    texts = np.array([b"\0", "ü".encode(), b""], object)
    with start(tmp_path, echo, config) as server:
        result = server.model("m")(B=big, S=texts)
    assert result["B"].dtype == ml_dtypes.bfloat16
    assert np.array_equal(result["B"], big)
    assert result["S"].tolist() == texts.tolist()


def test_a_clock_that_a_test_drives(tmp_path):
    with start(tmp_path, DOUBLES, clock=ManualClock()) as server:
        assert ask(server, 4) == [8]
        (model,) = server.statistics("m")["model_stats"]
    assert model["inference_stats"]["compute_infer"]["ns"] == 0


def test_an_exception_of_initialize_is_the_cause_of_the_load_error(tmp_path):
    code = model_class("def initialize(self, args):\n    raise OSError('no weights')")
    write_models(tmp_path, {"m": (code, CONFIG)})
    with pytest.raises(LoadError, match="OSError: no weights") as caught:
        StubEngine(tmp_path, isolation="process")
    assert isinstance(caught.value.__cause__, RemoteError)
    assert 'model.py", line 6, in initialize' in str(caught.value.__cause__)
    assert str(caught.value.__cause__).endswith('OSError: no weights\n"""')


def children():
    """Processes that this one has started, dead ones too if nobody has waited for them."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            name, _, rest = path.read_text().rpartition(")")
            if int(rest.split()[1]) == os.getpid():
                found.add(int(name.split()[0]))
    return found


@pytest.fixture
def nothing_left():
    before = children()
    yield
    until = time.monotonic() + PATIENCE
    while left := children() - before:
        assert time.monotonic() < until, left
        time.sleep(0.01)


def test_the_end_is_seen_also_while_what_the_model_has_forked_goes_on(tmp_path):
    body = f"""
        worker = os.fork()
        if not worker:
            time.sleep(600)
        with open({str(tmp_path / "pid")!r}, "w") as file:
            file.write(str(worker))
        os._exit(1)
    """
    with start(tmp_path, execute(body, "import os, time")) as server:
        assert str(error(server, 0)) == "Stub process 'm_0' is not healthy."
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


STUCK = "import threading, time\n"
LATE = {
    "auto_complete_config": (False, "Model 'm' is in auto_complete_config, at"),
    "initialize": (True, "Instance 'm_0' is in initialize, at"),
}


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize("method", LATE)
def test_a_model_that_does_not_load_is_given_up(tmp_path, method):
    static = "@staticmethod\n" if method == "auto_complete_config" else ""
    parameters = "config" if static else "self, args"
    code = model_class(f"{static}def {method}({parameters}):\n    time.sleep(600)", STUCK)
    strict, told = LATE[method]
    with pytest.raises(LoadError, match="the model was not loaded within 5 s") as caught:
        start(tmp_path, code, strict_model_config=strict, load_timeout=5.0).start()
    assert told in str(caught.value)
    assert "time.sleep(600)" in str(caught.value)


@pytest.mark.usefixtures("nothing_left")
def test_a_thread_that_auto_complete_config_leaves_is_told(tmp_path):
    body = """
        @staticmethod
        def auto_complete_config(config):
            threading.Thread(target=time.sleep, args=[600], name="left").start()
            return config
    """
    with pytest.raises(LoadError, match="2 s after auto_complete_config") as caught:
        start(
            tmp_path, model_class(body, STUCK), strict_model_config=False, exit_timeout=2.0
        ).start()
    assert "thread 'left'" in str(caught.value)


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("time.sleep(600)", "Instance 'm_0' is in finalize, at"),
        (
            "threading.Thread(target=time.sleep, args=[600], name='left').start()",
            "Instance 'm_0' is done, but has left running thread 'left'",
        ),
    ],
)
def test_a_model_that_does_not_end_is_given_up(tmp_path, body, told):
    code = model_class(f"def finalize(self):\n    {body}", STUCK)
    server = start(tmp_path, code, exit_timeout=2.0)
    with server:
        pass
    assert told in str(server.log())


def test_a_daemon_thread_ends_with_the_process(tmp_path):
    body = "threading.Thread(target=time.sleep, args=[600], daemon=True).start()"
    server = start(tmp_path, model_class(f"def finalize(self):\n    {body}", STUCK))
    with server:
        pass
    assert "successfully unloaded 'm'" in str(server.log())
    assert "daemon" not in str(server.log())


def test_who_waits_is_told_where_the_model_is(tmp_path):
    code = execute("time.sleep(600)", STUCK)
    server = start(tmp_path, code, response_timeout=2.0, exit_timeout=2.0)
    with server:
        told = str(error(server, 0))
    assert "Instance 'm_0' is in execute, at" in told
    assert "time.sleep(600)" in told


def test_is_ready_is_asked_in_the_process(tmp_path):
    body = """
        ready = False
        def execute(self, requests):
            self.ready = True
            return [pb_utils.InferenceResponse() for _ in requests]
        def is_ready(self):
            return self.ready
    """
    with start(tmp_path, model_class(body)) as server:
        assert not server.model("m").ready()
        server.model("m")(X=np.zeros(1, np.int32))
        assert server.model("m").ready()


def test_a_model_loads_another_one_in_initialize(tmp_path):
    code = model_class("def initialize(self, args):\n    pb_utils.load_model('other')")
    write_models(tmp_path, {"other": (DOUBLES, CONFIG)})
    options = {"model_control_mode": "explicit", "startup_models": []}
    with start(tmp_path, code, **options) as server:
        server.load("m")
        assert ask(server, 3, model="other") == [6]
