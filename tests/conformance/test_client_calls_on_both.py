"""Several requests at once, requests that nobody waits for, and streams, of all clients."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import pytest
from client_models import PAIR, number
from flavours import KINDS, Flavour, Flavours, seen, tried
from patience import PATIENCE, wait_until

from triton_stub.endpoints.clients import Kind

HTTP = ("http", "http.aio")
GRPC = ("grpc", "grpc.aio")


@pytest.mark.rule("5.5-concurrency")
@pytest.mark.parametrize("kind", KINDS)
def test_requests_at_once(flavours: Flavours, kind: Kind) -> None:
    """Four requests of one client that the model must have together, as it waits for them."""

    def body(client: Flavour) -> Any:
        inputs = [client.inputs({"IN": np.array([[each]], np.int32)}) for each in range(4)]
        if client.is_aio:

            async def gathered() -> list[Any]:
                return await asyncio.gather(
                    *(client.client.infer("together", each) for each in inputs)
                )

            return [seen(result) for result in client.finish(gathered())]
        if kind == "http":
            with flavours.new(client.engine, kind, concurrency=4, max_greenlets=4) as own:
                calls = [own.client.async_infer("together", each) for each in inputs]
                return [seen(call.get_result(timeout=PATIENCE)) for call in calls]
        came: SimpleQueue[Any] = SimpleQueue()
        for each in inputs:
            client.client.async_infer("together", each, callback=came_to(came))
        return [came.get(timeout=PATIENCE) for _ in inputs]

    flavours.same(kind, body)


def came_to(queue: SimpleQueue[Any]) -> Callable[..., None]:
    def callback(result: Any, error: Any) -> None:
        queue.put(seen(error or result))

    return callback


@pytest.mark.rule("5.5-concurrency", "5.5-errors")
@pytest.mark.parametrize("model", ["pair", "nothing"])
def test_the_future_of_http(flavours: Flavours, model: str) -> None:
    def body(client: Flavour) -> Any:
        call = client.client.async_infer(model, client.inputs(PAIR), request_id="3")
        return tried(lambda: call.get_result(timeout=PATIENCE))

    flavours.same("http", body)


@pytest.mark.rule("5.5-concurrency", "5.5-errors")
@pytest.mark.parametrize("model", ["pair", "nothing"])
def test_the_callback_of_grpc(flavours: Flavours, model: str) -> None:
    def body(client: Flavour) -> Any:
        came: SimpleQueue[Any] = SimpleQueue()
        client.client.async_infer(
            model, client.inputs(PAIR), callback=came_to(came), request_id="3"
        )
        return came.get(timeout=PATIENCE)

    flavours.same("grpc", body)


# Who does not wait, or does not want the answer


class Gate:
    """Where a request to model ``waits`` waits."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / uuid.uuid4().hex

    @property
    def arrays(self) -> dict[str, Any]:
        return {"IN": np.array([str(self.path).encode()], dtype=np.object_)}

    def open(self) -> None:
        self.path.touch()

    def wait_until(self, what: str) -> None:
        wait_until(self.path.with_name(f"{self.path.name}.{what}").exists, f"not {what}")


@pytest.mark.rule("5.5-timeouts")
@pytest.mark.parametrize("kind", GRPC)
def test_a_client_that_waits_so_long_only(flavours: Flavours, kind: Kind, tmp_path: Path) -> None:
    """The model hears of it."""

    def body(client: Flavour) -> Any:
        gate = Gate(tmp_path)
        answer = client.infer("waits", gate.arrays, client_timeout=2)
        gate.wait_until("cancelled")
        return [answer, client.infer("pair", PAIR, client_timeout=PATIENCE)]

    flavours.same(kind, body)


@pytest.mark.rule("5.5-timeouts")
def test_a_callback_that_waits_so_long_only(flavours: Flavours, tmp_path: Path) -> None:
    def body(client: Flavour) -> Any:
        gate, came = Gate(tmp_path), SimpleQueue[Any]()
        client.client.async_infer(
            "waits", client.inputs(gate.arrays), callback=came_to(came), client_timeout=2
        )
        gate.wait_until("cancelled")
        return came.get(timeout=PATIENCE)

    flavours.same("grpc", body)


@pytest.mark.rule("5.5-timeouts")
@pytest.mark.parametrize("kind", HTTP)
def test_a_connection_that_waits_so_long_only(
    flavours: Flavours, kind: Kind, tmp_path: Path
) -> None:
    options = {"network_timeout": 0.5} if kind == "http" else {"conn_timeout": 0.5}

    def body(client: Flavour) -> Any:
        gate = Gate(tmp_path)
        with flavours.new(client.engine, kind, **options) as own:
            try:
                return own.infer("waits", gate.arrays)
            finally:
                gate.open()

    flavours.same(kind, body)


@pytest.mark.rule("5.5-timeouts")
def test_a_future_that_is_not_waited_for(flavours: Flavours, tmp_path: Path) -> None:
    def body(client: Flavour) -> Any:
        gate = Gate(tmp_path)
        call = client.client.async_infer("waits", client.inputs(gate.arrays))
        try:
            early = tried(lambda: call.get_result(timeout=0.05))
            never = tried(lambda: call.get_result(block=False))
        finally:
            gate.open()
        return [early, never, tried(lambda: call.get_result(timeout=PATIENCE))]

    flavours.same("http", body)


@pytest.mark.rule("5.5-cancel")
@pytest.mark.parametrize("kind", ["grpc", "grpc.aio", "http.aio"])
def test_a_call_that_is_cancelled(flavours: Flavours, kind: Kind, tmp_path: Path) -> None:
    """Over gRPC the model hears of it; over HTTP it may go on."""

    def body(client: Flavour) -> Any:
        gate = Gate(tmp_path)
        inputs = client.inputs(gate.arrays)
        try:
            if client.is_aio:
                return client.finish(cancelled(client, inputs, gate))
            came: SimpleQueue[Any] = SimpleQueue()
            call = client.client.async_infer("waits", inputs, callback=came_to(came))
            gate.wait_until("begun")
            call.cancel()
            gate.wait_until("cancelled")
            return came.get(timeout=PATIENCE)
        finally:
            gate.open()

    flavours.same(kind, body)


async def cancelled(client: Flavour, inputs: list[Any], gate: Gate) -> Any:
    call = asyncio.ensure_future(client.client.infer("waits", inputs))
    await asyncio.to_thread(gate.wait_until, "begun")
    call.cancel()
    try:
        return seen(await call)
    except asyncio.CancelledError as error:
        if client.kind == "grpc.aio":
            await asyncio.to_thread(gate.wait_until, "cancelled")
        return seen(error)


# Streams


@pytest.mark.rule("5.5-streams")
@pytest.mark.parametrize("kind", GRPC)
@pytest.mark.parametrize(
    ("model", "values"),
    [
        ("counts", [3]),
        ("counts", [0]),
        ("counts", [2, 3]),
        ("counts", [-2]),
        ("sums", [1]),
        ("nothing", [1]),
        ("pair", [1]),
        ("broken", []),
    ],
)
def test_a_stream(flavours: Flavours, kind: Kind, model: str, values: list[int]) -> None:
    """Of several requests each one's answers are in order; who comes first is the server's."""

    def request_id(answer: dict[str, Any]) -> str:
        return str(answer.get("response", {}).get("id", ""))

    def body(client: Flavour) -> Any:
        came = client.stream(
            [
                {
                    "model_name": model,
                    "inputs": client.inputs(number(value)),
                    "request_id": str(value),
                    "parameters": {"a": value},
                }
                for value in values
            ]
        )
        return sorted(came, key=request_id)

    flavours.same(kind, body)


@pytest.mark.rule("5.5-streams")
@pytest.mark.parametrize("kind", GRPC)
def test_a_sequence_in_a_stream(flavours: Flavours, kind: Kind) -> None:
    def body(client: Flavour) -> Any:
        return client.stream(
            [
                {
                    "model_name": "sums",
                    "inputs": client.inputs(number(value)),
                    "sequence_id": 11,
                    "sequence_start": value == 1,
                    "sequence_end": value == 4,
                    "outputs": [client.library.InferRequestedOutput("OUT")],
                }
                for value in (1, 2, 3, 4)
            ]
        )

    flavours.same(kind, body)


@pytest.mark.rule("5.5-streams")
def test_the_end_of_the_responses_is_told_if_asked_for(flavours: Flavours) -> None:
    def body(client: Flavour) -> Any:
        return client.stream(
            [
                {
                    "model_name": "counts",
                    "inputs": client.inputs(number(2)),
                    "enable_empty_final_response": True,
                }
            ]
        )

    flavours.same("grpc", body)


@pytest.mark.rule("5.5-streams", "5.5-errors")
def test_one_stream_of_a_client_at_a_time(flavours: Flavours) -> None:
    def body(client: Flavour) -> Any:
        def nothing(result: Any, error: Any) -> None:
            pass

        client.client.start_stream(nothing)
        twice = tried(lambda: client.client.start_stream(nothing))
        client.client.stop_stream()
        without = tried(lambda: client.client.async_stream_infer("counts", []))
        return [twice, without, client.stream([])]

    flavours.same("grpc", body)


@pytest.mark.rule("5.5-streams", "5.5-timeouts")
@pytest.mark.parametrize("kind", GRPC)
def test_a_stream_that_lasts_so_long_only(flavours: Flavours, kind: Kind, tmp_path: Path) -> None:
    def body(client: Flavour) -> Any:
        gate = Gate(tmp_path)
        try:
            request = {"model_name": "waits", "inputs": client.inputs(gate.arrays)}
            came = client.stream([request], stream_timeout=2)
            gate.wait_until("cancelled")
            return came
        finally:
            gate.open()

    flavours.same(kind, body)


@pytest.mark.rule("5.5-streams", "5.5-cancel")
def test_a_stream_that_is_cancelled(flavours: Flavours, tmp_path: Path) -> None:
    def body(client: Flavour) -> Any:
        gate, came = Gate(tmp_path), SimpleQueue[Any]()
        client.client.start_stream(came_to(came))
        try:
            client.client.async_stream_infer("waits", client.inputs(gate.arrays))
            gate.wait_until("begun")
            client.client.stop_stream(cancel_requests=True)
            gate.wait_until("cancelled")
        finally:
            gate.open()
        return came.get(timeout=PATIENCE)

    flavours.same("grpc", body)


@pytest.mark.rule("5.5-streams", "5.5-cancel")
def test_a_stream_of_asyncio_that_is_cancelled(flavours: Flavours, tmp_path: Path) -> None:
    def body(client: Flavour) -> Any:
        gate = Gate(tmp_path)

        async def sent() -> Any:
            yield {"model_name": "waits", "inputs": client.inputs(gate.arrays)}

        async def streamed() -> Any:
            stream = client.client.stream_infer(sent())
            following = asyncio.ensure_future(anext(stream))
            await asyncio.to_thread(gate.wait_until, "begun")
            stream.cancel()
            try:
                return await following
            except BaseException as error:  # noqa: BLE001 - CancelledError is one
                await asyncio.to_thread(gate.wait_until, "cancelled")
                return type(error).__name__

        try:
            return client.finish(streamed())
        finally:
            gate.open()

    flavours.same("grpc.aio", body)


@pytest.mark.rule("5.5-streams", "5.5-errors")
def test_what_a_stream_of_asyncio_refuses(flavours: Flavours) -> None:
    """The client itself does; the stream ends."""

    def body(client: Flavour) -> Any:
        return [client.stream([{"model_name": "pair"}]), client.stream([{"inputs": []}])]

    flavours.same("grpc.aio", body)
