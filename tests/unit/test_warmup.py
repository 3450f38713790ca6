"""Samples of ``model_warmup``, without a model that executes them."""

import numpy as np
import pytest

from triton_stub import config as model_config
from triton_stub.core.clock import ManualClock
from triton_stub.core.request import InferenceResponse
from triton_stub.core.warmup import Unscheduled, WarmUp
from triton_stub.errors import InferenceError, LoadError

CONFIG = """
name: "m" backend: "python" max_batch_size: 2
input [ { name: "IN" data_type: TYPE_FP32 dims: [ 2 ] },
        { name: "S" data_type: TYPE_STRING dims: [ 2 ] optional: true } ]
output { name: "OUT" data_type: TYPE_FP32 dims: [ 2 ] }
"""
IN = 'inputs { key: "IN" value { data_type: TYPE_FP32 dims: 2 random_data: true } }'


def warm_up(folder, sample):
    config = model_config.parse(f"{CONFIG} model_warmup {{ {sample} }}")
    return WarmUp(config, folder, "m_0")


class Executes:
    """Keeps the batches, and answers with ``responses``."""

    def __init__(self, *responses):
        self.batches = []
        self._responses = responses or ({},)

    def __call__(self, batch):
        self.batches.append(batch)
        for pending in batch:
            for fields in self._responses:
                pending.answer.put(InferenceResponse(model_name="m", model_version="1", **fields))


def test_batches_of_one_row_each(tmp_path):
    execute = Executes()
    warm_up(tmp_path, f'name: "w" batch_size: 2 count: 3 {IN}').run(execute, ManualClock())
    assert [len(batch) for batch in execute.batches] == [2, 2, 2]
    pending = execute.batches[0][0]
    assert [tensor.shape for tensor in pending.validated.inputs] == [(1, 2)]
    assert pending.validated.requested_outputs == {"OUT"}
    assert pending.batch_size == 1


def test_random_data_are_the_same_in_every_run(tmp_path):
    first, second = (warm_up(tmp_path, f"batch_size: 1 {IN}").samples[0] for _ in range(2))
    arrays = [each.validated.inputs[0].to_numpy() for each in (first, second)]
    assert np.array_equal(arrays[0].view(np.uint8), arrays[1].view(np.uint8))
    assert arrays[0].any()


def test_a_sample_without_a_batch_is_skipped(tmp_path):
    assert warm_up(tmp_path, 'batch_size: 0 inputs { key: "IN" value { dims: -1 } }').samples == []


def test_every_response_that_is_an_error_is_told(tmp_path):
    cold = {"error": InferenceError("cold"), "final": False}
    with pytest.raises(LoadError) as caught:
        warm_up(tmp_path, f'name: "w" batch_size: 2 {IN}').run(
            Executes(cold, cold, {"bare": True}), ManualClock()
        )
    assert caught.value.message == "failed to run warmup sample 'w': " + 4 * "cold; "


def test_what_the_backend_refuses_is_not_executed(tmp_path):
    execute = Executes()
    with pytest.raises(LoadError, match="batch size 3 for 'm_0', max allowed is 2; batch size 3"):
        warm_up(tmp_path, f"batch_size: 3 {IN}").run(execute, ManualClock())
    assert execute.batches == []


def test_a_file_that_is_there(tmp_path):
    (tmp_path / "warmup").mkdir()
    (tmp_path / "warmup" / "numbers").write_bytes(np.arange(3, dtype=np.float32).tobytes())
    sample = IN.replace("random_data: true", 'input_data_file: "numbers"')
    (tensor,) = warm_up(tmp_path, f"batch_size: 1 {sample}").samples[0].validated.inputs
    assert tensor.to_numpy().tolist() == [[0, 1]]


def test_a_file_that_is_not(tmp_path):
    sample = IN.replace("random_data: true", 'input_data_file: "numbers"')
    with pytest.raises(LoadError, match=r"failed to open text file for read .*/warmup/numbers: No"):
        warm_up(tmp_path, f"batch_size: 1 {sample}")


def test_such_requests_are_not_rescheduled():
    nowhere = Unscheduled()
    assert "not configured to handle" in nowhere.reschedule(None)
    assert nowhere.instead(None)
    assert nowhere.release(None) is None
