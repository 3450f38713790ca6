"""What the backend has for itself."""

from concurrent.futures import Future

import pytest
from instances import Lines

from triton_stub.pb_utils.internals import SharedMemory, future_callback
from triton_stub.pb_utils.logger import LogLevel


class Host:
    def __init__(self):
        self.log = Lines()


def ended(error=None):
    future = Future()
    if error is None:
        future.set_result(3)
    else:
        future.set_exception(error)
    return future


def test_shared_memory_is_not_made_and_always_free():
    with pytest.raises(TypeError, match=r"SharedMemory: No constructor defined!"):
        SharedMemory()
    memory = SharedMemory.__new__(SharedMemory)
    assert memory.free_memory() == memory.free_memory() > 0


def test_a_future_that_has_failed_is_logged():
    host = Host()
    future_callback(host)(ended(ValueError("no")))
    ((level, text, _, _),) = host.log.records
    assert level is LogLevel.ERROR
    assert text == "ValueError: no\n"


def test_a_future_that_has_not_failed():
    host = Host()
    future_callback(host)(py_future=ended())
    assert host.log.records == []


def test_what_is_no_future():
    host = Host()
    future_callback(host)(3)
    assert host.log.messages == ["AttributeError: 'int' object has no attribute 'exception'"]
    with pytest.raises(TypeError, match=r"\(py_future: object\) -> None"):
        future_callback(host)(None)
