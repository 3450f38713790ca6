"""Shared memory and classification over gRPC: the same messages to both."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from comparing import Engines
from grpc_asking import Failure, answered, call, output, request, tensor
from patience import wait_until
from shared_objects import (
    BYTE_SIZE,
    KEY,
    OFFSET,
    OTHER,
    REGION,
    SIZE,
    VALUES,
    read,
    shared_objects,
    write,
)
from tritonclient.grpc import service_pb2

from triton_stub.datatypes import DATATYPES, encode_bytes
from triton_stub.engines.engine import Engine


@pytest.fixture
def memory() -> Iterator[Any]:
    with shared_objects() as handle:
        yield handle


def about(engine: Engine, method: str, **fields: Any) -> Any:
    """The answer to a request of the extension, such as ``"SystemSharedMemoryStatus"``."""
    return call(engine, method, getattr(service_pb2, f"{method}Request")(**fields))


def register(engine: Engine, name: str = "r", key: str = KEY, size: int = 64, **more: Any) -> Any:
    return about(engine, "SystemSharedMemoryRegister", name=name, key=key, byte_size=size, **more)


def forgotten(engine: Engine) -> bool:
    """Unregister all; False while a request that is answered still has a region in use."""
    about(engine, "SystemSharedMemoryUnregister")
    nothing: bool = about(engine, "SystemSharedMemoryStatus") == {"regions": {}}
    return nothing


def both(engines: Engines, body: Callable[[Engine], Any]) -> Any:
    """What a body returns that may register regions; they are gone afterwards."""

    def clean(engine: Engine) -> Any:
        try:
            return body(engine)
        finally:
            wait_until(lambda: forgotten(engine))

    stub, native = map(clean, engines)
    assert stub == native
    return native


REGISTERED: dict[str, dict[str, Any]] = {
    "whole": {"size": SIZE},
    "a page later": {"offset": 4096},
    "no bytes": {"size": 0},
    "a byte too many": {"size": SIZE + 1},
    "within a page": {"offset": 1},
    "a sum beyond 64 bits": {"size": SIZE, "offset": 2**64 - 4096},
    "no such key": {"key": "/no_such_triton_stub"},
    "a path": {"key": "../etc/passwd"},
    "no name": {"name": ""},
    "a name with a slash": {"name": "a/b é"},
}


@pytest.mark.rule("5.4-register")
@pytest.mark.usefixtures("memory")
@pytest.mark.parametrize("fields", REGISTERED.values(), ids=REGISTERED)
def test_register(grpc_engines: Engines, fields: dict[str, Any]) -> None:
    def body(engine: Engine) -> Any:
        return [
            register(engine, **fields),
            about(engine, "SystemSharedMemoryStatus", name=fields.get("name", "r")),
            register(engine, "other", OTHER),
            register(engine, "other", OTHER),
            about(engine, "SystemSharedMemoryStatus"),
            about(engine, "SystemSharedMemoryUnregister", name="other"),
            about(engine, "SystemSharedMemoryUnregister", name="nothing"),
            about(engine, "SystemSharedMemoryStatus"),
        ]

    both(grpc_engines, body)


@pytest.mark.rule("5.4-cuda")
@pytest.mark.usefixtures("memory")
@pytest.mark.parametrize("name", ["r", "new", ""])
def test_cuda(grpc_engines: Engines, name: str) -> None:
    def body(engine: Engine) -> Any:
        register(engine)
        fields = {"raw_handle": bytes(64), "device_id": 0, "byte_size": 4}
        return [
            about(engine, "CudaSharedMemoryStatus", name=name),
            about(engine, "CudaSharedMemoryRegister", name=name, **fields),
            about(engine, "CudaSharedMemoryUnregister", name=name),
            about(engine, "SystemSharedMemoryStatus"),
        ]

    both(grpc_engines, body)


INPUTS = {
    "from the beginning": {REGION: "r", BYTE_SIZE: 16},
    "from an offset": {REGION: "r", BYTE_SIZE: 16, OFFSET: 8},
    "too small": {REGION: "r", BYTE_SIZE: 12},
    "beyond the end": {REGION: "r", BYTE_SIZE: 16, OFFSET: 49},
    "behind the end": {REGION: "r", BYTE_SIZE: 16, OFFSET: 64},
    "a negative offset": {REGION: "r", BYTE_SIZE: 16, OFFSET: -1},
    "a negative size": {REGION: "r", BYTE_SIZE: -1},
}


@pytest.mark.rule("5.4-inputs")
@pytest.mark.usefixtures("memory")
@pytest.mark.parametrize("parameters", INPUTS.values(), ids=INPUTS)
def test_inputs(grpc_engines: Engines, parameters: dict[str, Any]) -> None:
    def body(engine: Engine) -> Any:
        register(engine)
        return call(engine, "ModelInfer", request("echo", tensor(parameters=parameters)))

    both(grpc_engines, body)


OUTPUTS = {
    "just large enough": {REGION: "r", BYTE_SIZE: 16},
    "at an offset": {REGION: "r", BYTE_SIZE: 32, OFFSET: 17},
    "too small": {REGION: "r", BYTE_SIZE: 15},
    "beyond the end": {REGION: "r", BYTE_SIZE: 16, OFFSET: 49},
}


@pytest.mark.rule("5.4-outputs")
@pytest.mark.parametrize("parameters", OUTPUTS.values(), ids=OUTPUTS)
def test_outputs(grpc_engines: Engines, memory: Any, parameters: dict[str, Any]) -> None:
    def body(engine: Engine) -> Any:
        write(memory)
        register(engine)
        values = struct.pack("<4f", 5, 6, 7, 8)
        asked = request("echo", raw=(values,), outputs=[output(**parameters)])
        return call(engine, "ModelInfer", asked), read(memory)

    both(grpc_engines, body)


@pytest.mark.rule("5.4-bytes", "5.4-outputs")
def test_texts_from_and_to_a_region(grpc_engines: Engines, memory: Any) -> None:
    texts = encode_bytes(np.array([b"a", b"", b"b\0c"], object))

    def body(engine: Engine) -> Any:
        write(memory, texts)
        register(engine)
        entry = tensor("BYTES", "BYTES", (3,), {REGION: "r", BYTE_SIZE: len(texts)})
        wanted = output("OUT_BYTES", **{REGION: "r", BYTE_SIZE: 32, OFFSET: 32})
        answer = call(engine, "ModelInfer", request("types", entry, outputs=[wanted]))
        return answer, read(memory)

    _, content = both(grpc_engines, body)
    assert content[32:].startswith(texts)


@pytest.mark.rule("5.4-unregister")
def test_a_region_of_the_other_port(grpc_engines: Engines, memory: Any) -> None:
    """There is one list of regions for both ports."""

    def body(engine: Engine) -> Any:
        write(memory)
        with engine.client() as client:
            client.register_system_shared_memory("r", KEY, 64)
            entry = tensor(parameters={REGION: "r", BYTE_SIZE: 16})
            first = call(engine, "ModelInfer", request("echo", entry))
            wait_until(lambda: forgotten(engine))
            assert client.get_system_shared_memory_status() == []
            return first, call(engine, "ModelInfer", request("echo", entry))

    first, second = both(grpc_engines, body)
    assert read(memory, 16) == VALUES
    assert (isinstance(first, Failure), isinstance(second, Failure)) == (False, True)


@pytest.mark.rule("5.4-datatypes")
@pytest.mark.parametrize("row", [row for row in DATATYPES if row.name != "BYTES"], ids=repr)
@pytest.mark.parametrize("count", [1, 2, 5])
def test_classes(grpc_engines: Engines, row: Any, count: int) -> None:
    values = np.array([3, 1, 2], row.numpy).tobytes()
    stub, native = (
        call(
            engine,
            "ModelInfer",
            request(
                "types",
                tensor(row.name, row.name, (3,)),
                raw=(values,),
                outputs=[output(f"OUT_{row.name}", classification=count)],
            ),
        )
        for engine in grpc_engines
    )
    assert stub == native


@pytest.mark.rule("5.4-classes")
def test_no_classes(grpc_engines: Engines) -> None:
    """Which over HTTP is the end of the real server."""
    wanted = [output("OUT_FP32", classification=2)]
    entry = tensor("FP32", "FP32", (0,))
    answer = answered(grpc_engines, "types", entry, raw=(b"",), outputs=wanted)
    assert answer["outputs"][0]["shape"] == ["0"]
