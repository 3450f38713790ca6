"""Sequences as a test of somebody's model meets them: held, and with a clock of its own."""

from contextlib import ExitStack

import numpy as np
import pytest
from instances import write_files

import triton_stub
from triton_stub.core.clock import ManualClock
from triton_stub.errors import InferenceError

# Tells with each answer the ids of the batch; a gap is None.
MODEL = """
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        ids = [request.correlation_id() or -1 for request in requests]
        out = pb_utils.Tensor("OUT", np.array([ids], np.int32))
        return [pb_utils.InferenceResponse([out]) for _ in requests]
"""
CONFIG = """
backend: "python" max_batch_size: 3
input { name: "IN" data_type: TYPE_FP32 dims: [ 1 ] }
output { name: "OUT" data_type: TYPE_INT32 dims: [ -1 ] }
sequence_batching { }
"""
START, END = 1, 2
INPUTS = {"IN": np.zeros((1, 1), np.float32)}


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def model(tmp_path, clock):
    write_files(tmp_path / "m", {"config.pbtxt": CONFIG, "1/model.py": MODEL})
    with ExitStack() as stack:
        server = stack.enter_context(triton_stub.Server(model_repository=tmp_path, clock=clock))
        yield server.model("m")


def send(model, sequence, flags=0):
    return model.infer(inputs=INPUTS, correlation_id=sequence, flags=flags)


def ids(responses):
    (response,) = responses
    if response.error is not None:
        raise response.error
    return np.from_dlpack(response.outputs["OUT"]).ravel().tolist()


def test_a_sequence_is_forgotten_when_the_test_says_so(model, clock):
    assert ids(send(model, 7, START)) == [7]
    clock.advance(0.9)
    assert ids(send(model, 7)) == [7]
    clock.advance(1)
    with pytest.raises(InferenceError, match="sequence 7 to model 'm' must specify the START flag"):
        ids(send(model, 7))


def test_requests_that_are_held_are_one_batch(model):
    with model.hold() as held:
        answers = [send(model, each, START) for each in (1, 2, 3)]
        held.wait(3)
    assert [ids(answer) for answer in answers] == [[1, 2, 3]] * 3
    with model.hold() as held:
        answers = [send(model, each, END) for each in (1, 3)]
        held.wait(2)
    assert [ids(answer) for answer in answers] == [[1, -1, 3]] * 2


def test_the_backlog_goes_on_when_a_sequence_is_idle(model, clock):
    for each in (1, 2, 3):
        assert ids(send(model, each, START)) == [*[-1] * (each - 1), each]
    waiting = send(model, 4, START)
    clock.advance(2)
    assert ids(waiting) == [4]
