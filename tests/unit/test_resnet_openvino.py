"""cpu_engine openvino: the same logits as XLA's, from another compiler."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import flaxmodels
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import triton_stub
from triton_stub.errors import LoadError

sys.modules.setdefault("openvino_telemetry", None)  # it would fork and send
import openvino  # noqa: E402

FOLDER = Path(__file__).parents[2] / "model_repository" / "resnet50" / "1"
IMAGE_SHAPE = (24, 16, 3)
IMAGES = np.random.default_rng(2).integers(0, 256, (5, *IMAGE_SHAPE), np.uint8)
SCALED = IMAGES.astype(np.float32) / 255
DEFAULTS = {"architecture": "resnet18", "weights": "random", "batch_buckets": "4"}


@pytest.fixture
def logits_of(tmp_path):
    """Logits of all images, from a model with these parameters."""

    def logits_of(images=SCALED, image="TYPE_FP32", groups="", **parameters):
        folder = tmp_path / f"models{len(list(tmp_path.iterdir()))}" / "resnet"
        (folder / "1").mkdir(parents=True)
        for file in FOLDER.glob("*.py"):
            (folder / "1" / file.name).symlink_to(file)
        given = {**DEFAULTS, **parameters}
        config = f"""
        backend: "python" max_batch_size: 4 {groups}
        input {{ name: "image" data_type: {image} dims: {list(IMAGE_SHAPE)} }}
        output {{ name: "fc_out" data_type: TYPE_FP32 dims: [ 7 ] }}
        """ + "".join(
            f'parameters {{ key: "{key}" value {{ string_value: {json.dumps(value)} }} }}\n'
            for key, value in given.items()
        )
        (folder / "config.pbtxt").write_text(config, encoding="utf-8")
        with triton_stub.Server(folder.parent) as server:
            model = server.model("resnet")
            halves = [model(image=half)["fc_out"] for half in (images[:3], images[3:])]
            return np.concatenate(halves)

    return logits_of


@pytest.fixture(scope="module")
def compiling():
    """resnet_openvino.py as a module."""
    path = FOLDER / "resnet_openvino.py"
    spec = importlib.util.spec_from_file_location("resnet_openvino_under_test", path)
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "dont_write_bytecode", True)  # a model's folder holds the model
        spec.loader.exec_module(module)
    return module


def distance(logits, expected):
    return np.abs(logits - expected).max() / np.abs(expected).max()


def test_a_batch_in_several_calls(logits_of):
    """None of them writes to the logits of another."""
    logits = logits_of(cpu_engine="openvino", batch_buckets="1,2")
    assert distance(logits, logits_of()) < 1e-4


@pytest.mark.parametrize("architecture", ["resnet18", "resnet50"])
def test_logits_are_those_of_xla(logits_of, architecture):
    expected = logits_of(architecture=architecture)
    logits = logits_of(architecture=architecture, cpu_engine="openvino")
    assert logits.dtype == np.float32
    assert distance(logits, expected) < 1e-4


def test_bfloat16_is_close_to_float32(logits_of):
    """How close depends on the CPU: one without bfloat16 computes in float32."""
    logits = logits_of(cpu_engine="openvino", compute_dtype="bfloat16")
    assert logits.dtype == np.float32
    assert distance(logits, logits_of()) < 0.05


def test_uint8_images_are_scaled(logits_of):
    logits = logits_of(IMAGES, "TYPE_UINT8", cpu_engine="openvino")
    assert distance(logits, logits_of()) < 1e-4


def test_instances_are_independent(logits_of):
    groups = "instance_group { count: 2 kind: KIND_CPU }"
    assert distance(logits_of(cpu_engine="openvino", groups=groups), logits_of()) < 1e-4


def test_openvino_is_not_installed(logits_of, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(LoadError) as caught:
        logits_of(cpu_engine="openvino")
    (sentence,) = re.findall(r"ValueError: (.*)\n\nAt:", str(caught.value))
    assert sentence == (
        "parameter cpu_engine is 'openvino' (import of openvino halted; None in sys.modules); "
        "expected the packages openvino and onnx; install them, or set it to xla."
    )


def test_it_reports_to_nobody():
    """It would, on import, from a fork of a process that has threads."""
    program = (
        "import importlib.util, sys, numpy, jax;"
        "spec = importlib.util.spec_from_file_location('engine', sys.argv[1]);"
        "engine = importlib.util.module_from_spec(spec);"
        "sys.dont_write_bytecode = True;"
        "spec.loader.exec_module(engine);"
        "image = jax.ShapeDtypeStruct((1, 8, 8, 3), numpy.float32);"
        "engine.compile_with_openvino(lambda x: x + 1, image, 'float32', 1);"
        "sys.exit(sys.modules['openvino_telemetry'] is not None)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, FOLDER / "resnet_openvino.py"], check=False
    )
    assert done.returncode == 0


def test_a_step_that_no_resnet_has(compiling):
    image = jax.ShapeDtypeStruct((1, *IMAGE_SHAPE), np.float32)
    with pytest.raises(NotImplementedError, match=r"has the step 'sin'; .*; .* cpu_engine to xla"):
        compiling.to_onnx(jnp.sin, image)


def test_what_does_not_depend_on_the_images_is_computed_before(compiling):
    network = flaxmodels.ResNet18(output="logits", pretrained=None, num_classes=7)
    variables = network.init(jax.random.key(0), SCALED[:1], train=False)
    image = jax.ShapeDtypeStruct((1, *IMAGE_SHAPE), np.float32)
    model = compiling.to_onnx(lambda x: network.apply(variables, x, train=False), image)
    operations = {node.op_type for node in model.graph.node}
    assert operations <= {
        "Transpose", "Sub", "Div", "Conv", "Mul", "Add", "Relu", "Max", "MaxPool", "ReduceSum",
        "MatMul",
    }  # fmt: skip


def test_as_many_threads_as_are_asked_for(compiling, monkeypatch):
    kernel = np.ones((3, 3, 3, 4), np.float32)

    def convolve(images):
        return jax.lax.conv_general_dilated(
            images, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        ).sum(axis=(1, 2))

    made, compile_model = [], openvino.Core.compile_model

    def remember(*arguments):
        made.append(compile_model(*arguments))
        return made[-1]

    monkeypatch.setattr(openvino.Core, "compile_model", remember)
    image = jax.ShapeDtypeStruct((1, *IMAGE_SHAPE), np.float32)
    program = compiling.compile_with_openvino(convolve, image, "float32", 1)
    np.testing.assert_allclose(program(SCALED), convolve(SCALED), rtol=1e-4)
    assert made[0].get_property("INFERENCE_NUM_THREADS") == 1
