"""The server as a process of a model sees it: here, both sides in one process."""

import contextlib
import gc
import socket

import pytest

from triton_stub.core.host import InstanceHost, ServerHost
from triton_stub.core.log import Log
from triton_stub.core.processes.host_service import HostService
from triton_stub.core.processes.link import Link
from triton_stub.core.processes.remote_host import RemoteHost
from triton_stub.core.request import InferenceRequest, InferenceResponse
from triton_stub.errors import InferenceError, LoadError, ServerError, StatusCode
from triton_stub.pb_utils.logger import LogLevel
from triton_stub.pb_utils.metrics import MetricKind


class Models:
    """The models of a server, of which only ``good`` may be loaded."""

    def __init__(self):
        self.asked = []

    def load(self, name, parameters, **options):
        self.asked.append((name, parameters, options))
        if name != "good":
            raise LoadError("what people read", StatusCode.INVALID_ARG, told="what models read")

    def unload(self, name, **options):
        self.asked.append((name, options))

    def is_ready(self, name, version):
        return (name, version) == ("good", 1)


class Exchange:
    """A request that another model has, which answers twice."""

    def __init__(self):
        self.cancelled = False
        self.left = [False, True]

    def get(self):
        return InferenceResponse(model_name="m", model_version="1", final=self.left.pop(0))

    def cancel(self):
        self.cancelled = True


class Ends:
    """Both sides, and what is behind the server's."""

    def __init__(self, stack):
        self.log, self.models = Log(verbose=True), Models()
        self.server = ServerHost(self.log, explicit=True)
        self.server.models, self.server.ready = self.models, True
        self.host = InstanceHost(self.server, "m_0", "m")
        self.exchanges = []
        self.host.send = self.send
        self.service = HostService(self.host)
        ours, theirs = socket.socketpair()
        links = [Link(ours, self.service.calls()), Link(theirs, {})]
        for link in links:
            stack.callback(link.close)
            link.start()
        self.alone = False
        self.remote = RemoteHost(links[1], "m_0", lambda: self.alone)

    def send(self, request, decoupled):
        if request.model_name != "good":
            raise InferenceError("refused")
        self.exchanges.append((Exchange(), decoupled))
        return self.exchanges[-1][0]

    def settle(self):
        """What was told before is done when a call returns."""
        gc.collect()
        assert not self.remote.is_model_ready("none", 1)


@pytest.fixture
def ends():
    with contextlib.ExitStack() as stack:
        yield Ends(stack)


def test_lines_of_the_log(ends):
    ends.remote.log.write(LogLevel.WARNING, "one", "/a/model.py", 3)
    ends.remote.log.write_early(LogLevel.VERBOSE, "two", "/a/model.py", 4)
    ends.remote.log.note(LogLevel.ERROR, "three")
    ends.settle()
    assert [(each.level, each.message, each.file, each.early) for each in ends.log.records()] == [
        (LogLevel.WARNING, "one", "model.py", False),
        (LogLevel.VERBOSE, "two", "model.py", True),
        (LogLevel.ERROR, "three", "test_host_service.py", False),
    ]


def test_models_are_loaded_and_unloaded(ends):
    ends.remote.load_model("good", "{}", {"file:a": b"x"})
    ends.remote.unload_model("good", unload_dependents=True)
    assert ends.models.asked == [
        ("good", {"config": "{}", "file:a": b"x"}, {"loading": "m", "wait": False}),
        ("good", {"unload_dependents": True, "loading": "m", "wait": False}),
    ]
    assert ends.remote.is_model_ready("good", 1)
    with pytest.raises(ServerError) as refused:
        ends.remote.load_model("bad", "", {})
    assert (refused.value.message, refused.value.code) == (
        "what models read",
        StatusCode.INVALID_ARG,
    )


def test_metrics_live_as_long_as_their_objects(ends):
    family = ends.remote.metrics.family("n", "d", MetricKind.GAUGE)
    series = family.add({"a": "b"}, None)
    series.set(3)
    series.increment(2)
    assert series.value() == 5
    with pytest.raises(ServerError, match="does not support Observe"):
        series.observe(1)
    assert 'n{a="b"} 5' in ends.server.metrics.text()
    assert (len(ends.service._families), len(ends.service._series)) == (1, 1)
    del series
    ends.settle()
    assert not ends.service._series
    assert 'n{a="b"} 5' in ends.server.metrics.text()  # the family still has it
    family.close()
    family.close()
    ends.settle()
    assert not ends.service._families
    assert "n{" not in ends.server.metrics.text()


def test_requests_to_other_models(ends):
    exchange = ends.remote._send(InferenceRequest(model_name="good"), True)
    ((other, decoupled),) = ends.exchanges
    assert decoupled
    ends.alone = True
    assert not exchange.get().final
    assert ends.host.is_alone()
    ends.alone = False
    assert exchange.get().final
    assert not ends.host.is_alone()
    exchange.cancel()
    assert other.cancelled
    del exchange
    ends.settle()
    assert not ends.service._exchanges


def test_a_request_that_is_refused_leaves_nothing(ends):
    with pytest.raises(InferenceError, match="refused"):
        ends.remote._send(InferenceRequest(model_name="bad"), False)
    assert not ends.service._exchanges


def test_a_server_that_is_gone_is_told(ends):
    ends.remote._link.close()
    with pytest.raises(InferenceError, match="the server is gone"):
        ends.remote.is_model_ready("good", 1)
    ends.remote.log.write(LogLevel.INFO, "to nobody", "model.py", 1)
