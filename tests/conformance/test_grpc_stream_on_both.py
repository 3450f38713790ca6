"""Streams over gRPC, message by message."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from comparing import Engines
from raw_stream import EMPTY, REFUSED, Stream, ask, by_id, request
from stream_models import Signs
from tritonclient.utils import shared_memory

from triton_stub import deviations
from triton_stub.engines.engine import Engine


def same(streams: Engines, *messages: Any, **keywords: Any) -> Any:
    """The same stream on both, each message and the end."""
    return streams.same(lambda engine: ask(engine.grpc_url, *messages, **keywords))


@pytest.mark.rule("5.3-order", "5.3-end")
def test_requests_one_after_the_other(streams: Engines) -> None:
    assert same(streams) == [[], "OK", ""]
    answers, *_ = same(streams, *(request("once", n, request_id=f"r{n}") for n in range(5)))
    assert [answer[3] for answer in answers] == ["r0", "r1", "r2", "r3", "r4"]


@pytest.mark.rule("5.3-order", "5.3-many-requests")
def test_several_hundred_requests_on_one_stream(streams: Engines) -> None:
    answers, *_ = same(streams, *(request("once", n, request_id=str(n)) for n in range(300)))
    assert [answer[3] for answer in answers] == [str(n) for n in range(300)]


@pytest.mark.rule("5.3-many-requests", "5.3-decoupled")
def test_several_hundred_requests_to_decoupled_models(streams: Engines) -> None:
    asked = [
        request(["many", "more"][n % 2], n, request_id=str(n), count=n % 4) for n in range(300)
    ]

    def body(engine: Engine) -> Any:
        messages, code, _ = ask(engine.grpc_url, *asked)
        return by_id(messages), code

    streams.same(body)


@pytest.mark.rule("5.3-many-streams")
def test_several_dozen_streams_at_once(streams: Engines) -> None:
    def body(engine: Engine) -> Any:
        streams = [Stream(engine.grpc_url) for _ in range(36)]
        for number, stream in enumerate(streams):
            model = ["once", "many", "slow"][number % 3]
            stream.send(*(request(model, number, request_id=str(n)) for n in range(4)))
        for stream in streams:
            stream.end()
        told = [by_id(stream.rest()[0]) for stream in streams]
        for stream in streams:
            stream.channel.close()
        return told

    assert len(streams.same(body)) == 36


@pytest.mark.rule("5.3-decoupled", "5.3-empty-final")
@pytest.mark.parametrize("enabled", [None, False, True])
@pytest.mark.parametrize("bare", [False, True])
@pytest.mark.parametrize("count", [0, 1, 3])
def test_responses_of_a_decoupled_model(
    streams: Engines, count: int, bare: bool, enabled: bool | None
) -> None:
    wanted: dict[str, Any] = {} if enabled is None else {EMPTY: enabled}
    for version in ("", "1"):
        asked = request("many", request_id="a", version=version, count=count, bare=bare, **wanted)
        messages, code, _ = same(streams, asked)
        is_extra = bool(enabled) and (bare or not count)
        assert (len(messages), code) == (count + is_extra, "OK")


@pytest.mark.rule("5.3-empty-final")
def test_an_empty_final_response_of_a_model_that_answers_once(streams: Engines) -> None:
    assert len(same(streams, request("once", **{EMPTY: True}))[0]) == 1


@pytest.mark.rule("5.3-decoupled")
@pytest.mark.parametrize("count", [0, 1, 3])
def test_an_ensemble_with_a_decoupled_step(streams: Engines, count: int) -> None:
    assert len(same(streams, request("steps", count=count, bare=True, **{EMPTY: True}))[0]) == (
        count + 1
    )


@pytest.mark.rule("5.3-errors")
@pytest.mark.parametrize("version", ["", "1"])
@pytest.mark.parametrize("error_at", [0, 1, 2])
def test_an_error_among_the_responses(streams: Engines, error_at: int, version: str) -> None:
    asked = request("many", request_id="e", version=version, count=3, error_at=error_at)
    messages, code, _ = same(streams, asked)
    assert messages[error_at][0] == f"no {error_at}"
    assert (len(messages), code) == (3, "OK")


@pytest.mark.rule("5.3-errors")
def test_an_error_of_a_model_does_not_end_the_stream(streams: Engines) -> None:
    asked = [
        request("once", request_id=str(n), **({"error": "no"} if n % 2 else {})) for n in range(6)
    ]
    messages, code, _ = same(streams, *asked)
    assert ([bool(message[0]) for message in messages], code) == ([False, True] * 3, "OK")


@pytest.mark.rule("5.3-refused")
@pytest.mark.parametrize("model", ["once", "many"])
@pytest.mark.parametrize("refused", REFUSED)
def test_a_request_that_gets_to_no_model(streams: Engines, refused: str, model: str) -> None:
    bad = REFUSED[refused](model)

    def body(engine: Engine) -> Any:
        with Stream(engine.grpc_url, bad) as stream:
            first = stream.next()
            # Asked only now: unknown models count as such that answer once.
            stream.send(request("once" if bad.model_name != "many" else "many", request_id="good"))
            stream.end()
            return first, stream.rest()

    (error, *_, request_id, parameters, outputs), (rest, code, _) = streams.same(body)
    assert (bool(error), request_id, parameters, outputs) == (True, "bad", {}, [])
    assert (len(rest), code) == (1, "OK")


@pytest.mark.rule("5.3-order", "5.3-refused")
def test_answers_wait_for_those_before_them(streams: Engines, tmp_path: Path) -> None:
    def body(engine: Engine) -> Any:
        signs = Signs(tmp_path, engine)
        first = request("slow", request_id="first", until=signs("go"))
        asked = [first, request("once", request_id="second"), request("nobody", request_id="third")]
        with Stream(engine.grpc_url, *asked) as stream:
            stream.send(request("other", request_id="last", started=signs("last"), error="no"))
            signs.wait("last")
            signs.give("go")
            stream.end()
            return stream.rest()

    messages, *_ = streams.same(body)
    assert [message[3] for message in messages] == ["first", "second", "third", "last"]


@pytest.mark.rule("5.3-turns")
def test_decoupled_models_do_not_wait_for_each_other(streams: Engines, tmp_path: Path) -> None:
    def body(engine: Engine) -> Any:
        signs = Signs(tmp_path, engine)
        with Stream(engine.grpc_url) as stream:
            stream.send(request("many", request_id="slow", count=3, at=1, until=signs("go")))
            begun = stream.take(1)
            stream.send(request("more", request_id="fast", count=3))
            fast = stream.take(3)
            stream.send(REFUSED["wrong size"]("many"))
            refused = stream.take(1)
            signs.give("go")
            stream.end()
            return begun, fast, refused, stream.rest()

    streams.same(body)


@pytest.mark.rule("5.3-mixed")
def test_kinds_of_models_one_after_the_other(streams: Engines) -> None:
    def body(engine: Engine) -> Any:
        with Stream(engine.grpc_url) as stream:
            told = []
            for number in range(10):
                stream.send(request("once", number))
                told += stream.take(1)
                stream.send(request("many", number, count=2))
                told += stream.take(2)
            stream.end()
            return told, stream.rest()

    streams.same(body)


@pytest.mark.rule("5.3-mixed")
@pytest.mark.deviation("mixed-stream")
@pytest.mark.parametrize(("first", "second"), [("many", "once"), ("once", "many")])
def test_kinds_of_models_at_once(streams: Engines, tmp_path: Path, first: str, second: str) -> None:
    signs = Signs(tmp_path, streams.stub)
    waiting = request(first, request_id="1", until=signs("go"))
    with Stream(streams.stub.grpc_url, waiting, request(second, request_id="2")) as stream:
        refused = stream.next()
        signs.give("go")
        answer = stream.next()
        stream.send(request(second, request_id="3"))
        later = stream.next()
    assert (refused.id, answer.id, answer.error, later.id, later.error) == ("2", "1", "", "3", "")
    assert deviations.MIXED_STREAM.server in refused.error


@pytest.mark.rule("5.3-sequences")
def test_sequences_on_a_stream(streams: Engines) -> None:
    first: dict[str, Any] = {"sequence_id": 5, "sequence_start": True}
    other: dict[str, Any] = {"sequence_id": 6, "sequence_start": True}
    messages, *_ = same(
        streams,
        request("sums", 1, **first),
        request("sums", 10, **other),
        request("sums", 2, sequence_id=5),
        request("sums", 2, sequence_id=7),
        request("sums", 20, sequence_id=6, sequence_end=True),
        request("sums", 3, sequence_id=5, sequence_end=True),
        request("sums", 3),
    )
    assert [m[5][0][3][0] for m in messages if m[5]] == [1, 10, 3, 30, 6]
    assert [bool(message[0]) for message in messages] == [
        False,
        False,
        False,
        True,
        False,
        False,
        True,
    ]


@pytest.mark.rule("5.3-end")
@pytest.mark.parametrize("model", ["once", "many"])
def test_answers_after_the_last_request(streams: Engines, tmp_path: Path, model: str) -> None:
    def body(engine: Engine) -> Any:
        signs = Signs(tmp_path, engine)
        asked = request(model, until=signs("go"), started=signs("started"))
        with Stream(engine.grpc_url, asked) as stream:
            stream.end()
            signs.wait("started")
            signs.give("go")
            return stream.rest()

    assert len(streams.same(body)[0]) == 1


@pytest.mark.rule("5.3-sender")
@pytest.mark.parametrize("kinds", ["R", "E", "rf", "ef", "rR", "eR", "rE", "rrf"])
def test_a_model_that_answers_once_by_a_sender(streams: Engines, kinds: str) -> None:
    messages, *_ = same(streams, request("sender", kinds=kinds), request("once"))
    told = [(bool(message[0]), message[4]["triton_final_response"]) for message in messages]
    assert told == [(kinds[0] in "eE", kinds[0] in "RE"), (False, True)]


@pytest.mark.rule("5.3-outputs")
@pytest.mark.parametrize("model", ["once", "many"])
def test_classes_of_an_output(streams: Engines, model: str) -> None:
    asked = request(model, 6, **({"count": 3} if model == "many" else {}))
    asked.outputs.add(name="OUT").parameters["classification"].int64_param = 1
    messages, code, _ = same(streams, asked)
    assert (messages[0][5][0][1], code) == ("BYTES", "OK")


@pytest.mark.rule("5.3-outputs")
@pytest.mark.parametrize(("model", "room"), [("once", 4), ("many", 4), ("once", 2), ("many", 2)])
def test_an_output_in_shared_memory(streams: Engines, model: str, room: int) -> None:
    def body(engine: Engine) -> Any:
        name = f"stream_{engine.name}_{model}_{room}"
        key = f"/triton_stub_{uuid.uuid4().hex[:12]}"
        region = shared_memory.create_shared_memory_region(name, key, 4)
        asked = request(model, 6)
        place = asked.outputs.add(name="OUT").parameters
        place["shared_memory_region"].string_param = name
        place["shared_memory_byte_size"].int64_param = room
        try:
            with engine.client("grpc") as client:
                client.register_system_shared_memory(name, key, 4)
                try:
                    told = ask(engine.grpc_url, asked)
                finally:
                    client.unregister_system_shared_memory(name)
            array = shared_memory.get_contents_as_numpy(region, np.float32, [1])
            return told, array.tolist()
        finally:
            shared_memory.destroy_shared_memory_region(region)

    (messages, *_), array = streams.same(body)
    assert (bool(messages[0][0]), array[0] > 0) == (room < 4, room == 4)


@pytest.mark.rule("5.3-unload")
def test_a_model_that_is_unloaded_meanwhile(streams: Engines, tmp_path: Path) -> None:
    def body(engine: Engine) -> Any:
        signs = Signs(tmp_path, engine)
        with Stream(engine.grpc_url) as stream, engine.client("grpc") as client:
            stream.send(request("other", request_id="1"))
            told = stream.take(1)
            stream.send(
                request("other", request_id="2", started=signs("started"), until=signs("go"))
            )
            signs.wait("started")
            client.unload_model("other")
            stream.send(request("other", request_id="3"), request("once", request_id="4"))
            signs.give("go")
            told += stream.take(3)
            client.load_model("other")
            stream.send(request("other", request_id="5"))
            stream.end()
            return told, stream.rest()

    told, _ = streams.same(body)
    assert [bool(message[0]) for message in told] == [False, False, True, False]
