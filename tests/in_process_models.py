"""Models for tests of the in-process API, and how they are asked."""

from pathlib import Path

import numpy as np
import pytest
from model_files import GATED, write_model

from triton_stub import datatypes

# Gives every input back as the output of the same number, and its parameters as JSON.
ECHO = """
import json
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        tensors = [
            pb_utils.Tensor(tensor.name().replace("IN", "OUT"), tensor.as_numpy())
            for tensor in request.inputs()
        ]
        tensors.append(pb_utils.Tensor("PARAMETERS", np.array([request.parameters()], np.object_)))
        return pb_utils.InferenceResponse(tensors)
"""
# Responses have had parameters since 25.02.
TELLS = ECHO.replace(
    "Response(tensors)", 'Response(tensors, parameters={"number": 3, "text": "t"})'
)
# COUNT responses; -1 goes on until it is cancelled, -2 fails after one.
COUNTS = """
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            sender = request.get_response_sender()
            count = int(request.inputs()[0].as_numpy()[0])
            number = 0
            while number != abs(count) or count == -1:
                if count == -1 and request.is_cancelled():
                    break
                if number == 1 and count == -2:
                    error = pb_utils.TritonError("failed half way", pb_utils.TritonError.CANCELLED)
                    sender.send(pb_utils.InferenceResponse(error=error))
                    break
                if number < 5:
                    array = np.array([number], np.int32)
                    sender.send(pb_utils.InferenceResponse([pb_utils.Tensor("NUMBER", array)]))
                number += 1
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""
COUNTS_CONFIG = """
input [ { name: "COUNT" data_type: TYPE_INT32 dims: [ 1 ] } ]
output [ { name: "NUMBER" data_type: TYPE_INT32 dims: [ 1 ] } ]
model_transaction_policy { decoupled: true }
"""


def echo_config() -> str:
    """One optional input and an output for each datatype: ``IN_FP32``, ``OUT_FP32``, …"""
    rows = [f'{row.name}" data_type: {row.config_name} dims: [ -1 ]' for row in datatypes.DATATYPES]
    inputs = "".join(f'input {{ name: "IN_{row} optional: true }}\n' for row in rows)
    outputs = "".join(f'output {{ name: "OUT_{row} }}\n' for row in rows)
    return f'{inputs}{outputs}output {{ name: "PARAMETERS" data_type: TYPE_STRING dims: [ 1 ] }}\n'


def write_models(repository: Path, gated: str = "") -> Path:
    """``echo``, ``counts``, ``doubles``, and one that waits at the gate of its name."""
    write_model(repository, "echo", ECHO, echo_config())
    write_model(repository, "counts", COUNTS, COUNTS_CONFIG)
    write_model(repository, "doubles")
    if gated:
        write_model(repository, gated, GATED)
    return repository


def count(number: int) -> dict[str, np.ndarray]:
    """The input of ``counts``."""
    return {"COUNT": np.array([number], np.int32)}


def refused(kind: type[Exception], call, *args: object, **kwargs: object) -> str:
    """The text of the error that a call raises."""
    with pytest.raises(kind) as caught:
        call(*args, **kwargs)
    return str(caught.value)
