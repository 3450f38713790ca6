"""Inputs that pretend to be in GPU memory, and the branch of a model that takes them."""

import json

import numpy as np
import pytest
from model_files import CONFIG, write_model

from triton_stub import InferenceError, Server
from triton_stub.core.tensor import Tensor
from triton_stub.testing import on_gpu

FREE = 'parameters { key: "FORCE_CPU_ONLY_INPUT_TENSORS" value { string_value: "no" } }'
IN = np.arange(3, dtype=np.float32)
# What a model for both kinds of memory looks like; NOTE tells which way it went.
MODEL = """
import jax.numpy as jnp
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        tensor = pb_utils.get_input_tensor_by_name(request, "IN")
        if tensor.is_cpu():
            out = pb_utils.Tensor("OUT", 2 * tensor.as_numpy())
        else:
            out = pb_utils.Tensor.from_dlpack("OUT", 2 * jnp.from_dlpack(tensor))
        note = np.array([b"CPU" if tensor.is_cpu() else b"GPU"], dtype=np.object_)
        return pb_utils.InferenceResponse([out, pb_utils.Tensor("NOTE", note)])
"""
NOTE = 'output [ { name: "NOTE" data_type: TYPE_STRING dims: [ 1 ] } ]'
# Tells of the input, of a tensor made of it, and of what another model makes of both.
CALLER = """
import json

import numpy as np
import triton_python_backend_utils as pb_utils


def told(tensor):
    try:
        tensor.as_numpy()
    except pb_utils.TritonModelException as error:
        return [tensor.is_cpu(), str(error)]
    return [tensor.is_cpu()]


class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        (tensor,) = request.inputs()
        made = pb_utils.Tensor.from_dlpack("IN", tensor)
        answers = {"input": told(tensor), "made": told(made)}
        for wish in ("DEFAULT", "CPU"):
            keywords = {}
            if wish == "CPU":
                memory = pb_utils.TRITONSERVER_MEMORY_CPU
                keywords["preferred_memory"] = pb_utils.PreferredMemory(memory)
            called = pb_utils.InferenceRequest(
                model_name="echo", inputs=[made], requested_output_names=["OUT"], **keywords
            ).exec()
            answers[wish] = told(called.output_tensors()[0])
        text = np.array([json.dumps(answers).encode()], dtype=np.object_)
        return pb_utils.InferenceResponse([pb_utils.Tensor("OUT", text)])
"""
ECHO = """
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [
            pb_utils.InferenceResponse(
                [pb_utils.Tensor.from_dlpack("OUT", request.inputs()[0])]
            )
            for request in requests
        ]
"""
ON_GPU = [False, "Tensor is stored in GPU and cannot be converted to NumPy."]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    repository = tmp_path_factory.mktemp("gpu")
    write_model(repository, "free", MODEL, CONFIG + NOTE + FREE)
    write_model(repository, "forced", MODEL, CONFIG + NOTE)
    write_model(repository, "caller", CALLER, CONFIG + FREE)
    write_model(repository, "echo", ECHO, CONFIG + FREE)
    with Server(repository) as running:
        yield running


@pytest.mark.parametrize(
    ("name", "array", "note"),
    [
        ("free", IN, b"CPU"),
        ("free", on_gpu(IN), b"GPU"),
        # As on the server, where the backend copies the values by default.
        ("forced", on_gpu(IN), b"CPU"),
    ],
)
def test_both_branches_of_a_model(server, name, array, note):
    result = server.model(name)(IN=array)
    assert result["NOTE"].tolist() == [note]
    assert result["OUT"].tolist() == [0, 2, 4]


def test_it_stays_on_the_gpu_until_somebody_wants_it_elsewhere(server):
    answers = json.loads(server.model("caller")(IN=on_gpu(IN))["OUT"][0])
    assert answers == {"input": ON_GPU, "made": ON_GPU, "DEFAULT": ON_GPU, "CPU": [True]}


def test_it_can_be_executed_in_one_exact_batch(server):
    (result,) = server.model("free").execute([{"IN": on_gpu(IN)}])
    assert result["NOTE"].tolist() == [b"GPU"]


def test_what_is_wrong_with_an_array_is_wrong_on_a_gpu_too(server):
    with pytest.raises(InferenceError, match=r"\[3\]|FP32"):
        server.model("free")(IN=on_gpu(IN.astype(np.int8)))
    with pytest.raises(TypeError, match="no Triton datatype"):
        server.model("free")(IN=on_gpu(np.zeros(2, complex)))


def test_nobody_else_takes_it():
    with pytest.raises(TypeError, match="give the array itself to any other engine or client"):
        np.asarray(on_gpu(IN))


def test_the_pretence_survives_a_copy_and_another_shape():
    tensor = Tensor.from_numpy("x", on_gpu(IN))
    assert tensor.on_gpu
    assert tensor.copy().on_gpu
    assert tensor.with_shape((1, 3)).on_gpu
