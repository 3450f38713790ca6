"""System shared memory over HTTP: regions; CUDA regions where is no GPU."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator
from typing import Any

import pytest
from comparing import Engines
from http_memory import CUDA, SYSTEM, both, register, registered
from shared_objects import KEY, OTHER, SIZE, shared_objects
from test_http_errors import Answer, ask, same


@pytest.fixture
def memory() -> Iterator[Any]:
    with shared_objects() as handle:
        yield handle


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
def test_paths(both_urls: tuple[str, str], root: str, method: str, path: str) -> None:
    same(both_urls, method, root + path)


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
def test_register(both_urls: tuple[str, str], body: Any) -> None:
    def registers(url: str) -> list[Answer]:
        path = f"{SYSTEM}/region/r/"
        return [
            ask(url, "POST", f"{path}register", json.dumps(body).encode()),
            ask(url, "GET", f"{path}status"),
            ask(url, "GET", f"{SYSTEM}/status"),
        ]

    both(both_urls, registers)


@pytest.mark.rule("5.4-register")
@pytest.mark.parametrize(
    "body",
    [b"{", b'{"key":"\xff","byte_size":1}', b'{"key":"\xc3\xa9","byte_size":1}', b"\xff"],
)
def test_odd_bodies(both_urls: tuple[str, str], body: bytes) -> None:
    assert same(both_urls, "POST", f"{SYSTEM}/region/r/register", body).status == 500


@pytest.mark.rule("5.4-regions")
@pytest.mark.usefixtures("memory")
def test_several_regions(both_urls: tuple[str, str]) -> None:
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

    assert "'offset': 0" in both(both_urls, body)[4].document


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
def test_register_cuda(both_urls: tuple[str, str], body: Any) -> None:
    path, text = f"{CUDA}/region/r/register", json.dumps(body).encode()
    assert same(both_urls, "POST", path, text).status >= 400


@pytest.mark.rule("5.4-cuda")
@pytest.mark.usefixtures("memory")
def test_a_region_is_not_of_the_other_kind(both_urls: tuple[str, str]) -> None:
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

    both(both_urls, body)


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
