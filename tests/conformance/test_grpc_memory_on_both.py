"""gRPC: tensors in shared memory, and outputs as classes, on both."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from multiprocessing.shared_memory import SharedMemory
from typing import Any

import numpy as np
import pytest
from comparing import Engines
from grpc_asking import Failure, call, output, request, tensor
from patience import wait_until
from tritonclient.grpc import service_pb2 as pb

from triton_stub.engines.engine import Engine

SIZE = 4096
VALUES = np.array([4, 1, 3, 2], np.float32)


class Region:
    """A region that both servers have under the same name, one after the other."""

    def __init__(self, engine: Engine, memory: SharedMemory) -> None:
        self._engine = engine
        self._memory = memory
        memory.buf[:] = bytes(SIZE)
        memory.buf[: VALUES.nbytes] = VALUES.tobytes()

    def infer(self, message: Any) -> Any:
        """The answer, and which bytes are in the memory then."""
        answer = call(self._engine, "ModelInfer", message)
        return answer, bytes(self._memory.buf[:SIZE]).rstrip(b"\0")

    def call(self, method: str, **fields: Any) -> Any:
        return call(self._engine, method, getattr(pb, f"{method}Request")(**fields))

    def forget(self, name: str = "") -> None:
        """Unregister; a request has its region in use a little longer than until its answer."""
        wait_until(lambda: self.call("SystemSharedMemoryUnregister", name=name) == {})


@contextlib.contextmanager
def region(engine: Engine) -> Iterator[Region]:
    memory = SharedMemory(create=True, size=SIZE)
    try:
        there = Region(engine, memory)
        registered = there.call(
            "SystemSharedMemoryRegister", name="r", key=f"/{memory.name}", byte_size=SIZE
        )
        assert registered == {}
        yield there
        there.forget("r")
    finally:
        memory.close()
        memory.unlink()


def same(engines: Engines, body: Callable[[Region], Any]) -> Any:
    def run(engine: Engine) -> Any:
        with region(engine) as there:
            return body(there)

    stub, native = map(run, engines)
    assert stub == native
    return native


def at(offset: int | None = None, size: int | None = 16, name: str = "r") -> dict[str, Any]:
    """Parameters of a tensor in shared memory."""
    given = {
        "shared_memory_region": name,
        "shared_memory_offset": offset,
        "shared_memory_byte_size": size,
    }
    return {key: value for key, value in given.items() if value is not None}


INPUTS = {
    "input": request("echo", tensor(parameters=at())),
    "input with offset": request("echo", tensor(shape=(3,), parameters=at(4, 12))),
    "input too large": request("echo", tensor(parameters=at(size=20))),
    "input too small": request("echo", tensor(parameters=at(size=12))),
    "input beyond the region": request("echo", tensor(parameters=at(SIZE - 8))),
    "offset beyond the region": request("echo", tensor(parameters=at(SIZE))),
    "negative offset": request("echo", tensor(parameters=at(-1))),
    "negative size": request("echo", tensor(parameters=at(0, -1))),
    "surplus raw contents": request("echo", tensor(parameters=at()), raw=(b"x",)),
    "one of two": request(
        "types",
        tensor("FP32", "FP32", parameters=at()),
        tensor("INT32", "INT32", (1,)),
        raw=(b"\1\0\0\0",),
    ),
}
OUTPUTS = {
    "output": [output(**at(64))],
    "output, much room": [output(**at(64, 1024))],
    "output, no room": [output(**at(64, 12))],
    "output, no room at all": [output(**at(64, 0))],
    "output, beyond the region": [output(**at(SIZE - 8))],
    "both outputs": [output(**at(64)), output("TOLD", **at(128, 512))],
    "one of two outputs": [output(**at(64)), output("TOLD")],
    "output in place of the input": [output(**at())],
    "unknown output": [output("X", **at(64))],
    "name with a zero": [output("OUT\0", **at(64))],
}


@pytest.mark.rule("5.2-memory")
@pytest.mark.parametrize("message", INPUTS.values(), ids=INPUTS)
def test_inputs(grpc_engines: Engines, message: Any) -> None:
    same(grpc_engines, lambda there: there.infer(message))


@pytest.mark.rule("5.2-memory")
@pytest.mark.parametrize("outputs", OUTPUTS.values(), ids=OUTPUTS)
def test_outputs(grpc_engines: Engines, outputs: list[Any]) -> None:
    same(grpc_engines, lambda there: there.infer(request("echo", outputs=outputs)))


@pytest.mark.rule("5.2-memory")
def test_input_and_output(grpc_engines: Engines) -> None:
    message = request("echo", tensor(parameters=at()), outputs=[output(**at(16))])
    answer, memory = same(grpc_engines, lambda there: there.infer(message))
    assert answer["raw_output_contents"] == [""]
    assert memory == VALUES.tobytes() * 2


@pytest.mark.rule("5.2-memory")
def test_life_of_a_region(grpc_engines: Engines) -> None:
    def body(there: Region) -> Any:
        message = request("echo", tensor(parameters=at()))
        told = [
            there.call("SystemSharedMemoryStatus")["regions"]["r"].pop("key").startswith("/"),
            there.call("SystemSharedMemoryRegister", name="r", key="/x", byte_size=1),
            there.call("CudaSharedMemoryUnregister"),
            there.infer(message)[0],
            there.forget(),
            there.infer(message)[0],
            there.call("SystemSharedMemoryStatus"),
        ]
        assert isinstance(told[5], Failure)
        return told

    same(grpc_engines, body)


CLASSES = {
    "FP32": np.array([[1, 5, 3], [9, 7, 8]], np.float32),
    "INT8": np.array([[1, -5, 3], [9, 7, -128]], np.int8),
    "BOOL": np.array([[True, False]]),
    "FP16": np.array([[1, 2]], np.float16),
}


@pytest.mark.rule("5.2-classes")
@pytest.mark.parametrize("count", [1, 2, 9])
@pytest.mark.parametrize("datatype", CLASSES)
def test_classes(grpc_engines: Engines, datatype: str, count: int) -> None:
    array = CLASSES[datatype]
    message = request(
        "classes",
        tensor(f"IN_{datatype}", datatype, array.shape),
        raw=(array.tobytes(),),
        outputs=[output(f"OUT_{datatype}", classification=count)],
    )
    stub, native = (call(engine, "ModelInfer", message) for engine in grpc_engines)
    assert stub == native
