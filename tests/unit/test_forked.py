"""The way to the server from forked workers."""

import os
from multiprocessing.connection import Listener
from threading import Thread

import numpy as np
import pytest

from triton_stub.core.processes import forked
from triton_stub.core.processes.forked import Door
from triton_stub.core.request import InferenceRequest, InferenceResponse
from triton_stub.core.tensor import Tensor
from triton_stub.datatypes import BYTES
from triton_stub.errors import InferenceError, StatusCode
from triton_stub.pb_utils.errors import TritonModelException

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
    # JAX, if some other test has imported it.
    pytest.mark.filterwarnings("ignore:.*fork:RuntimeWarning"),
]

PATIENCE = 60.0


class Echo:
    """Answers by the inputs; ``refuse`` and ``overdue`` are errors, before and after."""

    def __init__(self, request, decoupled):
        self.request = request
        if request.model_name == "refuse":
            raise InferenceError("refused", StatusCode.UNAVAILABLE)

    def get(self):
        if self.request.model_name == "overdue":
            raise InferenceError("overdue", StatusCode.NOT_FOUND)
        return InferenceResponse(model_name="m", model_version="1", tensors=self.request.inputs)

    def cancel(self):
        raise NotImplementedError


@pytest.fixture
def door():
    door = Door(Echo)
    door.watch()
    yield door
    thread = door._thread
    door.close()
    assert not thread.is_alive()


def in_a_child(work):
    """What ``work`` returns, or raises, in a forked process."""
    there, here = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            told = str(work())
        except BaseException as error:  # noqa: BLE001
            told = f"{type(error).__name__}: {error}"
        try:
            os.write(here, told.encode())
        finally:
            os._exit(0)
    os.close(here)
    with open(there) as pipe:  # noqa: PTH123 - of a descriptor
        told = pipe.read()
    os.waitpid(child, 0)
    return told


def largest(door):
    return door.send(request(), False).get().tensors[0].data.max()


def request(model_name="m"):
    inputs = [
        Tensor.from_numpy("a", np.arange(3, dtype=np.float32)),
        Tensor.from_numpy("b", np.array([b"x", b""], object)),
    ]
    return InferenceRequest(model_name=model_name, inputs=inputs)


def test_it_is_closed_until_the_process_forks(door):
    assert not door.is_behind
    assert not door._thread.is_alive()
    assert in_a_child(lambda: door.is_behind) == "True"
    assert door._thread.is_alive()


def test_one_response(door):
    def work():
        tensors = door.send(request(), False).get().tensors
        return [(t.name, t.to_numpy().tolist()) for t in tensors], tensors[1].datatype is BYTES

    assert in_a_child(work) == "([('a', [0.0, 1.0, 2.0]), ('b', [b'x', b''])], True)"


def test_a_child_of_a_child(door):
    assert "2.0" in in_a_child(lambda: in_a_child(lambda: largest(door)))


@pytest.mark.parametrize("model", ["refuse", "overdue"])
def test_errors_keep_their_code(door, model):
    def work():
        try:
            door.send(request(model), False).get()
        except InferenceError as error:
            return error.message, error.code.name

    told = {"refuse": ("refused", "UNAVAILABLE"), "overdue": ("overdue", "NOT_FOUND")}
    assert in_a_child(work) == str(told[model])


@pytest.mark.parametrize("call", ["get", "cancel"])
def test_there_is_one_response(door, call):
    def work():
        exchange = door.send(request(), True)
        exchange.get()
        getattr(exchange, call)()

    assert in_a_child(work).startswith(TritonModelException.__name__)


def test_a_door_that_was_not_watched():
    door = Door(Echo)
    told = in_a_child(lambda: door.send(request(), False))
    assert told.startswith("InferenceError: the server, in the process that this one was forked")


def test_it_opens_again():
    door = Door(Echo)
    for _ in range(2):
        door.watch()
        assert "2.0" in in_a_child(lambda: largest(door))
        door.close()
        door.close()


def test_children_that_die_harm_nobody(door):
    def work():
        connection = door._connect(door._listener)
        connection.send_bytes(b"")
        os._exit(0)

    assert in_a_child(work) == ""
    assert "2.0" in in_a_child(lambda: largest(door))


class Exhausted(Listener):
    """Lets nobody in, as in a process without any more descriptors."""

    def accept(self):
        raise OSError("too many open files")


class Unreachable(Exhausted):
    address = "/nowhere/at/all"


@pytest.mark.parametrize("kind", [Exhausted, Unreachable])
def test_it_closes_though_nothing_gets_in(monkeypatch, kind):
    monkeypatch.setattr(forked, "Listener", kind)
    door = Door(Echo)
    door.open()
    closing = Thread(target=door.close, daemon=True)
    closing.start()
    for thread in (closing, door._thread):
        thread.join(PATIENCE)
        assert not thread.is_alive()
