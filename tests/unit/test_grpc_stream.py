"""Streams over gRPC: what is left of them, and what the stub does where the real server hangs."""

from __future__ import annotations

import gc
import threading
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from gates import GATES
from patience import PATIENCE, wait_until
from raw_stream import EMPTY, Stream, ask, request

import triton_stub
from triton_stub import deviations
from triton_stub.endpoints.grpc import codec
from triton_stub.endpoints.grpc.asked import Asked
from triton_stub.endpoints.grpc.endpoint import GrpcEndpoint, GrpcOptions
from triton_stub.endpoints.grpc.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONFIG = """
backend: "python"
input { name: "IN" data_type: TYPE_FP32 dims: [ -1 ] }
output { name: "OUT" data_type: TYPE_FP32 dims: [ -1 ] }
"""
# gate: where to wait; silent: keep the request without an answer; error: answer with one.
ONCE = """
import json
import gates
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request, json.loads(request.parameters())) for request in requests]

    def answer(self, request, asked):
        if "gate" in asked:
            gates.GATES[asked["gate"]].pass_through()
        if "error" in asked:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(asked["error"]))
        array = pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()
        return pb_utils.InferenceResponse([pb_utils.Tensor("OUT", array + 1)])
"""
# lost: the sender is dropped, in a cycle, without an answer; kept: it is kept so.
MANY = """
import json
import gates
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        self.kept = []

    def execute(self, requests):
        for request in requests:
            asked = json.loads(request.parameters())
            if "gate" in asked:
                gates.GATES[asked["gate"]].pass_through()
            sender = request.get_response_sender()
            if asked.get("lost"):
                cycle = [sender]
                cycle.append(cycle)
            elif asked.get("kept"):
                self.kept.append(sender)
            else:
                array = pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()
                for number in range(asked.get("count", 1)):
                    output = pb_utils.Tensor("OUT", array + number)
                    sender.send(pb_utils.InferenceResponse([output]))
                sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    for name, code, config in (
        ("once", ONCE, CONFIG + "instance_group { kind: KIND_CPU count: 2 }"),
        ("many", MANY, CONFIG + "model_transaction_policy { decoupled: true }"),
    ):
        (tmp_path / name / "1").mkdir(parents=True)
        (tmp_path / name / "config.pbtxt").write_text(config)
        (tmp_path / name / "1" / "model.py").write_text(code)
    GATES.clear()
    return tmp_path


@pytest.fixture
def server(repository: Path) -> Iterator[triton_stub.Server]:
    with triton_stub.Server(repository) as server:
        yield server


def readers() -> list[str]:
    """The threads that read requests."""
    return [thread.name for thread in threading.enumerate() if thread.name == "grpc stream"]


def no_reader() -> None:
    wait_until(lambda: not readers(), "a thread still reads requests")


def alive(kind: type) -> int:
    gc.collect()
    return sum(type(each) is kind for each in gc.get_objects())


def test_no_thread_is_left(server: triton_stub.Server) -> None:
    assert ask(server.grpc_url, request("once"))[1] == "OK"
    no_reader()
    with Stream(server.grpc_url, request("once", gate="g")) as stream:
        GATES["g"].wait_for_somebody()
        assert readers() == ["grpc stream"]
        stream.call.cancel()
        no_reader()
    GATES["g"].opened.set()
    with Stream(server.grpc_url, request("once")) as stream:
        stream.next()
        stream.channel.close()
        no_reader()
    strict = {"triton_grpc_error": "true"}
    with Stream(server.grpc_url, request("once", error="no"), metadata=strict) as stream:
        assert stream.rest()[1] == "INTERNAL"
        no_reader()
    with Stream(server.grpc_url, request("once"), timeout=0.2) as stream:
        assert stream.rest()[1] == "DEADLINE_EXCEEDED"
        no_reader()


def test_nothing_is_kept_of_what_is_answered(server: triton_stub.Server) -> None:
    with Stream(server.grpc_url) as stream:
        for model in ("once", "many"):
            asked = [request(model, **{EMPTY: True}) for _ in range(50)]
            stream.send(*asked, request("nobody"))
            stream.take((1 if model == "once" else 2) * len(asked) + 1)
            wait_until(lambda: alive(Asked) == 0, "requests that are answered are kept")


def test_nothing_is_kept_for_a_client_that_has_left(server: triton_stub.Server) -> None:
    with Stream(server.grpc_url, request("many", gate="g", count=100)) as stream:
        GATES["g"].wait_for_somebody()
        stream.call.cancel()
        no_reader()
    GATES["g"].opened.set()
    assert len(ask(server.grpc_url, request("many", count=3))[0]) == 3  # in the same instance
    wait_until(lambda: alive(Asked) == 0)


def test_a_server_that_stops_ends_idle_streams(server: triton_stub.Server) -> None:
    with Stream(server.grpc_url, request("once")) as stream:
        stream.next()
        server.stop()
        assert stream.rest() == ([], "UNAVAILABLE", "Cancelling all calls")
    no_reader()


def test_a_server_that_stops_answers_first(server: triton_stub.Server) -> None:
    with Stream(server.grpc_url, request("once", gate="g")) as stream:
        GATES["g"].wait_for_somebody()
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        wait_until(lambda: not server.live())
        stream.send(request("once", request_id="late"))
        wait_until(lambda: alive(Asked) == 2, "the late request was not read")
        GATES["g"].opened.set()
        messages, *ending = stream.rest()
        stopping.join(PATIENCE)
    first, late = messages
    assert (first.outputs[0][3], late.id) == ([2.0], "late")
    assert late.error == "GRPC server is shutting down and has stopped accepting new requests."
    assert ending == ["UNAVAILABLE", "Cancelling all calls"]


def test_a_port_that_is_closed_takes_no_more(server: triton_stub.Server) -> None:
    endpoint = GrpcEndpoint(server).start()
    with Stream(endpoint.grpc_url, request("once", gate="g")) as stream:
        GATES["g"].wait_for_somebody()
        stopping = threading.Thread(target=endpoint.stop)
        stopping.start()
        GATES["g"].opened.set()
        messages, code, _ = stream.rest()
        stopping.join(PATIENCE)
    assert (len(messages), code) == (1, "UNAVAILABLE")
    assert server.live()


@pytest.mark.parametrize("strict", [False, True])
def test_a_model_that_never_answers(repository: Path, strict: bool) -> None:
    metadata = {"triton_grpc_error": str(strict).lower()}
    with triton_stub.Server(repository, response_timeout=0.2) as server:
        messages, code, text = ask(
            server.grpc_url, request("many", kept=True, request_id="a"), metadata=metadata
        )
    if strict:
        assert (messages, code) == ([], "UNAVAILABLE")
    else:
        ((text, model, *_, parameters, _),) = messages
        assert (model, code, parameters) == ("many", "OK", {"triton_final_response": True})
    assert deviations.OVERDUE.server in text


def test_a_sender_that_is_lost(server: triton_stub.Server) -> None:
    gc.disable()  # so that only the stream itself has Python collect
    try:
        ((error, *_),), code, _ = ask(server.grpc_url, request("many", lost=True))
    finally:
        gc.enable()
    assert (deviations.NO_ANSWER.server in error, code) == (True, "OK")


def fails(*_: Any) -> Any:
    raise RuntimeError("oops")


def test_a_defect_in_a_request_is_told(
    server: triton_stub.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Stream(server.grpc_url) as stream:
        with monkeypatch.context() as patched:
            patched.setattr(codec, "decode", fails)
            stream.send(request("once"))
            told = stream.next()
        stream.send(request("once"))
        assert stream.next().error == ""
    assert "RuntimeError: oops. This is a defect of triton_stub" in told.error
    assert "Traceback" in str(server.log())


def test_a_defect_in_an_answer_ends_the_stream(
    server: triton_stub.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codec, "encode", fails)
    messages, code, text = ask(server.grpc_url, request("once"))
    assert (messages, code) == ([], "INTERNAL")
    assert "RuntimeError: oops. This is a defect of triton_stub" in text
    assert "Traceback" in str(server.log())
    no_reader()


@pytest.mark.parametrize("level", ["low", "medium", "high"])
def test_compressed_answers(server: triton_stub.Server, level: Any) -> None:
    options = GrpcOptions(infer_response_compression_level=level)
    with GrpcEndpoint(server, options=options) as endpoint:
        asked = [request("once", number) for number in range(3)]
        messages, code, _ = ask(endpoint.grpc_url, *asked, compression=grpc.Compression.Gzip)
    assert ([message.outputs[0][3] for message in messages], code) == ([[1.0], [2.0], [3.0]], "OK")


class Planned(Asked):
    """A request whose messages come as a test says."""

    def __init__(self, *, decoupled: bool) -> None:
        super().__init__(request("model"))
        self.decoupled = decoupled
        self.coming: list[Any] = []

    def fetch(self, *, strict: bool = False) -> None:
        self.done = self.done or self.coming[-1:] == [None]
        self.messages += [message for message in self.coming if message]
        self.coming = []


def turns(*requests: Planned) -> tuple[Turns, list[Asked]]:
    """What has come for them is known, in this order."""
    finished: list[Asked] = []
    made = Turns(finished.append, strict=False)
    for each in requests:
        made.note(each)
    return made, finished


def taken(made: Turns) -> list[Any]:
    return list(iter(made.next, None))


def test_decoupled_requests_take_turns() -> None:
    first, second = Planned(decoupled=True), Planned(decoupled=True)
    first.coming, second.coming = ["a", "b", "c", None], ["x", "y"]
    made, finished = turns(first, second)
    assert taken(made) == ["a", "x", "b", "y", "c"]
    assert finished == [first]
    second.coming = [None]
    made.note(second)
    assert (taken(made), finished) == ([], [first, second])


def test_the_others_come_in_order() -> None:
    first, second, third = (Planned(decoupled=False) for _ in range(3))
    second.coming = ["b", None]
    made, finished = turns(first, second, third)
    assert taken(made) == []
    first.coming = ["a", None]
    made.note(first)
    assert (taken(made), finished) == (["a", "b"], [first, second])
