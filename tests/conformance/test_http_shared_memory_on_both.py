"""System shared memory over HTTP: tensors in regions."""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.http
import tritonclient.utils.shared_memory as shm
from broken_models import both_engines, write_models
from comparing import Engines
from http_memory import SYSTEM, both, forgotten, infer, register, registered
from patience import PATIENCE, wait_until
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
from test_http_errors import Answer, ask

MODEL = """
import time
from pathlib import Path
import triton_python_backend_utils as pb_utils
class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request) for request in requests]
    def answer(self, request):
        array = pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()
        outputs = [pb_utils.Tensor("OUT", array), pb_utils.Tensor("TWICE", array * 2)]
        return pb_utils.InferenceResponse(outputs)
"""
# Says that it is there, and waits for a file that is named by the id.
SLOW = MODEL.replace(
    "        array =",
    """\
        Path(request.request_id() + ".here").touch()
        while not Path(request.request_id()).exists():
            time.sleep(0.005)
        array =""",
)
CONFIG = """
backend: "python"
input { name: "IN" data_type: TYPE_FP32 dims: [ -1 ] }
output { name: "OUT" data_type: TYPE_FP32 dims: [ -1 ] }
output { name: "TWICE" data_type: TYPE_FP32 dims: [ -1 ] }
"""


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    folder = tmp_path_factory.mktemp("memory")
    write_models(folder, {"echo": MODEL, "slow": SLOW}, CONFIG)
    write_models(folder, {"text": MODEL}, CONFIG.replace("FP32", "STRING"))
    with both_engines(folder) as both:
        yield both


@pytest.fixture(scope="module")
def urls(engines: Engines) -> tuple[str, str]:
    return engines.stub.http_url, engines.native.http_url


@pytest.fixture
def memory() -> Iterator[Any]:
    with shared_objects() as handle:
        yield handle


INPUTS: dict[str, dict[str, Any]] = {
    "from the beginning": {REGION: "r", BYTE_SIZE: 16},
    "from an offset": {REGION: "r", BYTE_SIZE: 16, OFFSET: 8},
    "up to the end": {REGION: "r", BYTE_SIZE: 16, OFFSET: 48},
    "too small": {REGION: "r", BYTE_SIZE: 12},
    "too large": {REGION: "r", BYTE_SIZE: 20},
    "beyond the end": {REGION: "r", BYTE_SIZE: 16, OFFSET: 49},
    "more than there is": {REGION: "r", BYTE_SIZE: 65},
    "behind the end": {REGION: "r", BYTE_SIZE: 16, OFFSET: 64},
    "nothing behind the end": {REGION: "r", BYTE_SIZE: 0, OFFSET: 64},
    "nothing before the end": {REGION: "r", BYTE_SIZE: 0, OFFSET: 63},
    "no such region": {REGION: "q", BYTE_SIZE: 16},
    "an empty name": {REGION: "", BYTE_SIZE: 16},
    "a name up to a zero": {REGION: "r\0x", BYTE_SIZE: 16},
    "the region is a number": {REGION: 1, BYTE_SIZE: 16},
    "the region is null": {REGION: None, BYTE_SIZE: 16},
    "the size is text": {REGION: "r", BYTE_SIZE: "16"},
    "the size is negative": {REGION: "r", BYTE_SIZE: -1},
    "the size is a float": {REGION: "r", BYTE_SIZE: 16.0},
    "the offset is negative": {REGION: "r", BYTE_SIZE: 16, OFFSET: -1},
    "the offset beyond 64 bits": {REGION: "r", BYTE_SIZE: 16, OFFSET: 2**64},
    "offset and size of no region": {BYTE_SIZE: 16, OFFSET: 0},
    "region and binary data": {REGION: "r", BYTE_SIZE: 16, "binary_data_size": 16},
    "all of it is wrong": {REGION: 1, BYTE_SIZE: "x", OFFSET: "x"},
    "the rest is wrong": {REGION: "r", BYTE_SIZE: "x", OFFSET: "x"},
    "what is for outputs": {REGION: "r", BYTE_SIZE: 16, "classification": "x", "binary_data": 7},
}


@pytest.mark.rule("5.4-inputs")
@pytest.mark.usefixtures("memory")
@pytest.mark.parametrize("parameters", INPUTS.values(), ids=INPUTS)
def test_inputs(urls: tuple[str, str], parameters: dict[str, Any]) -> None:
    def body(url: str) -> Answer:
        registered(url)
        return infer(url, {"parameters": parameters})

    both(urls, body)


BESIDE_DATA: dict[str, Any] = {
    "a region": {REGION: "r", BYTE_SIZE: 16},
    "a size": {BYTE_SIZE: 16},
    "a size that is text": {BYTE_SIZE: "x"},
    "an offset that is text": {OFFSET: "x"},
    "what nobody knows": {"foo": []},
    "a number": 5,
    "null": None,
}


@pytest.mark.rule("5.4-inputs")
@pytest.mark.usefixtures("memory")
@pytest.mark.parametrize("parameters", BESIDE_DATA.values(), ids=BESIDE_DATA)
def test_inputs_beside_data(urls: tuple[str, str], parameters: Any) -> None:
    def body(url: str) -> Answer:
        registered(url)
        return infer(url, {"data": [1, 2, 3, 4], "parameters": parameters})

    both(urls, body)


TENSORS: dict[str, dict[str, Any]] = {
    "of no elements": {"shape": [0]},
    "of no known datatype": {"datatype": "FOO"},
    "of another datatype": {"datatype": "INT32"},
    "of too many elements": {"shape": [5]},
    "of another name": {"name": "X"},
}


@pytest.mark.rule("5.4-inputs")
@pytest.mark.usefixtures("memory")
@pytest.mark.parametrize("fields", TENSORS.values(), ids=TENSORS)
def test_inputs_that_are_wrong_as_well(urls: tuple[str, str], fields: dict[str, Any]) -> None:
    def body(url: str) -> Answer:
        registered(url)
        return infer(url, {"parameters": {REGION: "r", BYTE_SIZE: 16}, **fields})

    assert both(urls, body).status == 400


OUTPUTS: dict[str, dict[str, Any]] = {
    "just large enough": {REGION: "r", BYTE_SIZE: 16},
    "larger": {REGION: "r", BYTE_SIZE: 64},
    "at an offset": {REGION: "r", BYTE_SIZE: 16, OFFSET: 17},
    "too small": {REGION: "r", BYTE_SIZE: 15},
    "no room": {REGION: "r", BYTE_SIZE: 0, OFFSET: 1},
    "beyond the end": {REGION: "r", BYTE_SIZE: 16, OFFSET: 49},
    "no such region": {REGION: "q", BYTE_SIZE: 16},
    "a name up to a zero": {REGION: "r\0x", BYTE_SIZE: 16},
    "the region is a number": {REGION: 5, BYTE_SIZE: 16},
    "the region is null": {REGION: None, BYTE_SIZE: 16},
    "the size is negative": {REGION: "r", BYTE_SIZE: -1},
    "a size of no region": {BYTE_SIZE: 16},
    "a wrong size of no region": {BYTE_SIZE: "x"},
    "a wrong offset of no region": {OFFSET: "x", "binary_data": 1},
    "a wrong offset and classification": {OFFSET: "x", "classification": "x"},
    "no binary data": {REGION: "r", BYTE_SIZE: 16, "binary_data": False},
    "binary data": {REGION: "r", BYTE_SIZE: 16, "binary_data": True},
    "binary data is a number": {REGION: "r", BYTE_SIZE: 16, "binary_data": 1},
    "classification of none": {REGION: "r", BYTE_SIZE: 16, "classification": 0},
    "classification and binary data": {REGION: "r", "classification": 1, "binary_data": 1},
}


@pytest.mark.rule("5.4-outputs")
@pytest.mark.parametrize("parameters", OUTPUTS.values(), ids=OUTPUTS)
def test_outputs(urls: tuple[str, str], memory: Any, parameters: dict[str, Any]) -> None:
    def body(url: str) -> Any:
        write(memory)
        registered(url)
        data = {"data": [5, 6, 7, 8]}
        answer = infer(
            url, data, {"parameters": parameters}, parameters={"binary_data_output": True}
        )
        return answer, read(memory)

    both(urls, body)


@pytest.mark.rule("5.4-outputs")
def test_input_and_outputs_in_one_region(urls: tuple[str, str], memory: Any) -> None:
    def body(url: str) -> Any:
        write(memory)
        registered(url)
        answer = infer(
            url,
            {"parameters": {REGION: "r", BYTE_SIZE: 16}},
            {"parameters": {REGION: "r", BYTE_SIZE: 16, OFFSET: 32}},
            {"name": "TWICE", "parameters": {REGION: "r", BYTE_SIZE: 16, OFFSET: 48}},
        )
        return answer, read(memory)

    assert both(urls, body)[1] == VALUES + bytes(16) + VALUES + struct.pack("<4f", 2, 4, 6, 8)


@pytest.mark.rule("5.4-outputs")
def test_one_output_of_two(urls: tuple[str, str], memory: Any) -> None:
    def body(url: str) -> Any:
        write(memory)
        registered(url)
        answer = infer(
            url,
            {"data": [1, 2, 3, 5]},
            {"name": "TWICE", "parameters": {"binary_data": True}},
            {"parameters": {REGION: "r", BYTE_SIZE: 16, OFFSET: 32}},
        )
        return answer, read(memory)

    assert both(urls, body)[0].status == 200


@pytest.mark.rule("5.4-outputs")
@pytest.mark.parametrize("shape", [[0], [2]])
def test_an_output_without_elements(urls: tuple[str, str], memory: Any, shape: list[int]) -> None:
    def body(url: str) -> Any:
        write(memory)
        registered(url)
        data = {"shape": shape, "data": [1] * shape[0]}
        answer = infer(url, data, {"parameters": {REGION: "r", BYTE_SIZE: 0, OFFSET: 1}})
        return answer, read(memory)

    both(urls, body)


TEXTS = b"\1\0\0\0a\2\0\0\0bc\0\0\0\0\3\0\0\0d\0e"
TEXT_CASES = {
    "as they are": (len(TEXTS), 64),
    "the output is too small": (len(TEXTS), len(TEXTS) - 1),
    "the input ends too early": (len(TEXTS) - 1, 64),
    "the input has more": (len(TEXTS) + 1, 64),
}


@pytest.mark.rule("5.4-bytes")
@pytest.mark.parametrize(("size", "room"), TEXT_CASES.values(), ids=TEXT_CASES)
def test_texts(urls: tuple[str, str], memory: Any, size: int, room: int) -> None:
    def body(url: str) -> Any:
        write(memory, TEXTS)
        registered(url, 256)
        answer = infer(
            url,
            {"parameters": {REGION: "r", BYTE_SIZE: size}},
            {"parameters": {REGION: "r", BYTE_SIZE: room, OFFSET: 128}},
            model="text",
        )
        return answer, read(memory, 256)

    both(urls, body)


@pytest.mark.rule("5.4-unregister")
def test_a_region_that_is_gone(urls: tuple[str, str], memory: Any) -> None:
    """An object may be removed while it is registered; a region may not be used afterwards."""

    def body(url: str) -> Any:
        write(memory)
        registered(url)
        asked = {"parameters": {REGION: "r", BYTE_SIZE: 16}}
        first = infer(url, asked)
        wait_until(lambda: forgotten(url))
        return first, infer(url, asked)

    first, second = both(urls, body)
    assert (first.status, second.status) == (200, 404)


@pytest.mark.rule("5.4-client")
def test_the_official_client(urls: tuple[str, str], memory: Any) -> None:
    def body(url: str) -> Any:
        with tritonclient.http.InferenceServerClient(url) as client:
            shm.set_shared_memory_region(memory, [np.array([5, 6, 7], np.float32)])
            client.register_system_shared_memory("r", KEY, SIZE)
            tensor = tritonclient.http.InferInput("IN", [3], "FP32")
            tensor.set_shared_memory("r", 12)
            wanted = tritonclient.http.InferRequestedOutput("TWICE")
            wanted.set_shared_memory("r", 100, offset=100)
            result = client.infer("echo", [tensor], outputs=[wanted])
            output = result.get_output("TWICE")
            told = client.get_system_shared_memory_status()
            values = shm.get_contents_as_numpy(memory, np.float32, output["shape"], 100)
            return output, told, values.tolist(), client.get_cuda_shared_memory_status()

    assert both(urls, body)[2] == [10, 12, 14]


# What is newer than the real server of this suite, or deviates


@pytest.mark.rule("5.4-regions")
@pytest.mark.newer("26.05", "server src/shared_memory_manager.cc, RegisterSystemSharedMemory")
def test_one_object_twice(engines: Engines, memory: Any) -> None:
    """Each region is at its own offset, also since 25.08."""
    url = engines.stub.http_url
    try:
        assert register(url, "a", key=KEY, byte_size=4096).status == 200
        assert register(url, "b", key=KEY, byte_size=64, offset=4096).status == 200
        wanted = {"parameters": {REGION: "b", BYTE_SIZE: 16}}
        assert infer(url, {"parameters": {REGION: "a", BYTE_SIZE: 16}}, wanted).status == 200
        assert read(memory, 4096 + 16)[4096:] == VALUES
    finally:
        wait_until(lambda: forgotten(url))


@pytest.mark.rule("5.4-inputs")
@pytest.mark.newer("25.08", "server src/shared_memory_manager.cc, GetMemoryInfo")
@pytest.mark.usefixtures("memory")
@pytest.mark.parametrize(
    ("offset", "size", "text"),
    [
        (0, 0, "[request id: <id_unknown>] input byte size mismatch for input 'IN' for model "
               "'echo'. Expected 16, got 0"),
        (2, 2**64 - 1, f"Integer overflow detected: byte_size ({2**64 - 1}) + offset (2) exceeds "
                       f"maximum value ({2**64 - 1}) for region 'r'"),
        (1, 2**64 - 2, "Invalid offset + byte size for shared memory region: 'r'"),
    ],
)  # fmt: skip
def test_sizes_at_the_edge(engines: Engines, offset: int, size: int, text: str) -> None:
    url = engines.stub.http_url
    registered(url)
    try:
        answer = infer(url, {"parameters": {REGION: "r", BYTE_SIZE: size, OFFSET: offset}})
        assert (answer.status, answer.document) == (400, repr({"error": text}))
    finally:
        wait_until(lambda: forgotten(url))


@pytest.mark.rule("5.4-unregister")
@pytest.mark.newer("24.12", "server src/shared_memory_manager.cc, UnregisterHelper")
@pytest.mark.parametrize("name", ["/region/r", ""])
@pytest.mark.parametrize("used", ["input", "output"])
def test_unregistered_while_in_use(
    engines: Engines, memory: Any, tmp_path: Path, name: str, used: str
) -> None:
    """The region stays until the last request that uses it is answered, and keeps its name."""
    url = engines.stub.http_url
    go_on = tmp_path / "go on"
    answers: list[Answer] = []
    place = {"parameters": {REGION: "r", BYTE_SIZE: 16}}

    def asks() -> None:
        asked = (place,) if used == "input" else ({"data": [5, 6, 7, 8]}, place)
        answers.append(infer(url, *asked, model="slow", id=str(go_on)))

    registered(url)
    thread = threading.Thread(target=asks)
    thread.start()
    try:
        wait_until(go_on.with_name(f"{go_on.name}.here").exists)
        assert ask(url, "POST", f"{SYSTEM}{name}/unregister").status == 200
        assert "'name': 'r'" in ask(url, "GET", f"{SYSTEM}/status").document
        again = register(url, key=OTHER, byte_size=64)
        assert again.document == repr({"error": "shared memory region 'r' already in manager"})
    finally:
        go_on.touch()
        thread.join(PATIENCE)
    assert answers[0].status == 200
    if used == "output":
        assert read(memory, 16) == struct.pack("<4f", 5, 6, 7, 8)
    wait_until(lambda: ask(url, "GET", f"{SYSTEM}/status").document == "[]")


@pytest.mark.rule("5.4-inputs", "5.4-outputs")
@pytest.mark.deviation("shrunk-memory")
@pytest.mark.parametrize("used", ["input", "output"])
def test_an_object_that_shrinks(engines: Engines, memory: Any, used: str) -> None:
    """The real server dies of a bus error."""
    url = engines.stub.http_url
    registered(url)
    try:
        os.truncate(f"/dev/shm{KEY}", 0)
        place = {"parameters": {REGION: "r", BYTE_SIZE: 16}}
        answer = infer(url, *((place,) if used == "input" else ({"data": [1, 2, 3, 4]}, place)))
        assert (answer.status, "has shrunk to 0 bytes" in answer.document) == (400, True)
    finally:
        wait_until(lambda: forgotten(url))
    assert ask(url, "GET", "/v2/health/live").status == 200
