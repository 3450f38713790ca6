"""Inference with clients of tritonclient, of all four kinds."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import pytest
import tritonclient.utils.shared_memory as shm
import urllib3
from client_models import PAIR, clients_of_both
from flavours import KINDS, Flavour, Flavours, seen, tried
from patience import PATIENCE, wait_until
from tritonclient.http import InferenceServerClient, InferRequestedOutput

from triton_stub.endpoints.clients import Kind

HTTP = ("http", "http.aio")
GRPC = ("grpc", "grpc.aio")
HELLO = {"IN": np.array([b"hello"], dtype=np.object_)}
ALGORITHMS = ("gzip", "deflate")


@pytest.fixture(scope="module")
def flavours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flavours]:
    with clients_of_both(tmp_path_factory.mktemp("inference")) as flavours:
        yield flavours


kinds = pytest.mark.parametrize("kind", KINDS)


def number(value: int) -> dict[str, Any]:
    return {"IN": np.array([value], np.int32)}


@pytest.mark.rule("5.5-infer")
@kinds
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"model_version": "1"},
        {"outputs": ["T"]},
        {"outputs": ["T", "Y"], "request_id": "some id"},
        {"model_version": "2", "priority": 1, "timeout": 10**6},
        {"parameters": {"a": 1, "b": "text", "c": True}},
    ],
    ids=repr,
)
def test_infer(flavours: Flavours, kind: Kind, options: dict[str, Any]) -> None:
    flavours.same(kind, lambda client: client.infer("pair", PAIR, **dict(options)))


@pytest.mark.rule("5.5-infer")
@kinds
def test_what_a_model_is_told_of_a_request(flavours: Flavours, kind: Kind) -> None:
    def body(client: Flavour) -> Any:
        return [
            client.infer("told", HELLO, **options)
            for options in (
                {},
                {"request_id": "é", "outputs": ["OUT"]},
                {"timeout": 1234567},
                {"sequence_id": 5, "sequence_start": True},
                {"sequence_id": "text", "sequence_end": True},
                {"parameters": {"int": 2**40, "text": "é", "yes": True, "": -1}},
                {"parameters": {"double": 0.5}},
            )
        ]

    flavours.same(kind, body)


@pytest.mark.rule("5.5-infer")
@kinds
def test_a_sequence(flavours: Flavours, kind: Kind) -> None:
    def body(client: Flavour) -> Any:
        named = {"sequence_id": 7}
        return [
            client.infer("sums", number(1), **named, sequence_start=True),
            client.infer("sums", number(2), **named),
            client.infer("sums", number(3), **named, sequence_end=True),
            client.infer("sums", number(4), **named),
            client.infer("sums", number(5)),
        ]

    flavours.same(kind, body)


WRONG: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "unknown model": ("nothing", PAIR, {}),
    "model that is not loaded": ("spare", HELLO, {}),
    "unknown version": ("pair", PAIR, {"model_version": "3"}),
    "bad version": ("pair", PAIR, {"model_version": "x"}),
    "version is a number": ("pair", PAIR, {"model_version": 1}),
    "missing input": ("pair", {"X": PAIR["X"]}, {}),
    "unknown input": ("pair", {**PAIR, "Z": PAIR["X"]}, {}),
    "wrong datatype": ("pair", {**PAIR, "X": PAIR["X"].astype(np.float64)}, {}),
    "wrong rank": ("pair", {**PAIR, "X": PAIR["X"][0]}, {}),
    "batches differ": ("pair", {**PAIR, "X": np.ones((2, 3), np.float32)}, {}),
    "batch too large": ("pair", {name: np.repeat(PAIR[name], 9, 0) for name in PAIR}, {}),
    "unknown output": ("pair", PAIR, {"outputs": ["Z"]}),
    "reserved parameter": ("pair", PAIR, {"parameters": {"timeout": 1}}),
    "parameter of Triton's own": ("pair", PAIR, {"parameters": {"triton_x": 1}}),
    "parameter that is no value": ("pair", PAIR, {"parameters": {"a": [1]}}),
    "exception in the model": ("broken", number(1), {}),
    "decoupled model": ("counts", number(1), {}),
    "sequence without an id": ("sums", number(1), {"sequence_start": True}),
    "no inputs": ("pair", {}, {}),
    "request compression that is none": ("pair", PAIR, {"headers": {"Content-Encoding": "zip"}}),
}


@pytest.mark.rule("5.5-errors")
@kinds
@pytest.mark.parametrize("wrong", WRONG)
def test_infer_is_refused(flavours: Flavours, kind: Kind, wrong: str) -> None:
    model, arrays, options = WRONG[wrong]

    def body(client: Flavour) -> Any:
        outcome = tried(lambda: client.infer(model, arrays, **options))
        if isinstance(outcome, dict) and "broken" in outcome.get("error", ""):
            # What follows are lines of two Pythons.
            outcome["error"] = outcome["error"].split("\n")[0]
        return outcome

    flavours.same(kind, body)


@pytest.mark.rule("5.5-datatypes")
@kinds
@pytest.mark.parametrize("binary", [True, False])
def test_tensors_as_json_and_as_bytes(flavours: Flavours, kind: Kind, binary: bool) -> None:
    options = {} if kind in GRPC else {"binary_data": binary}

    def body(client: Flavour) -> Any:
        inputs = client.inputs(PAIR, **options)
        outputs = [client.library.InferRequestedOutput(name, **options) for name in ("Y", "T")]
        return client.tried("infer", "pair", inputs, outputs=outputs)

    flavours.same(kind, body)


@pytest.mark.rule("5.5-results")
@kinds
def test_what_a_result_says(flavours: Flavours, kind: Kind) -> None:
    def body(client: Flavour) -> Any:
        result = client.call("infer", "pair", client.inputs(PAIR), request_id="7")
        answer = [
            seen(result.get_response()),
            seen(result.get_output("Y")),
            seen(result.get_output("nothing")),
            seen(result.as_numpy("nothing")),
            seen(result.as_numpy("Y")),
        ]
        if kind in GRPC:
            answer += [result.get_response(as_json=True), result.get_output("T", as_json=True)]
            for each in (answer[0], answer[5]):  # floats, whose bytes are compared above
                each.pop("raw_output_contents")
        return answer

    flavours.same(kind, body)


@pytest.mark.rule("5.5-compression")
@pytest.mark.parametrize("kind", HTTP)
@pytest.mark.parametrize("request_algorithm", [None, *ALGORITHMS])
@pytest.mark.parametrize("response_algorithm", [None, *ALGORITHMS])
def test_compression_of_http(
    flavours: Flavours, kind: Kind, request_algorithm: str | None, response_algorithm: str | None
) -> None:
    def body(client: Flavour) -> Any:
        options = {
            "request_compression_algorithm": request_algorithm,
            "response_compression_algorithm": response_algorithm,
        }
        return [
            client.infer("pair", PAIR, **options),
            client.infer("told", HELLO, **options),
            client.infer("nothing", HELLO, **options),
        ]

    flavours.same(kind, body)


@pytest.mark.rule("5.5-compression")
@pytest.mark.parametrize("kind", GRPC)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_compression_of_grpc(flavours: Flavours, kind: Kind, algorithm: str) -> None:
    def body(client: Flavour) -> Any:
        request = {"model_name": "pair", "inputs": client.inputs(PAIR)}
        return [
            client.infer("pair", PAIR, compression_algorithm=algorithm),
            client.infer("nothing", PAIR, compression_algorithm=algorithm),
            client.stream([request], compression_algorithm=algorithm),
        ]

    flavours.same(kind, body)


@pytest.mark.rule("5.5-classes")
@kinds
@pytest.mark.parametrize("count", [1, 2, 3, 9])
def test_classes(flavours: Flavours, kind: Kind, count: int) -> None:
    def body(client: Flavour) -> Any:
        output = client.library.InferRequestedOutput("Y", class_count=count)
        return client.infer("pair", PAIR, outputs=[output, "T"])

    flavours.same(kind, body)


@pytest.mark.rule("5.5-bodies")
def test_bodies_that_a_client_makes_and_parses(flavours: Flavours) -> None:
    def body(client: Flavour) -> Any:
        inputs = client.inputs(PAIR)
        request, length = InferenceServerClient.generate_request_body(
            inputs, outputs=[InferRequestedOutput("Y")], request_id="9", parameters={"a": 1}
        )
        with urllib3.PoolManager() as pool:
            answer = pool.request(
                "POST",
                f"http://{client.engine.http_url}/v2/models/pair/infer",
                body=request,
                headers={"Inference-Header-Content-Length": str(length)},
                retries=False,
            )
        size = int(answer.headers["Inference-Header-Content-Length"])
        return seen(InferenceServerClient.parse_response_body(answer.data, header_length=size))

    flavours.same("http", body)


# Shared memory


@contextmanager
def region(client: Flavour, size: int) -> Iterator[tuple[str, Any]]:
    """Registered with the server; its name, and tritonclient's handle."""
    name, key = "region", f"/triton_stub_{uuid.uuid4().hex[:12]}"
    handle = shm.create_shared_memory_region(name, key, size)
    try:
        client.call("register_system_shared_memory", name, key, size)
        try:
            yield key, handle
        finally:
            client.call("unregister_system_shared_memory", name)
    finally:
        shm.destroy_shared_memory_region(handle)


@pytest.mark.rule("5.5-memory")
@kinds
def test_shared_memory(flavours: Flavours, kind: Kind) -> None:
    """Inputs and outputs lie in one region, each at its place."""

    def body(client: Flavour) -> Any:
        with region(client, 256) as (key, handle):
            shm.set_shared_memory_region(handle, [PAIR["X"]])
            x = client.library.InferInput("X", [1, 3], "FP32")
            x.set_shared_memory("region", 12)
            outputs = [client.library.InferRequestedOutput(name) for name in ("Y", "T")]
            outputs[0].set_shared_memory("region", 12, offset=64)
            outputs[1].set_shared_memory("region", 64, offset=128)
            inputs = [x, *client.inputs({"S": PAIR["S"]})]
            result = client.call("infer", "pair", inputs, outputs=outputs)
            status = client.tried("get_system_shared_memory_status", "region")
            return [
                seen(result.get_output("Y")),
                seen(result.get_output("T")),
                seen(shm.get_contents_as_numpy(handle, np.float32, [1, 3], 64)),
                seen(shm.get_contents_as_numpy(handle, np.object_, [1, 2], 128)),
                repr(status).replace(key, "KEY"),
                client.tried("register_system_shared_memory", "region", key, 256),
            ]

    flavours.same(kind, body)


@pytest.mark.rule("5.5-memory")
@kinds
def test_shared_memory_that_does_not_do(flavours: Flavours, kind: Kind) -> None:
    def asked(client: Flavour, name: str, size: int, offset: int, output: int | None) -> Any:
        x = client.library.InferInput("X", [1, 3], "FP32")
        x.set_shared_memory(name, size, offset)
        y = client.library.InferRequestedOutput("Y")
        if output is not None:
            y.set_shared_memory("region", output, 128)
        return client.tried("infer", "pair", [x, *client.inputs({"S": PAIR["S"]})], outputs=[y])

    def body(client: Flavour) -> Any:
        with region(client, 256):
            return [
                asked(client, "nothing", 12, 0, None),
                asked(client, "region", 8, 0, None),
                asked(client, "region", 12, 250, None),
                asked(client, "region", 512, 0, None),
                asked(client, "region", 12, 0, 8),
                asked(client, "region", 12, 0, 512),
            ]

    flavours.same(kind, body)


# More than one request at once


@pytest.mark.rule("5.5-concurrency")
@kinds
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
        answer = client.infer("waits", gate.arrays, client_timeout=0.5)
        gate.wait_until("cancelled")
        return [answer, client.infer("pair", PAIR, client_timeout=PATIENCE)]

    flavours.same(kind, body)


@pytest.mark.rule("5.5-timeouts")
def test_a_callback_that_waits_so_long_only(flavours: Flavours, tmp_path: Path) -> None:
    def body(client: Flavour) -> Any:
        gate, came = Gate(tmp_path), SimpleQueue[Any]()
        client.client.async_infer(
            "waits", client.inputs(gate.arrays), callback=came_to(came), client_timeout=0.5
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
    def body(client: Flavour) -> Any:
        return client.stream(
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
            came = client.stream([request], stream_timeout=0.5)
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
