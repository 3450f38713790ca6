"""How often the values of a large tensor are copied on the way to a model and back."""

import tracemalloc

import numpy as np
import pytest
from dlpack_peers import take
from model_files import CONFIG, write_model

import triton_stub

# Sum of what comes, so that next to nothing goes back.
SUMS = """
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request.inputs()[0].as_numpy()) for request in requests]

    def answer(self, array):
        total = array.sum(keepdims=True)
        return pb_utils.InferenceResponse([pb_utils.Tensor("OUT", total)])
"""
# As many ones as it is asked for, which are there already.
ONES = """
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        self.ones = np.ones(1 << 20, np.float32)

    def execute(self, requests):
        return [self.answer(int(request.inputs()[0].as_numpy()[0])) for request in requests]

    def answer(self, count):
        return pb_utils.InferenceResponse([pb_utils.Tensor("OUT", self.ones[:count])])
"""
# Sends one and the same tensor to everybody.
KEEPS = """
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        self.tensor = pb_utils.Tensor("OUT", np.ones(2, np.float32))

    def execute(self, requests):
        return [pb_utils.InferenceResponse([self.tensor]) for _ in requests]
"""
BIG = np.ones(1 << 20, np.float32)
FEW = np.array([3], np.float32)
MANY = np.array([BIG.size], np.float32)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for name, source in (("sums", SUMS), ("ones", ONES), ("keeps", KEEPS)):
        write_model(folder, name, source, CONFIG)
    with triton_stub.Server(model_repository=folder) as running:
        yield running


@pytest.fixture
def copies():
    """How many arrays like BIG there were at the same time while something was done."""
    tracemalloc.start()

    def count(do):
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        done = do()
        copied = (tracemalloc.get_traced_memory()[1] - before) / BIG.nbytes
        assert abs(copied - round(copied)) < 0.1
        return done, round(copied)

    yield count
    tracemalloc.stop()


def test_what_goes_to_a_model_is_copied_once(server, copies):
    sums = server.model("sums")
    sums(IN=BIG)
    result, copied = copies(lambda: sums(IN=BIG))
    assert result["OUT"].tolist() == [BIG.size]
    assert copied == 1  # for as_numpy, whose array is the model's own


def test_what_may_be_changed_at_once_is_copied_once_more(server, copies):
    sums = server.model("sums")
    sums(IN=BIG)
    _, copied = copies(lambda: list(sums.infer(inputs={"IN": BIG})))
    assert copied == 2


@pytest.mark.parametrize("way", ["call", "infer"])
def test_what_comes_from_a_model_is_copied_once(server, copies, way):
    ones = server.model("ones")
    ask = {
        "call": lambda: ones(IN=MANY)["OUT"],
        "infer": lambda: np.from_dlpack(next(ones.infer(inputs={"IN": MANY})).outputs["OUT"]),
    }[way]
    ask()
    array, copied = copies(ask)
    np.testing.assert_array_equal(array, BIG)
    assert copied == 1


def test_no_receiver_changes_what_a_model_sends_again(server):
    keeps = server.model("keeps")
    for _ in range(3):
        array = keeps(IN=FEW)["OUT"]
        assert array.tolist() == [1, 1]
        array[:] = 7
        (response,) = keeps.infer(inputs={"IN": FEW})
        outputs = take(response.outputs["OUT"]).bytes.view(np.float32)
        assert outputs.tolist() == [1, 1]
        outputs[:] = 7


def test_no_result_changes_another_of_the_same_response(server):
    (response,) = server.model("ones").infer(inputs={"IN": FEW})
    first = response.result()["OUT"]
    first[:] = 7
    assert np.from_dlpack(response.outputs["OUT"]).tolist() == [1, 1, 1]
