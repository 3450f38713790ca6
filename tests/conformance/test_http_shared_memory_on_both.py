"""System shared memory over HTTP: regions, and tensors in them; CUDA regions where is no GPU."""

from __future__ import annotations

import json
import os
import struct
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.http
import tritonclient.utils.shared_memory as shm
from broken_models import both_engines, write_models
from comparing import Engines
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
from test_http_errors import Answer, ask, same

SYSTEM, CUDA = "/v2/systemsharedmemory", "/v2/cudasharedmemory"
MODEL = """
import time
from pathlib import Path
import numpy as np
import triton_python_backend_utils as pb_utils
class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request) for request in requests]
    def answer(self, request):
        array = pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()
        return pb_utils.InferenceResponse(self.outputs(request, array))
    def outputs(self, request, array):
        return [pb_utils.Tensor("OUT", array), pb_utils.Tensor("TWICE", array * 2)]
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


def forgotten(url: str) -> bool:
    """Unregister all; False while a request that is answered still has a region in use."""
    ask(url, "POST", f"{SYSTEM}/unregister")
    return ask(url, "GET", f"{SYSTEM}/status").document == "[]"


def both(urls: tuple[str, str], body: Callable[[str], Any]) -> Any:
    """What a body returns that may register regions; they are gone afterwards."""

    def clean(url: str) -> Any:
        try:
            return body(url)
        finally:
            wait_until(lambda: forgotten(url))

    stub, native = map(clean, urls)
    assert stub == native
    return native


def register(url: str, name: str = "r", *, of: str = SYSTEM, **body: Any) -> Answer:
    return ask(url, "POST", f"{of}/region/{name}/register", json.dumps(body).encode())


def registered(url: str, size: int = 64) -> None:
    assert register(url, key=KEY, byte_size=size).status == 200


# Registering


ASKED = {
    "status of all": ("GET", "/status"),
    "status of none such": ("GET", "/region/r/status"),
    "status by POST": ("POST", "/status"),
    "status by PUT": ("PUT", "/region/r/status"),
    "register by GET": ("GET", "/region/r/register"),
    "register without a name": ("POST", "/register"),
    "register without a body": ("POST", "/region/r/register"),
    "unregister by GET": ("GET", "/unregister"),
    "unregister all": ("POST", "/unregister"),
    "unregister none such": ("POST", "/region/r/unregister"),
    "no such action": ("POST", "/region/r/destroy"),
    "no name between slashes": ("GET", "/region//status"),
    "a name with a slash": ("GET", "/region/a/b/status"),
    "a name in percent": ("GET", "/region/a%20b/status"),
    "a slash at the end": ("GET", "/region/r/status/"),
    "nothing": ("GET", ""),
}


@pytest.mark.rule("5.4-regions")
@pytest.mark.parametrize("root", [SYSTEM, CUDA])
@pytest.mark.parametrize(("method", "path"), ASKED.values(), ids=ASKED)
def test_paths(urls: tuple[str, str], root: str, method: str, path: str) -> None:
    same(urls, method, root + path)


REGISTERED: dict[str, Any] = {
    "whole": {"key": KEY, "byte_size": SIZE},
    "a part": {"key": KEY, "byte_size": 1},
    "a key without a slash": {"key": KEY[1:], "byte_size": 64},
    "a key with slashes": {"key": f"//{KEY}", "byte_size": 64},
    "a key up to a zero": {"key": f"{KEY}\0x", "byte_size": 64},
    "more fields": {"key": KEY, "byte_size": 64, "name": "n", "x": [1]},
    "a page later": {"key": KEY, "byte_size": 64, "offset": 4096},
    "no key": {"byte_size": 64},
    "no byte_size": {"key": KEY},
    "key is a number": {"key": 1, "byte_size": 64},
    "key is null": {"key": None, "byte_size": 64},
    "byte_size is text": {"key": KEY, "byte_size": "64"},
    "byte_size is negative": {"key": KEY, "byte_size": -1},
    "byte_size is a float": {"key": KEY, "byte_size": 64.0},
    "byte_size beyond 64 bits": {"key": KEY, "byte_size": 2**64},
    "offset is text": {"key": KEY, "byte_size": 64, "offset": "0"},
    "offset is null": {"key": KEY, "byte_size": 64, "offset": None},
    "offset is wrong and byte_size is missing": {"key": KEY, "offset": -1},
    "no such key": {"key": "/no_such_triton_stub", "byte_size": 64},
    "a path up": {"key": f"..{KEY}", "byte_size": 64},
    "a path up from the root": {"key": "/../etc/passwd", "byte_size": 64},
    "a directory": {"key": "..", "byte_size": 64},
    "a slash inside": {"key": "/a/b", "byte_size": 64},
    "a slash behind": {"key": f"{KEY}/", "byte_size": 64},
    "a key too long": {"key": "x" * 300, "byte_size": 64},
    "no bytes": {"key": KEY, "byte_size": 0},
    "a byte too many": {"key": KEY, "byte_size": SIZE + 1},
    "behind the end": {"key": KEY, "byte_size": 1, "offset": SIZE},
    "nothing behind the end": {"key": KEY, "byte_size": 0, "offset": SIZE},
    "within a page": {"key": KEY, "byte_size": 64, "offset": 1},
    "a sum beyond 64 bits": {"key": KEY, "byte_size": SIZE, "offset": 2**64 - 4096},
    "a sum of 64 bits": {"key": KEY, "byte_size": 2**64 - 4096, "offset": 4096},
    "a sum within a page": {"key": KEY, "byte_size": 2**64 - 1, "offset": 1},
    "as large as can be": {"key": KEY, "byte_size": 2**64 - 1},
    "a list": [],
    "null": None,
}


@pytest.mark.rule("5.4-register")
@pytest.mark.usefixtures("memory")
@pytest.mark.parametrize("body", REGISTERED.values(), ids=REGISTERED)
def test_register(urls: tuple[str, str], body: Any) -> None:
    def registers(url: str) -> list[Answer]:
        path = f"{SYSTEM}/region/r/"
        return [
            ask(url, "POST", f"{path}register", json.dumps(body).encode()),
            ask(url, "GET", f"{path}status"),
            ask(url, "GET", f"{SYSTEM}/status"),
        ]

    both(urls, registers)


@pytest.mark.rule("5.4-register")
@pytest.mark.parametrize(
    "body",
    [b"{", b'{"key":"\xff","byte_size":1}', b'{"key":"\xc3\xa9","byte_size":1}', b"\xff"],
)
def test_odd_bodies(urls: tuple[str, str], body: bytes) -> None:
    assert same(urls, "POST", f"{SYSTEM}/region/r/register", body).status == 500


@pytest.mark.rule("5.4-regions")
@pytest.mark.usefixtures("memory")
def test_several_regions(urls: tuple[str, str]) -> None:
    def body(url: str) -> list[Answer]:
        return [
            register(url, "b", key=KEY, byte_size=64),
            register(url, "B%20", key=OTHER, byte_size=32),
            register(url, "b", key=OTHER, byte_size=32),
            register(url, "b", key="/no_such_triton_stub", byte_size=32),
            ask(url, "GET", f"{SYSTEM}/status"),
            ask(url, "POST", f"{SYSTEM}/region/b/unregister", b"nonsense"),
            ask(url, "POST", f"{SYSTEM}/region/b/unregister"),
            ask(url, "GET", f"{SYSTEM}/status"),
            ask(url, "GET", f"{SYSTEM}/region/b/status"),
            register(url, "b", key=KEY, byte_size=16),
            ask(url, "POST", f"{SYSTEM}/unregister"),
            ask(url, "GET", f"{SYSTEM}/status"),
        ]

    assert "'offset': 0" in both(urls, body)[4].document


HANDLE = b64encode(bytes(64)).decode()
CUDA_BODIES: dict[str, Any] = {
    "no handle": {},
    "a list": [],
    "the handle is a number": {"raw_handle": 5},
    "the handle is text": {"raw_handle": "A"},
    "no b64": {"raw_handle": {}},
    "b64 is a number": {"raw_handle": {"b64": 5}},
    "no byte_size": {"raw_handle": {"b64": HANDLE}},
    "byte_size is text": {"raw_handle": {"b64": HANDLE}, "byte_size": "4"},
    "no device": {"raw_handle": {"b64": HANDLE}, "byte_size": 4},
    "a negative device": {"raw_handle": {"b64": HANDLE}, "byte_size": 4, "device_id": -1},
    **{
        text: {"raw_handle": {"b64": handle}, "byte_size": 4, "device_id": 0}
        for text, handle in {
            "a good handle": HANDLE,
            "an empty handle": "",
            "63 bytes": b64encode(bytes(63)).decode(),
            "65 bytes": b64encode(bytes(65)).decode(),
            "no padding": HANDLE.rstrip("="),
            "padding inside": f"{HANDLE[:40]}={HANDLE[40:]}",
            "letters of no alphabet": f"{HANDLE[:40]}!\n{HANDLE[40:]}",
            "a letter too many": f"{HANDLE}A",
        }.items()
    },
}


@pytest.mark.rule("5.4-cuda")
@pytest.mark.parametrize("body", CUDA_BODIES.values(), ids=CUDA_BODIES)
def test_register_cuda(urls: tuple[str, str], body: Any) -> None:
    path, text = f"{CUDA}/region/r/register", json.dumps(body).encode()
    assert same(urls, "POST", path, text).status >= 400


@pytest.mark.rule("5.4-cuda")
@pytest.mark.usefixtures("memory")
def test_a_region_is_not_of_the_other_kind(urls: tuple[str, str]) -> None:
    def body(url: str) -> list[Answer]:
        registered(url)
        return [
            ask(url, "GET", f"{CUDA}/status"),
            ask(url, "GET", f"{CUDA}/region/r/status"),
            ask(url, "POST", f"{CUDA}/region/r/unregister"),
            ask(url, "POST", f"{CUDA}/unregister"),
            register(url, of=CUDA, raw_handle={"b64": HANDLE}, byte_size=4, device_id=0),
            ask(url, "GET", f"{SYSTEM}/status"),
        ]

    both(urls, body)


# Tensors


def infer(
    url: str, tensor: dict[str, Any], *outputs: dict[str, Any], model: str = "echo", **fields: Any
) -> Answer:
    datatype = "BYTES" if model == "text" else "FP32"
    document = {"inputs": [{"name": "IN", "datatype": datatype, "shape": [4], **tensor}], **fields}
    if outputs:
        document["outputs"] = [{"name": "OUT", **output} for output in outputs]
    return ask(url, "POST", f"/v2/models/{model}/infer", json.dumps(document).encode())


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


IN = b'{"name":"IN","datatype":"FP32","shape":[1],"data":[1]}'
ODD_BYTES = {
    "an id": b'{"id":"\xc3\xa9\xff","inputs":[%s]}' % IN,
    "an id up to a zero": b'{"id":"a\\u0000b","inputs":[%s]}' % IN,
    "an id of a pair": b'{"id":"\\ud83d\\ude00","inputs":[%s]}' % IN,
    "an id of half a pair": b'{"id":"\\ud83d","inputs":[%s]}' % IN,
    "an id beside what is refused": b'{"id":"\xff\xc3\xa9","inputs":[%s,%s]}' % (IN, IN),
    "an input": b'{"inputs":[%s]}' % IN.replace(b"IN", b"I\xffN"),
    "an input in UTF-8": b'{"inputs":[%s]}' % IN.replace(b"IN", b"IN\xc3\xa9"),
    "an input up to a zero": b'{"inputs":[%s]}' % IN.replace(b"IN", b"IN\\u0000x"),
    "a datatype": b'{"inputs":[%s]}' % IN.replace(b"FP32", b"FP\xff"),
    "a datatype up to a zero": b'{"inputs":[%s]}' % IN.replace(b"FP32", b"FP32\\u0000x"),
    "an output": b'{"inputs":[%s],"outputs":[{"name":"OUT\xff"}]}' % IN,
    "an output up to a zero": b'{"inputs":[%s],"outputs":[{"name":"OUT\\u0000x"}]}' % IN,
    "a region": (
        b'{"inputs":[%s],"outputs":[{"name":"OUT","parameters":'
        b'{"shared_memory_region":"\xff\xc3\xa9","shared_memory_byte_size":4}}]}' % IN
    ),
    "a parameter": b'{"inputs":[%s],"parameters":{"k\xff":"v\xff\xc3\xa9"}}' % IN,
    "a parameter up to a zero": b'{"inputs":[%s],"parameters":{"k\\u0000x":1}}' % IN,
    "a sequence": b'{"inputs":[%s],"parameters":{"sequence_id":"\xff\\u0000"}}' % IN,
}


@pytest.mark.rule("5.4-names")
@pytest.mark.parametrize("body", ODD_BYTES.values(), ids=ODD_BYTES)
def test_odd_bytes(urls: tuple[str, str], body: bytes) -> None:
    same(urls, "POST", "/v2/models/echo/infer", body)


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
def test_the_official_client(engines: Engines, memory: Any) -> None:
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

    urls = engines.stub.http_url, engines.native.http_url
    assert both(urls, body)[2] == [10, 12, 14]


# What is newer than the real server of this suite, or deviates


@pytest.mark.rule("5.4-register")
@pytest.mark.newer("25.08", "server src/common.cc, ValidateSharedMemoryKey")
@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("", "cannot register shared memory region 'r' - invalid shm key ''"),
        ("//", "cannot register shared memory region 'r' - invalid shm key '//'"),
        (
            "//triton_python_backend_shm_region_1",
            "cannot register shared memory region 'r' with key "
            "'//triton_python_backend_shm_region_1' as the key contains the reserved prefix "
            "'triton_python_backend_shm_region_'",
        ),
    ],
)
def test_keys_that_are_not_for_clients(engines: Engines, key: str, text: str) -> None:
    answer = register(engines.stub.http_url, key=key, byte_size=1)
    assert answer == (400, "application/json", repr({"error": text}), b"")


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
    data = {"data": [5, 6, 7, 8]}

    def asks() -> None:
        asked = (place,) if used == "input" else (data, place)
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
        assert answer.status == 400
        assert "has shrunk to 0 bytes" in answer.document
    finally:
        wait_until(lambda: forgotten(url))
    assert ask(url, "GET", "/v2/health/live").status == 200
