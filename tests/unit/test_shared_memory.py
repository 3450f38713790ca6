"""Regions of shared memory, on the machine that runs the tests."""

from __future__ import annotations

import mmap
import threading
from collections.abc import Callable, Iterator
from multiprocessing import shared_memory
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from triton_stub.errors import InferenceError, StatusCode
from triton_stub.server.shared_memory import Region, SharedMemory, _check_not_shrunk

PAGE = mmap.ALLOCATIONGRANULARITY
SIZE = 2 * PAGE


@pytest.fixture
def block() -> Iterator[shared_memory.SharedMemory]:
    block = shared_memory.SharedMemory(create=True, size=SIZE)
    try:
        yield block
    finally:
        block.close()
        block.unlink()


@pytest.fixture
def key(block: shared_memory.SharedMemory) -> str:
    return f"/{block.name.removeprefix('/')}"


@pytest.fixture
def memory() -> Iterator[SharedMemory]:
    memory = SharedMemory()
    yield memory
    memory.close()


def refusal(call: Callable[..., Any], *arguments: Any) -> tuple[StatusCode, str]:
    with pytest.raises(InferenceError) as caught:
        call(*arguments)
    return caught.value.code, caught.value.message


def test_what_is_written_is_seen_by_the_other(
    memory: SharedMemory, key: str, block: shared_memory.SharedMemory
) -> None:
    memory.register("r", key, PAGE, 64)
    assert block.buf is not None
    block.buf[PAGE + 8 : PAGE + 11] = b"abc"
    view = memory.view("r", 8, 3)
    assert bytes(view) == b"abc"
    view[:] = b"xyz"
    assert bytes(block.buf[PAGE + 8 : PAGE + 11]) == b"xyz"


def test_status(memory: SharedMemory, key: str) -> None:
    for name in ("b", "a", "\udcff", "é"):
        memory.register(name, key, 0, 64)
    assert [region.name for region in memory.status()] == ["a", "b", "é", "\udcff"]
    assert memory.status("b") == [Region("b", key, 0, 64)]
    memory.unregister("b")
    memory.unregister("b")
    assert refusal(memory.status, "b") == (
        StatusCode.NOT_FOUND,
        "Unable to find system shared memory region: 'b'",
    )
    memory.unregister()
    assert memory.status() == []


@pytest.mark.parametrize(
    ("offset", "size", "text"),
    [
        (0, 0, "unable to process address spaceInvalid argument"),
        (1, 1, "unable to process address spaceInvalid argument"),
        (0, SIZE + 1, "invalid args"),
        (SIZE, 1, "invalid args"),
        (2**64 - PAGE, SIZE, "unable to process address spaceValue too"),
        (PAGE, 2**64 - PAGE, "unable to process address spaceCannot al"),
    ],
)
def test_what_cannot_be_mapped(
    memory: SharedMemory, key: str, offset: int, size: int, text: str
) -> None:
    code, message = refusal(memory.register, "r", key, offset, size)
    assert code is StatusCode.INVALID_ARG
    assert message.startswith(f"failed to register shared memory region 'r': {text}")
    assert memory.status() == []


@pytest.mark.parametrize("key", ["/no_such_triton_stub", "a/b", "..", "x" * 300, "a\0b", "\udcff"])
def test_no_such_object(memory: SharedMemory, key: str) -> None:
    assert refusal(memory.register, "r", key, 0, 1) == (
        StatusCode.INTERNAL,
        f"Unable to open shared memory region: '{key}'",
    )


def test_a_name_is_taken_only_once(memory: SharedMemory, key: str) -> None:
    memory.register("r", key, 0, 64)
    taken = StatusCode.ALREADY_EXISTS, "shared memory region 'r' already in manager"
    assert refusal(memory.register, "r", "/no_such_triton_stub", 0, 64) == taken
    assert refusal(memory.register_cuda, "r") == taken


@pytest.mark.parametrize(
    ("offset", "size", "text"),
    [
        (64, 0, "Invalid offset for shared memory region: 'r'"),
        (63, 2, "Invalid offset + byte size for shared memory region: 'r'"),
        (0, 65, "Invalid offset + byte size for shared memory region: 'r'"),
        (1, 2**64 - 1, "Integer overflow detected: byte_size (18446744073709551615) + offset (1) "
                       "exceeds maximum value (18446744073709551615) for region 'r'"),
    ],
)  # fmt: skip
def test_views_are_inside(
    memory: SharedMemory, key: str, offset: int, size: int, text: str
) -> None:
    memory.register("r", key, 0, 64)
    assert refusal(memory.view, "r", offset, size) == (StatusCode.INVALID_ARG, text)
    assert len(memory.view("r", 63, 1)) == 1
    assert len(memory.view("r", 63, 0)) == 0


def test_an_object_that_has_shrunk() -> None:
    gone: Any = SimpleNamespace(size=lambda: PAGE + 63)
    _, text = refusal(_check_not_shrunk, Region("r", "/key", PAGE, 64), gone)
    assert text.startswith(
        f"the object '/key' of the shared memory region 'r' has shrunk to {PAGE + 63} bytes"
    )


@pytest.mark.parametrize("name", ["r", ""])
def test_a_region_in_use_stays_and_keeps_its_name(
    memory: SharedMemory, key: str, name: str
) -> None:
    memory.register("r", key, 0, 64)
    used = np.frombuffer(memory.view("r", 0, 64), np.uint8)[:8]
    memory.unregister(name)
    assert memory.status() == [Region("r", key, 0, 64)]
    assert refusal(memory.register, "r", key, 0, 1)[0] is StatusCode.ALREADY_EXISTS
    used[0] = 7
    assert memory.view("r", 0, 1)[0] == 7  # by others as well
    del used
    assert memory.status() == []
    memory.register("r", key, 0, 1)
    assert memory.status() == [Region("r", key, 0, 1)]


def test_views_outlive_the_server_and_the_object(key: str) -> None:
    memory = SharedMemory()
    memory.register("r", key, 0, 64)
    view = memory.view("r", 0, 64)
    memory.close()
    assert memory.status() == []
    view[:3] = b"abc"
    assert bytes(view[:3]) == b"abc"


def test_regions_that_are_not_allowed(key: str) -> None:
    memory = SharedMemory(allowed=False)
    text = (
        "Client shared memory is disabled. Start the server with '--allow-client-shm=true' to "
        "enable."
    )
    calls: list[Callable[[], Any]] = [
        lambda: memory.register("r", key, 0, 64),
        memory.unregister,
        lambda: memory.register_cuda("r"),
        memory.unregister_cuda,
    ]
    for call in calls:
        assert refusal(call) == (StatusCode.UNSUPPORTED, text)
    assert memory.status() == memory.status_cuda() == []


def test_there_are_no_cuda_regions(memory: SharedMemory, key: str) -> None:
    memory.register("r", key, 0, 64)
    assert memory.status_cuda() == []
    assert refusal(memory.status_cuda, "x") == (
        StatusCode.NOT_FOUND,
        "Unable to find cuda shared memory region: 'x'",
    )
    assert refusal(memory.status_cuda, "r") == (
        StatusCode.NOT_FOUND,
        "The region named 'r' is registered as system shared memory, not CUDA shared memory",
    )
    assert refusal(memory.register_cuda, "x") == (
        StatusCode.INVALID_ARG,
        "failed to register shared memory region: invalid args",
    )
    memory.unregister_cuda()
    memory.unregister_cuda("r")
    assert len(memory.status()) == 1


def test_many_threads(memory: SharedMemory, key: str) -> None:
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for _ in range(100):
                name = f"r{number}"
                memory.register(name, key, 0, 64)
                view = memory.view(name, number, 1)
                view[0] = number
                assert Region(name, key, 0, 64) in memory.status()
                memory.unregister(name)
                assert view[0] == number
                del view
        except BaseException as failure:  # noqa: BLE001
            failures.append(failure)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert memory.status() == []
