"""Inference with clients of tritonclient, of all four kinds."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import pytest
import tritonclient.utils.shared_memory as shm
import urllib3
from client_models import PAIR, VALUES, number
from flavours import KINDS, Flavour, Flavours, seen, tried
from patience import wait_until
from shared_objects import forgotten
from tritonclient.http import InferenceServerClient, InferRequestedOutput

from triton_stub.endpoints.clients import Kind

HTTP = ("http", "http.aio")
GRPC = ("grpc", "grpc.aio")
HELLO = {"IN": np.array([b"hello"], dtype=np.object_)}
ALGORITHMS = ("gzip", "deflate")


kinds = pytest.mark.parametrize("kind", KINDS)


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


@pytest.mark.rule("5.5-datatypes")
@kinds
@pytest.mark.parametrize("datatype", VALUES)
def test_a_datatype(flavours: Flavours, kind: Kind, datatype: str) -> None:
    """What comes back is what was sent; also of no elements at all."""
    array = VALUES[datatype]

    def body(client: Flavour) -> Any:
        return [
            client.infer("same", {datatype: sent})
            for sent in (array, array[:, :0], np.repeat(array, 3, 0))
        ]

    came = flavours.same(kind, body)
    for answer, sent in zip(came, (array, array[:, :0]), strict=False):
        assert answer["arrays"][datatype]["values"] == sent.tolist()


@pytest.mark.rule("5.5-datatypes")
@pytest.mark.parametrize("kind", HTTP)
@pytest.mark.parametrize("datatype", VALUES)
def test_a_datatype_as_json(flavours: Flavours, kind: Kind, datatype: str) -> None:
    """Inputs, outputs, and both; some the client refuses, some the server."""
    options = {"binary_data": False}

    def body(client: Flavour) -> Any:
        arrays = {datatype: VALUES[datatype]}
        outputs = [client.library.InferRequestedOutput(datatype, **options)]
        return [
            tried(lambda: client.call("infer", "same", client.inputs(arrays, **options))),
            client.infer("same", arrays, outputs=outputs),
        ]

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
            unregister = partial(client.call, "unregister_system_shared_memory", name)
            wait_until(lambda: forgotten(unregister))
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
