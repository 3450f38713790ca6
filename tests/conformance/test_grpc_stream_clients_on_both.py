"""Streams as tritonclient's two clients for gRPC have them."""

from __future__ import annotations

import asyncio
import contextlib
import queue
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.grpc.aio
from comparing import Engines
from patience import PATIENCE
from stream_models import Signs
from tritonclient.grpc import InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

from triton_stub.engines.engine import Engine

STRICT = {"triton_grpc_error": "true"}
# 2.51 answers so as well, and then, now and then, uses what it has freed, and dies.
discarded = pytest.mark.newer(
    "26.04", "server src/grpc/stream_infer_handler.cc, StreamInferResponseComplete"
)


def sent(value: float = 1.0) -> list[InferInput]:
    return [InferInput("IN", [1], "FP32").set_data_from_numpy(np.array([value], np.float32))]


def seen(result: Any, error: Any) -> Any:
    """What a callback is given."""
    if error is not None:
        return error.status(), error.message()
    answer = result.get_response()
    is_final = answer.parameters["triton_final_response"].bool_param
    named = answer.id, answer.model_name, answer.model_version
    output = result.as_numpy("OUT")
    return *named, is_final, None if output is None else output.tolist()


class Client(contextlib.ExitStack):
    """A client with a stream, and what its callback was given."""

    def __init__(self, engine: Engine, **stream: Any) -> None:
        super().__init__()
        self._told: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.client = self.enter_context(
            contextlib.closing(tritonclient.grpc.InferenceServerClient(str(engine.grpc_url)))
        )
        self.client.start_stream(self._note, **stream)

    def _note(self, result: Any, error: Any) -> None:
        self._told.put(seen(result, error))

    def send(self, model: str, value: float = 1.0, **keywords: Any) -> None:
        self.client.async_stream_infer(model, sent(value), **keywords)

    def next(self) -> Any:
        return self._told.get(timeout=PATIENCE)

    def rest(self, *, cancel: bool = False) -> list[Any]:
        """End the stream; what has come until then."""
        self.client.stop_stream(cancel_requests=cancel)
        return [self._told.get() for _ in range(self._told.qsize())]


@pytest.mark.rule("5.3-client", "5.3-order")
def test_a_stream_of_requests(streams: Engines) -> None:
    def body(engine: Engine) -> Any:
        with Client(engine) as client:
            for number in range(20):
                client.send(["once", "other"][number % 2], number, request_id=str(number))
            return client.rest()

    answers = streams.same(body)
    assert [answer[0] for answer in answers] == [str(number) for number in range(20)]


@pytest.mark.rule("5.3-client", "5.3-empty-final")
@pytest.mark.parametrize("wanted", [False, True])
@pytest.mark.parametrize("count", [0, 1, 4])
def test_responses_of_a_decoupled_model(streams: Engines, count: int, wanted: bool) -> None:
    def body(engine: Engine) -> Any:
        with Client(engine) as client:
            given = {"count": count, "bare": True}
            client.send("many", enable_empty_final_response=wanted, parameters=given)
            return client.rest()

    assert len(streams.same(body)) == count + wanted


@pytest.mark.rule("5.3-client", "5.3-errors", "5.3-refused")
def test_errors_do_not_end_the_stream(streams: Engines) -> None:
    def body(engine: Engine) -> Any:
        with Client(engine) as client:
            client.send("once", parameters={"error": "no", "code": "NOT_FOUND"})
            client.send("nobody")
            client.send("once", model_version="3")
            client.send("once", outputs=[InferRequestedOutput("X")])
            client.send("once", outputs=[InferRequestedOutput("OUT")])
            return client.rest()

    answers = streams.same(body)
    assert [answer[0] for answer in answers] == [None] * 4 + [""]


@pytest.mark.rule("5.3-client", "5.3-strict")
@discarded
def test_a_status(streams: Engines) -> None:
    with Client(streams.stub, headers=STRICT) as client:
        client.send("once", parameters={"error": "no", "code": "NOT_FOUND"})
        assert client.next() == ("StatusCode.NOT_FOUND", "no")
        assert client.rest() == []


@pytest.mark.rule("5.3-client", "5.3-sequences")
def test_sequences(streams: Engines) -> None:
    def body(engine: Engine) -> Any:
        with Client(engine) as client:
            for number in range(8):
                flags = {"sequence_start": number < 2, "sequence_end": number > 5}
                client.send("sums", number, sequence_id=1 + number % 2, **flags)
            return client.rest()

    assert [answer[-1] for answer in streams.same(body)][-2:] == [[12.0], [16.0]]


@pytest.mark.rule("5.3-client", "5.3-end")
def test_stopping_waits_for_the_answers(streams: Engines, tmp_path: Path) -> None:
    def body(engine: Engine) -> Any:
        signs = Signs(tmp_path, engine)
        with Client(engine) as client:
            client.send("many", parameters={"until": signs("go"), "at": 1, "count": 3})
            first = client.next()
            signs.give("go")
            return first, client.rest()

    first, rest = streams.same(body)
    assert (first[-1], [answer[-1] for answer in rest]) == ([1.0], [[2.0], [3.0]])


@pytest.mark.rule("5.3-client", "5.3-cancel")
@pytest.mark.parametrize("model", ["once", "many"])
def test_stopping_with_cancellation(streams: Engines, tmp_path: Path, model: str) -> None:
    def body(engine: Engine) -> Any:
        signs = Signs(tmp_path, engine)
        with Client(engine) as client:
            files = {"started": signs("started"), "cancelled": signs("cancelled")}
            client.send(model, parameters=files)
            signs.wait("started")
            told = client.rest(cancel=True)
            signs.wait("cancelled")
            return told

    ((status, _),) = streams.same(body)
    assert status == "StatusCode.CANCELLED"


@pytest.mark.rule("5.3-client", "5.3-deadline")
def test_the_timeout_of_a_stream(streams: Engines, tmp_path: Path) -> None:
    def body(engine: Engine) -> Any:
        signs = Signs(tmp_path, engine)
        with Client(engine, stream_timeout=2) as client:
            client.send("once", parameters={"cancelled": signs("cancelled")})
            told = client.next()
            signs.wait("cancelled")
            return told

    assert streams.same(body) == ["StatusCode.DEADLINE_EXCEEDED", "Deadline Exceeded"]


@pytest.mark.rule("5.3-client", "5.3-many-streams")
@pytest.mark.parametrize("algorithm", [None, "gzip", "deflate"])
def test_several_clients_at_once(streams: Engines, algorithm: str | None) -> None:
    def body(engine: Engine) -> Any:
        with contextlib.ExitStack() as stack:
            clients = [
                stack.enter_context(Client(engine, compression_algorithm=algorithm))
                for _ in range(8)
            ]
            for number in range(10):
                for place, client in enumerate(clients):
                    model = ["once", "many"][place % 2]
                    client.send(model, number + place, request_id=str(number))
            return [sorted(client.rest()) for client in clients]

    streams.same(body)


def run_aio(engine: Engine, program: Any) -> Any:
    """Run a coroutine function with a client for asyncio."""

    async def run() -> Any:
        async with tritonclient.grpc.aio.InferenceServerClient(str(engine.grpc_url)) as client:
            return await program(client)

    return asyncio.run(run())


def asked(model: str, value: float = 1.0, **keywords: Any) -> dict[str, Any]:
    return {"model_name": model, "inputs": sent(value), **keywords}


async def every(requests: list[dict[str, Any]]) -> AsyncIterator[dict[str, Any]]:
    for each in requests:
        yield each


@pytest.mark.rule("5.3-client", "5.3-order", "5.3-errors")
def test_a_stream_for_asyncio(streams: Engines) -> None:
    requests = [asked("once", n, request_id=str(n)) for n in range(10)]
    requests += [asked("nobody"), asked("once", parameters={"error": "no"}), asked("once")]

    async def program(client: Any) -> Any:
        return [seen(*answer) async for answer in client.stream_infer(every(requests))]

    assert len(streams.same(lambda engine: run_aio(engine, program))) == 13


@pytest.mark.rule("5.3-client", "5.3-decoupled", "5.3-empty-final")
def test_a_decoupled_model_for_asyncio(streams: Engines) -> None:
    requests = [
        asked("many", parameters={"count": 3, "bare": True}, enable_empty_final_response=True)
    ]

    async def program(client: Any) -> Any:
        return [seen(*answer) async for answer in client.stream_infer(every(requests))]

    # This client takes no notice of enable_empty_final_response.
    assert len(streams.same(lambda engine: run_aio(engine, program))) == 3


@pytest.mark.rule("5.3-client", "5.3-strict")
@discarded
def test_a_status_for_asyncio(streams: Engines) -> None:
    requests = [asked("once", parameters={"error": "no", "code": "UNAVAILABLE"})]

    async def program(client: Any) -> Any:
        try:  # the client lets gRPC's own error through
            return [
                seen(*answer)
                async for answer in client.stream_infer(every(requests), headers=STRICT)
            ]
        except grpc.RpcError as error:
            return str(error.code()), error.details()

    assert run_aio(streams.stub, program) == ("StatusCode.UNAVAILABLE", "no")


@pytest.mark.rule("5.3-client", "5.3-cancel")
@pytest.mark.parametrize("model", ["once", "many"])
def test_cancellation_for_asyncio(streams: Engines, tmp_path: Path, model: str) -> None:
    def body(engine: Engine) -> Any:
        signs = Signs(tmp_path, engine)
        files = {"started": signs("started"), "cancelled": signs("cancelled")}

        async def program(client: Any) -> Any:
            answers = client.stream_infer(every([asked(model, parameters=files)]))

            async def read() -> list[Any]:
                return [answer async for answer in answers]

            reading = asyncio.create_task(read())
            await asyncio.to_thread(signs.wait, "started")
            is_cancelled = answers.cancel()
            with pytest.raises((InferenceServerException, asyncio.CancelledError)):
                await reading
            await asyncio.to_thread(signs.wait, "cancelled")
            return is_cancelled

        return run_aio(engine, program)

    assert streams.same(body) is True
