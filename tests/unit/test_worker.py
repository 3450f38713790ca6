"""One instance at work, and what becomes of its requests when it is given up."""

import threading
import time

import pytest
from instances import execute, write_files
from queued import pending, read_config

from triton_stub.core.host import ServerHost
from triton_stub.core.log import Log
from triton_stub.core.scheduling.batch_policy import BatchPolicy
from triton_stub.core.scheduling.default_scheduler import DefaultScheduler
from triton_stub.core.statistics import Statistics
from triton_stub.core.worker import Worker
from triton_stub.errors import InferenceError, LoadError
from triton_stub.runtime.instance import InstanceSpec

PATIENCE = 60.0  # seconds
ANSWER = "return [pb_utils.InferenceResponse() for _ in requests]"
# ``sys.gates`` are the test's: the model says that it has begun, and waits until it may go on.
GATES = "import sys\nbegun, gate = sys.gates"
AT_THE_GATE = "begun.set(); gate.wait()"
KEEP = "self.kept = [request.get_response_sender() for request in requests]"


class Started:
    """A worker of a model that is this text, and its queue."""

    def __init__(self, folder, code, *, ready=True):
        write_files(folder, {"1/model.py": code})
        config = read_config("")
        self.statistics = Statistics()
        self.scheduler = DefaultScheduler(BatchPolicy(config))
        spec = InstanceSpec(
            model_name="model",
            model_version="1",
            model_file=folder / "1" / "model.py",
            model_config="{}",
            instance_name="model_0",
        )
        self.worker = Worker(spec, config, self.scheduler, self.statistics, ServerHost(Log()))
        self.worker.start()
        if ready:
            assert self.worker.load_error(PATIENCE) is None

    def put(self, **options):
        request = pending(**options)
        self.scheduler.put(request)
        return request

    def wait_until_idle_but_for(self, request):
        """Wait until ``execute`` has returned, and the model alone has the request."""
        until = time.monotonic() + PATIENCE
        while self.worker._running or request not in self.worker._late:
            assert time.monotonic() < until
            time.sleep(0.001)

    def end(self):
        self.scheduler.close()
        self.worker.join(PATIENCE)
        assert self.worker.has_ended()


def answer(request):
    return request.answer.get(PATIENCE)


@pytest.fixture
def gates(monkeypatch):
    begun, gate = threading.Event(), threading.Event()
    monkeypatch.setattr("sys.gates", (begun, gate), raising=False)
    yield begun, gate
    gate.set()


def test_a_request_is_executed_counted_and_answered(tmp_path):
    started = Started(tmp_path, execute(ANSWER))
    response = answer(started.put(request_id="7"))
    assert (response.request_id, response.error, response.final) == ("7", None, True)
    assert started.statistics.to_dict()["execution_count"] == 1
    started.end()


def test_what_is_withdrawn_is_not_executed(tmp_path):
    started = Started(tmp_path, execute(ANSWER))
    request = pending()
    request.answer.withdrawn = True
    started.scheduler.put(request)
    started.end()
    assert started.statistics.to_dict()["execution_count"] == 0


def test_a_model_that_does_not_load_in_time_is_given_up(tmp_path, gates):
    begun, gate = gates
    started = Started(tmp_path, execute(ANSWER, f"{GATES}\n{AT_THE_GATE}"), ready=False)
    assert begun.wait(PATIENCE)
    error = started.worker.load_error(0.0)
    assert isinstance(error, LoadError)
    assert "was not loaded within 0 s" in str(error)
    assert started.worker.given_up
    gate.set()
    started.end()


def test_what_is_executed_is_refused_when_it_is_given_up(tmp_path, gates):
    begun, gate = gates
    started = Started(tmp_path, execute(f"{AT_THE_GATE}\n{ANSWER}", GATES))
    request = started.put()
    assert begun.wait(PATIENCE)
    started.worker.give_up(InferenceError("given up"))
    assert answer(request).error.message == "given up"
    gate.set()
    started.end()


def test_what_the_model_has_kept_is_refused_when_it_is_given_up(tmp_path):
    started = Started(tmp_path, execute(KEEP))
    request = started.put()
    started.wait_until_idle_but_for(request)
    started.worker.give_up(InferenceError("given up"))
    assert answer(request).error.message == "given up"
    started.end()


class Slow:
    """A condition whose lock is opened, and then lets something happen before one goes on."""

    def __init__(self, condition, then):
        self._condition, self._then = condition, then
        self._thread = threading.get_ident()

    def __getattr__(self, name):
        return getattr(self._condition, name)

    def __enter__(self):
        return self._condition.__enter__()

    def __exit__(self, *raised):
        self._condition.__exit__(*raised)
        if threading.get_ident() == self._thread:
            then, self._then = self._then, lambda: None
            then()


def test_what_is_kept_at_the_very_moment_is_refused_too(tmp_path, gates):
    begun, gate = gates
    started = Started(tmp_path, execute(f"{AT_THE_GATE}\n{KEEP}", GATES))
    request = started.put()
    assert begun.wait(PATIENCE)

    def return_from_execute():
        gate.set()
        started.wait_until_idle_but_for(request)

    started.worker._answered = Slow(started.worker._answered, return_from_execute)
    started.worker.give_up(InferenceError("given up"))
    assert request.answer.closed
    assert answer(request).error.message == "given up"
    started.end()
