"""Messages over a socket."""

import gc
import os
import pickle
import socket
import threading

import ml_dtypes
import numpy as np
import pytest

from triton_stub import datatypes
from triton_stub.core.processes.frames import Frame, Frames
from triton_stub.core.tensor import Tensor
from triton_stub.datatypes import Datatype
from triton_stub.errors import StatusCode

BIG = np.arange(100_000, dtype=np.float32)


@pytest.fixture
def ends():
    one, other = socket.socketpair()
    ends = Frames(one), Frames(other)
    yield ends
    for end in ends:
        end.close()


def carried(ends, content):
    sender = threading.Thread(target=ends[0].send, args=(Frame.of(1, 2, 3, content),))
    sender.start()
    frame = ends[1].receive()
    sender.join()
    assert frame[:3] == (1, 2, 3)
    return frame.content()


def test_a_message_arrives_as_it_was(ends):
    assert carried(ends, ("name", {"a": [1, 2.5, None]})) == ("name", {"a": [1, 2.5, None]})


@pytest.mark.parametrize("row", [row for row in datatypes.DATATYPES if row.itemsize])
@pytest.mark.parametrize("count", [0, 3, 70_000])
def test_tensors_of_every_datatype_and_size(ends, row, count):
    array = (np.arange(count) % 100).astype(row.numpy).reshape(1, count)
    tensor = carried(ends, Tensor.from_numpy("X", array))
    assert tensor.datatype is row
    assert tensor.shape == (1, count)
    assert tensor.to_numpy().dtype == row.numpy
    assert np.array_equal(tensor.to_numpy(), array)
    assert tensor.to_numpy().flags.writeable


def test_texts_arrive_as_bytes(ends):
    array = np.array(["ä", b"\0\1", 3], object)
    tensor = carried(ends, Tensor.from_numpy("X", array))
    assert tensor.to_numpy().tolist() == ["ä".encode(), b"\0\1", b"3"]


def test_raw_values_arrive(ends):
    data = memoryview(np.array([1, 2], ml_dtypes.bfloat16).tobytes())
    tensor = Tensor("X", datatypes.BF16, (2,), data)
    assert carried(ends, tensor).to_numpy().tolist() == [1, 2]


def test_a_datatype_that_is_in_no_table(ends):
    row = Datatype("<invalid>", "TYPE_INVALID", 0, np.dtype("V4"), 4)
    tensor = carried(ends, Tensor("X", row, (2,), np.zeros(2, "V4")))
    assert tensor.datatype == row
    assert tensor.to_numpy().tobytes() == bytes(8)


def test_a_tensor_on_a_gpu_stays_there(ends):
    assert carried(ends, Tensor("X", datatypes.from_name("INT8"), (1,), b"\1", on_gpu=True)).on_gpu


def test_big_arrays_are_no_part_of_the_pickle():
    frame = Frame.of(1, 0, 0, [Tensor.from_numpy("X", BIG), Tensor.from_numpy("Y", BIG[:2])])
    assert [buffer.raw().nbytes for buffer in frame.buffers] == [BIG.nbytes]
    assert len(frame.pickled) < 1000


def test_strides_are_copied(ends):
    tensor = Tensor("X", datatypes.from_name("FP32"), (50_000,), BIG[::2])
    assert np.array_equal(carried(ends, tensor).to_numpy(), BIG[::2])


def test_many_threads_send_at_once(ends):
    def send(number):
        for _ in range(20):
            ends[0].send(Frame.of(number, 0, 0, Tensor.from_numpy("X", BIG + number)))

    threads = [threading.Thread(target=send, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(4 * 20):
        frame = ends[1].receive()
        assert np.array_equal(frame.content().to_numpy(), BIG + frame.kind)
    for thread in threads:
        thread.join()


def test_a_message_in_the_middle_of_another_one_comes_after_it(ends):
    class Odd:
        """Sends when the other message is under way, as a ``__del__`` may."""

        def raw(self):
            if Odd.armed:
                Odd.armed = False
                ends[0].send(Frame.of(2, 0, 0, "second"))
            return memoryview(b"x" * 40_000)

    Odd.armed = True
    ends[0].send(Frame(1, 0, 0, pickle.dumps("first"), [Odd()]))
    assert [ends[1].receive().content() for _ in range(2)] == ["first", "second"]


@pytest.mark.parametrize("plain", ["text", 7, 2.5, b"bytes"])
def test_what_is_of_a_class_of_the_models_own_is_taken_for_what_it_is(ends, plain):
    class Own(type(plain)):
        pass

    (value, code) = carried(ends, (Own(plain), StatusCode.NOT_FOUND))
    assert (value, type(value), code) == (plain, type(plain), StatusCode.NOT_FOUND)
    assert type(code) is StatusCode


def test_what_cannot_be_pickled_is_not_sent(ends):
    with pytest.raises((TypeError, AttributeError, pickle.PicklingError)):
        Frame.of(1, 0, 0, threading.Lock())


@pytest.mark.parametrize("part", [b"", b"\1", Frame.of(1, 2, 3, "abc").pickled])
def test_the_end_is_none_also_in_the_middle_of_a_message(part):
    one, other = socket.socketpair()
    with one:
        one.sendall(part)
    end = Frames(other)
    assert end.receive() is None
    end.close()


def test_sending_to_nobody_is_not_noticed_here(ends):
    ends[1].close()
    ends[0].send(Frame.of(1, 0, 0, "text"))
    assert ends[0].receive() is None


def test_a_forked_process_sends_nothing(ends, monkeypatch):
    monkeypatch.setattr(os, "getpid", lambda: -1)
    with pytest.raises(OSError, match="process this was forked from"):
        ends[0].send(Frame.of(1, 0, 0, "text"))


def test_closing_twice_is_no_error(ends):
    ends[0].close()
    ends[0].close()
    ends[0].send(Frame.of(1, 0, 0, "text"))
    gc.collect()
