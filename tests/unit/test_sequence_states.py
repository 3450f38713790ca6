"""What a model is refused for that describes the states of its sequences wrongly."""

import numpy as np
import pytest
from queued import read_config

from triton_stub.core.log import Log
from triton_stub.core.scheduling import sequence_states
from triton_stub.errors import LoadError, StatusCode

STATE = "state { input_name: 'I' output_name: 'O' data_type: TYPE_FP32 dims: [ 3 ] %s }"


def read(folder, *starts, state=STATE, max_batch_size=2):
    """The first states of sequences; each of ``starts`` is in an ``initial_state``."""
    text = state % " ".join(f"initial_state {{ {start} }}" for start in starts)
    return states(folder, text, max_batch_size)


def states(folder, text, max_batch_size=2):
    config = read_config(f"sequence_batching {{ {text} }}", max_batch_size=max_batch_size)
    return sequence_states.initial(config, folder, Log())


def start(data="zero_data: true", *, name="start", kind="FP32", dims="3"):
    return f"name: '{name}' data_type: TYPE_{kind} dims: [ {dims} ] {data}"


@pytest.mark.parametrize(
    ("starts", "text"),
    [
        (
            [start(), start()],
            "initial_state field for state input 'I' must contain exactly one or zero element. "
            "Found '2' elements.",
        ),
        (
            [start(kind="INT32")],
            "The data type used for 'initial_state' field of state 'I' does not match the state "
            "data type.",
        ),
        (
            [start(name="")],
            "Field 'name' must be set when using initial_state for state input 'I'.",
        ),
        (
            [start(dims="3, 1")],
            "Number of dimensions in 'initial_state' doesn't match the size of 'state' dimensions "
            "for state input 'I'. 2 != 1",
        ),
        (
            [start(dims="-1")],
            "'initial_state' field for state input name 'I' contains variable dimensions.",
        ),
        (
            [start(dims="4")],
            "'initial_state' dim for input name 'I' doesn't match 'state' dim description. 4 != 3",
        ),
        ([start("")], "initial_state setting expects state'I' to have state_data set"),
        (
            [start("data_file: 'short'")],
            "initial_state setting expects 12 bytes, but the data provided from shortonly has 5 "
            "bytes.",
        ),
    ],
)
def test_what_is_refused(tmp_path, starts, text):
    (tmp_path / "initial_state").mkdir()
    (tmp_path / "initial_state" / "short").write_bytes(b"short")
    with pytest.raises(LoadError) as refused:
        read(tmp_path, *starts)
    assert (refused.value.message, refused.value.code) == (text, StatusCode.INVALID_ARG)


def test_a_state_that_begins_twice(tmp_path):
    twice = (STATE % f"initial_state {{ {start()} }}") * 2
    with pytest.raises(LoadError, match=r"^State input name 'I' specified more than once\.$"):
        states(tmp_path, twice)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(LoadError) as refused:
        read(tmp_path, start("data_file: 'nothing'"))
    path = tmp_path / "initial_state" / "nothing"
    text = f"failed to open text file for read {path}: No such file or directory"
    assert (refused.value.message, refused.value.code) == (text, StatusCode.INTERNAL)


@pytest.mark.parametrize(("max_batch_size", "shape"), [(0, (3,)), (2, (1, 3))])
def test_values_out_of_a_file(tmp_path, max_batch_size, shape):
    (tmp_path / "initial_state").mkdir()
    values = np.array([1, 2, 3, 4], np.float32)
    (tmp_path / "initial_state" / "values").write_bytes(values.tobytes())
    (state,) = read(tmp_path, start("data_file: 'values'"), max_batch_size=max_batch_size)
    assert state.name == "I"
    np.testing.assert_array_equal(state.to_numpy(), values[:3].reshape(shape))


def test_a_state_without_a_first_value_is_zero(tmp_path):
    wild = STATE.replace("dims: [ 3 ]", "dims: [ -1, 2 ]")
    (state,) = read(tmp_path, state=wild)
    np.testing.assert_array_equal(state.to_numpy(), np.zeros((1, 1, 2), np.float32))


def test_two_states_of_one_input_are_one(tmp_path):
    log = Log()
    text = STATE % "" + (STATE % "").replace("'O'", "'P'")
    config = read_config(f"sequence_batching {{ {text} }}")
    assert len(sequence_states.initial(config, tmp_path, log)) == 1
    assert "Detected duplicate 'input_name' in the state configuration: 'I.'" in str(log)
