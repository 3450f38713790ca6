"""ci/demo.py: the embedded server and client.py together, and the exit codes that they end with."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
# The brighter the image, the greater its class: from 0 for black to 9 for white.
MODEL = """
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            image = pb_utils.get_input_tensor_by_name(request, "image").as_numpy()
            distance = 9 * image.mean((1, 2, 3))[:, None] - np.arange(10)
            output = pb_utils.Tensor("fc_out", -np.square(distance).astype(np.float32))
            responses.append(pb_utils.InferenceResponse([output]))
        return responses
"""
CONFIG = """
backend: "python"
max_batch_size: 16
dynamic_batching { }
input [{ name: "image" data_type: TYPE_FP32 dims: [ 4, 4, 3 ] }]
output [{ name: "fc_out" data_type: TYPE_FP32 dims: [ 10 ] }]
instance_group [{ kind: KIND_CPU }]
"""


@pytest.fixture
def demo(monkeypatch, tmp_path):
    """ci/demo.py on a repository with a small model in place of ResNet18."""
    spec = importlib.util.spec_from_file_location("demo_under_test", ROOT / "ci" / "demo.py")
    demo = importlib.util.module_from_spec(spec)
    monkeypatch.syspath_prepend(ROOT)
    spec.loader.exec_module(demo)
    monkeypatch.setattr(demo, "ROOT", tmp_path)
    model = tmp_path / "model_repository" / "resnet18_digits"
    (model / "1").mkdir(parents=True)
    (model / "config.pbtxt").write_text(CONFIG)
    (model / "1" / "model.py").write_text(MODEL)
    return demo


@pytest.mark.parametrize(("wrong", "exit_code"), [(0, 0), (3, 0), (4, 1)])
def test_97_percent_must_be_right(demo, wrong, exit_code, monkeypatch, capfd):
    labels = np.arange(100) % 10
    images = np.broadcast_to((labels / 9)[:, None, None, None], (100, 4, 4, 3)).astype(np.float32)
    labels[:wrong] = 9 - labels[:wrong]
    monkeypatch.setattr(demo.client, "held_out_digits", lambda: (images, labels))
    picture = demo.ROOT / "digits.png"
    assert demo.main(["--clients", "5", "--picture", str(picture)]) == exit_code
    printed = capfd.readouterr()
    assert f"{100 - wrong:.1f}% of 100 held-out digits right, {wrong} wrong" in printed.out
    assert "from 5 http clients" in printed.out
    assert ("accuracy 96.0% is below --min-accuracy 97" in printed.err) == bool(exit_code)
    assert picture.exists()


def test_a_model_that_does_not_load_is_named(demo, tmp_path, capfd):
    script = tmp_path / "model_repository" / "resnet18_digits" / "1" / "model.py"
    script.write_text("raise ValueError('train me first')\n")
    assert demo.main([]) == 1
    said = capfd.readouterr().err
    assert "resnet18_digits" in said
    assert "train me first" in said
