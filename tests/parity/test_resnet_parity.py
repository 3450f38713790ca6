"""The served logits are those of an independent ResNet, and of flaxmodels' own pretrained path."""

import functools
import socket
from pathlib import Path

import flaxmodels
import h5py
import jax
import numpy as np
import onnxruntime
import pytest
from paper import BLOCKS, Paper

import triton_stub

MODEL_PY = Path(__file__).parents[2] / "model_repository" / "resnet50" / "1" / "model.py"
# Odd sizes on the way down, and height unlike width, where paddings would differ.
IMAGE_SHAPE = (75, 107, 3)
IMAGES = np.random.default_rng(4).uniform(size=(3, *IMAGE_SHAPE)).astype(np.float32)
CLASSES = 1000  # flaxmodels' pretrained path knows no other number

CONFIG = f"""
backend: "python"
max_batch_size: {len(IMAGES)}
input {{ name: "image" data_type: TYPE_FP32 dims: {list(IMAGE_SHAPE)} }}
output {{ name: "fc_out" data_type: TYPE_FP32 dims: {[CLASSES]} }}
parameters {{ key: "architecture" value {{ string_value: "%(architecture)s" }} }}
parameters {{ key: "weights" value {{ string_value: "imagenet" }} }}
parameters {{ key: "cache_dir" value {{ string_value: "%(cache_dir)s" }} }}
parameters {{ key: "batch_buckets" value {{ string_value: "{len(IMAGES)}" }} }}
"""


@pytest.fixture(scope="module", params=BLOCKS)
def architecture(request):
    return request.param


@pytest.fixture(scope="module")
def paper(architecture):
    return Paper(architecture, classes=CLASSES, seed=5)


@pytest.fixture(scope="module")
def cache_dir(architecture, paper, tmp_path_factory):
    """Where flaxmodels looks for a download before it asks the network, with a file there."""
    cache_dir = tmp_path_factory.mktemp(architecture)
    (cache_dir / "flaxmodels").mkdir()
    with h5py.File(cache_dir / "flaxmodels" / f"{architecture}_weights.h5", "w") as file:
        for name, array in paper.weights.items():
            file[name] = array
    return cache_dir


@pytest.fixture(scope="module")
def expected(paper):
    """Logits in ONNX Runtime, with none of its optimisations."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(paper.graph(), options, ["CPUExecutionProvider"])
    (logits,) = session.run(["fc_out"], {"image": IMAGES})
    return logits


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a test of local files asked for the network")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


def agree(logits, expected):
    """To 1e-4 of the largest logit, which is what decides between classes."""
    assert logits.shape == expected.shape
    assert np.abs(logits - expected).max() <= 1e-4 * np.abs(expected).max()


@pytest.mark.usefixtures("no_network")
def test_served_logits(architecture, cache_dir, expected, tmp_path):
    folder = tmp_path / "resnet"
    (folder / "1").mkdir(parents=True)
    for file in MODEL_PY.parent.glob("*.py"):
        (folder / "1" / file.name).symlink_to(file)
    config = CONFIG % {"architecture": architecture, "cache_dir": cache_dir}
    (folder / "config.pbtxt").write_text(config, encoding="utf-8")
    with triton_stub.Server(tmp_path) as server:
        agree(server.model("resnet")(image=IMAGES)["fc_out"], expected)


@pytest.mark.usefixtures("no_network")
def test_flaxmodels_own_pretrained_path(architecture, cache_dir, expected):
    network = getattr(flaxmodels, architecture.replace("resnet", "ResNet"))(
        output="logits", pretrained="imagenet", ckpt_dir=str(cache_dir)
    )
    apply = functools.partial(network.apply, train=False)
    variables = jax.jit(functools.partial(network.init, train=False))(jax.random.key(0), IMAGES)
    agree(jax.jit(apply)(variables, IMAGES), expected)


def test_the_network_is_out_of_reach(no_network):
    with pytest.raises(AssertionError, match="asked for the network"):
        socket.create_connection(("localhost", 9))


def test_the_images_matter(expected):
    """Or agreement would mean nothing."""
    largest = np.abs(expected).max()
    assert np.isfinite(largest)
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert np.abs(expected[one] - expected[other]).max() > 1e-2 * largest
