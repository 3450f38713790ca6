"""How streams over gRPC end: with their clients, at a deadline, by a status; and slow clients."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from comparing import Engines
from patience import wait_until
from raw_stream import REFUSED, Stream, ask, request
from stream_models import Signs, write_stream_models

from triton_stub.engines.engine import Engine
from triton_stub.engines.stub import StubEngine

STRICT = {"triton_grpc_error": "true"}
STATUSES = {
    "UNKNOWN": "UNKNOWN",
    "INTERNAL": "INTERNAL",
    "NOT_FOUND": "NOT_FOUND",
    "INVALID_ARG": "INVALID_ARGUMENT",
    "UNAVAILABLE": "UNAVAILABLE",
    "UNSUPPORTED": "UNIMPLEMENTED",
    "ALREADY_EXISTS": "ALREADY_EXISTS",
    "CANCELLED": "CANCELLED",
}
# 2.51 answers so as well, and then, now and then, uses what it has freed, and dies.
discarded = pytest.mark.newer(
    "26.04", "server src/grpc/stream_infer_handler.cc, StreamInferResponseComplete"
)


def same(streams: Engines, *messages: Any, **keywords: Any) -> Any:
    """The same stream on both, each message and the end."""
    return streams.same(lambda engine: ask(engine.grpc_url, *messages, **keywords))


def fine(engine: Engine) -> None:
    """The server has survived it."""
    assert ask(engine.grpc_url, request("once"))[1] == "OK"


def cancel(stream: Stream) -> None:
    stream.call.cancel()


def close_the_channel(stream: Stream) -> None:
    stream.channel.close()


def half_close_and_cancel(stream: Stream) -> None:
    stream.end()
    stream.call.cancel()


@pytest.mark.rule("5.3-cancel")
@pytest.mark.parametrize("model", ["once", "many"])
@pytest.mark.parametrize("leave", [cancel, close_the_channel, half_close_and_cancel])
def test_a_client_that_leaves_cancels_its_requests(
    streams: Engines, tmp_path: Path, leave: Callable[[Stream], None], model: str
) -> None:
    def body(engine: Engine) -> Any:
        signs = Signs(tmp_path, engine)
        with Stream(engine.grpc_url) as stream:
            for name in ("a", "b"):
                files = {"started": signs(f"{name} started"), "cancelled": signs(name)}
                stream.send(request(model, request_id=name, **files))
            signs.wait("a started", "b started")
            leave(stream)
            signs.wait("a", "b")
            fine(engine)
            return stream.rest()[1]

    assert streams.same(body) == "CANCELLED"


@pytest.mark.rule("5.3-cancel")
def test_a_request_that_waits_is_cancelled_too(streams: Engines, tmp_path: Path) -> None:
    def body(engine: Engine) -> Any:
        signs = Signs(tmp_path, engine)
        with Stream(engine.grpc_url) as stream:
            stream.send(request("slow", started=signs("1 started"), cancelled=signs("1")))
            stream.send(request("slow", cancelled=signs("2")))
            signs.wait("1 started")
            stream.call.cancel()
            signs.wait("1", "2")
            return stream.rest()

    streams.same(body)


@pytest.mark.rule("5.3-deadline")
@pytest.mark.parametrize("model", ["once", "many"])
def test_the_deadline_of_the_call(streams: Engines, tmp_path: Path, model: str) -> None:
    def body(engine: Engine) -> Any:
        signs = Signs(tmp_path, engine)
        with Stream(engine.grpc_url, request(model, cancelled=signs("it")), timeout=2) as stream:
            told = stream.rest()
        signs.wait("it")
        fine(engine)
        return told

    assert streams.same(body)[1] == "DEADLINE_EXCEEDED"


@pytest.mark.rule("5.3-strict")
@discarded
@pytest.mark.parametrize(("code", "status"), STATUSES.items())
def test_a_status_in_place_of_an_error(streams: Engines, code: str, status: str) -> None:
    asked = request("once", error="no", code=code)
    assert ask(streams.stub.grpc_url, asked, metadata=STRICT) == ([], status, "no")


@pytest.mark.rule("5.3-strict")
@discarded
@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_status_after_responses(streams: Engines, count: int) -> None:
    asked = request("many", count=count + 2, error_at=count, code="NOT_FOUND")
    messages, *status = ask(streams.stub.grpc_url, asked, metadata=STRICT)
    assert (len(messages), status) == (count, ["NOT_FOUND", f"no {count}"])


@pytest.mark.rule("5.3-strict")
@pytest.mark.parametrize("value", ["false", "True", "1", ""])
def test_only_one_value_asks_for_a_status(streams: Engines, value: str) -> None:
    asked = request("once", error="no"), request("once")
    messages, code, _ = same(streams, *asked, metadata={"triton_grpc_error": value})
    assert (len(messages), code) == (2, "OK")


@pytest.mark.rule("5.3-strict", "5.3-refused")
@pytest.mark.parametrize("refused", ["unknown model", "wrong size", "unknown input"])
def test_what_gets_to_no_model_is_no_status(streams: Engines, refused: str) -> None:
    asked = REFUSED[refused]("once"), request("once")
    messages, code, _ = same(streams, *asked, metadata=STRICT)
    assert ([bool(message[0]) for message in messages], code) == ([True, False], "OK")


@pytest.mark.rule("5.3-strict")
@discarded
@pytest.mark.parametrize("model", ["once", "many"])
def test_what_comes_after_a_status_is_dropped(streams: Engines, tmp_path: Path, model: str) -> None:
    signs = Signs(tmp_path, streams.stub)
    with Stream(streams.stub.grpc_url, metadata=STRICT) as stream:
        files = {"until": signs("go"), "started": signs("started"), "done": signs("done")}
        stream.send(request(model, request_id="other", **files))
        signs.wait("started")
        stream.send(request(model, request_id="bad", count=3, error_at=1, error="no 1"))
        messages, code, text = stream.rest()
    assert [message.id for message in messages] == ["bad"] * (model == "many")
    assert (code, text) == ("INTERNAL", "no 1")
    signs.give("go")
    if model == "many":
        signs.wait("done")
    fine(streams.stub)


@pytest.mark.rule("5.3-compression")
@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_compressed_requests(streams: Engines, compression: grpc.Compression) -> None:
    same(streams, request("once"), request("once", 2), compression=compression)


@pytest.mark.rule("5.3-slow-client")
def test_a_client_that_reads_late_keeps_no_model_waiting(streams: Engines, tmp_path: Path) -> None:
    def body(engine: Engine) -> Any:
        signs = Signs(tmp_path, engine)
        # 40 MB, which no buffer on the way has room for.
        asked = request("many", count=100, size=100_000, done=signs("done"))
        with Stream(engine.grpc_url, asked) as stream:
            signs.wait("done")
            fine(engine)
            stream.end()
            values = [np.unique(message.outputs[0][3]).tolist() for message in stream]
            return values, stream.call.code().name

    values, code = streams.same(body)
    assert (values, code) == ([[n + 1.0] for n in range(100)], "OK")


@pytest.mark.rule("5.3-stop")
@pytest.mark.deviation("open-stream")
@pytest.mark.newer(
    "25.05", "server src/grpc/stream_infer_handler.cc, ModelStreamInferHandler::Process"
)
def test_a_server_that_stops_while_streams_are_open(tmp_path: Path) -> None:
    write_stream_models(tmp_path / "models")
    with StubEngine(tmp_path / "models", models=["slow", "once"]) as stub:
        signs = Signs(tmp_path, stub)
        asked = request("slow", started=signs("started"), until=signs("go"))
        with Stream(stub.grpc_url, asked) as busy, Stream(stub.grpc_url, request("once")) as idle:
            idle.next()
            signs.wait("started")
            stopping = threading.Thread(target=stub.stop)
            stopping.start()
            wait_until(lambda: not stub.server.live())
            idle.send(request("once", request_id="late"))
            late = idle.next()
            signs.give("go")
            answers, *ending = busy.rest()
            assert idle.rest() == ([], *ending)
            stopping.join()
    assert late.error == "GRPC server is shutting down and has stopped accepting new requests."
    assert late.id == "late"
    assert [len(answer.outputs) for answer in answers] == [1]
    assert ending == ["UNAVAILABLE", "Cancelling all calls"]
