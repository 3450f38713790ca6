"""Requests in a queue, and configurations to schedule them by, without any model."""

import numpy as np

from triton_stub import config as model_config
from triton_stub.core.clock import Clock
from triton_stub.core.request import InferenceRequest
from triton_stub.core.scheduling.scheduler import Pending
from triton_stub.core.tensor import Tensor
from triton_stub.core.validation import ValidatedRequest

INPUTS = """
input [
  { name: "FIXED" data_type: TYPE_FP32 dims: [ 4 ] },
  { name: "OPEN" data_type: TYPE_FP32 dims: [ -1 ] },
  { name: "RAGGED" data_type: TYPE_FP32 dims: [ -1 ] allow_ragged_batch: true }
]
"""
OPTIONAL = INPUTS.replace("dims: [ 4 ]", "dims: [ 4 ] optional: true")


class Told(Clock):
    """A clock that asks the test for the time."""

    def __init__(self, now):
        self.now = now


def read_config(scheduling, inputs=INPUTS, max_batch_size=8):
    """A configuration as the server completes it."""
    text = f"max_batch_size: {max_batch_size}\n{scheduling}\n{inputs}"
    config = model_config.parse(text)
    model_config.normalize(config, "model")
    return config


def pending(rows=1, enqueued=0, request_id="", **sizes):
    """A request of so many rows; ``sizes`` are the inputs that it has."""
    sizes = sizes or {"OPEN": 1}
    inputs = [
        Tensor.from_numpy(name, np.zeros((rows, size), np.float32)) for name, size in sizes.items()
    ]
    request = InferenceRequest(model_name="model", request_id=request_id, inputs=inputs)
    return Pending(request, ValidatedRequest(rows, inputs, frozenset()), enqueued)
