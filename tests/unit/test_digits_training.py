"""model_repository/resnet18_digits/train.py, without the training itself, which takes a minute."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import flax.linen as nn
import flaxmodels
import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors.numpy import load_file

import triton_stub

DIGITS = Path(__file__).parents[2] / "model_repository" / "resnet18_digits"


@pytest.fixture(scope="module")
def training():
    spec = importlib.util.spec_from_file_location("train_digits", DIGITS / "train.py")
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "dont_write_bytecode", True)  # a model's folder holds the model
        spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def network():
    return flaxmodels.ResNet18(output="logits", pretrained=None, num_classes=10)


@pytest.fixture(scope="module")
def variables(network):
    """As the training leaves them, but for what is in them."""
    image = np.zeros((1, 32, 32, 3), np.float32)
    leaves = jax.eval_shape(lambda: network.init(jax.random.key(0), image))
    random = np.random.default_rng(6)
    arrays = {}
    for name, leaf in flatten_dict(leaves, sep="/").items():
        array = random.normal(0, 0.1, leaf.shape).astype(np.float32)
        arrays[name] = np.abs(array) if name.endswith("/var") else array
    return unflatten_dict(arrays, sep="/")


def test_images_and_labels(training):
    (train_images, train_labels), (test_images, test_labels) = training.load_digits()
    assert train_images.shape == (1437, 32, 32, 3)
    assert test_images.shape == (360, 32, 32, 3)
    for images, labels in ((train_images, train_labels), (test_images, test_labels)):
        assert images.dtype == np.float32
        assert labels.dtype == np.int64
        assert (images.min(), images.max()) == (0, 1)
        share = np.bincount(labels, minlength=10) / len(labels)
        np.testing.assert_allclose(share, 0.1, atol=0.01)
        # Each pixel of the original is a square of one grey.
        squares = images.reshape(len(images), 8, 4, 8, 4, 3)
        assert (squares == squares[:, :, :1, :, :1, :1]).all()


def test_the_split_is_the_same_every_time(training):
    first, second = training.load_digits(), training.load_digits()
    for one, other in zip(first[0] + first[1], second[0] + second[1], strict=True):
        np.testing.assert_array_equal(one, other)


def test_no_image_is_in_both_parts(training):
    (train_images, _), (test_images, _) = training.load_digits()
    seen = {image.tobytes() for image in train_images}
    assert not seen & {image.tobytes() for image in test_images}


def test_images_can_be_had_without_jax():
    program = (
        "import runpy, sys;"
        "runpy.run_path(sys.argv[1])['load_digits']();"
        "sys.exit('jax' in sys.modules or 'flaxmodels' in sys.modules)"
    )
    command = [sys.executable, "-c", program, DIGITS / "train.py"]
    assert subprocess.run(command, check=False).returncode == 0


def test_shifted_images_keep_their_shape_and_are_moved_by_up_to_three_pixels(training):
    image = np.zeros((1, 32, 32, 3), np.float32)
    image[:, 16, 16] = 1
    shifted = training.shifted(image.repeat(200, axis=0), np.random.default_rng(7))
    assert shifted.shape == (200, 32, 32, 3)
    _, rows, columns, _ = np.nonzero(shifted)
    assert set(rows) == set(columns) == set(range(13, 20))


@pytest.mark.parametrize("side", [32, 17])
def test_convolutions_of_small_images_are_the_same(training, network, variables, side):
    images = np.random.default_rng(8).uniform(size=(2, side, side + 3, 3)).astype(np.float32)

    def apply(variables, images):
        return network.apply(variables, images, train=True, mutable=["batch_stats"])

    expected = flatten_dict(jax.jit(apply)(variables, images)[1])
    with nn.intercept_methods(training.small_image_conv):
        found = flatten_dict(jax.jit(apply)(variables, images)[1])
    for name, array in expected.items():
        assert np.isfinite(array).all()
        np.testing.assert_allclose(found[name], array, rtol=1e-3, atol=1e-5)


def test_saved_variables_come_back(training, variables, tmp_path):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"an older file")
    training.save(variables, path)
    stored, expected = load_file(path), flatten_dict(variables, sep="/")
    assert set(stored) == set(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(stored[name], array)
    assert list(tmp_path.iterdir()) == [path]
    (tmp_path / "another").touch()
    assert path.stat().st_mode == (tmp_path / "another").stat().st_mode


def test_a_save_that_fails_leaves_the_older_file(training, variables, tmp_path, monkeypatch):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"an older file")

    def full(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="no space"):
        training.save(variables, path)
    assert path.read_bytes() == b"an older file"
    assert list(tmp_path.iterdir()) == [path]


def test_saved_variables_are_what_the_model_serves(training, network, variables, tmp_path):
    folder = tmp_path / "resnet18_digits"
    (folder / "1").mkdir(parents=True)
    config = (DIGITS / "config.pbtxt").read_text(encoding="utf-8")
    assert "max_batch_size: 16" in config  # fewer programs to compile will do
    config = config.replace("max_batch_size: 16", "max_batch_size: 4")
    (folder / "config.pbtxt").write_text(config, encoding="utf-8")
    for file in (DIGITS / "1").glob("*.py"):
        (folder / "1" / file.name).symlink_to(file)
    training.save(variables, folder / "1" / "weights.safetensors")
    images = training.load_digits()[1][0][:3]
    with triton_stub.Server(tmp_path) as server:
        logits = server.model("resnet18_digits")(image=images)["fc_out"]
    expected = jax.jit(network.apply, static_argnames="train")(variables, images, train=False)
    assert np.abs(logits - expected).max() <= 1e-4 * np.abs(expected).max()


@pytest.fixture
def run(training, variables, tmp_path, monkeypatch):
    """Runs the program with a training that is over at once and has reached some accuracy."""

    def run(score):
        monkeypatch.setattr(training, "train", lambda *_: variables)
        monkeypatch.setattr(training, "accuracy", lambda *_: score)
        training.main(["--output", str(tmp_path / "weights.safetensors")])

    return run


def test_weights_that_are_good_enough_are_written(run, tmp_path, capsys):
    run(0.97)
    assert (tmp_path / "weights.safetensors").exists()
    assert "held-out accuracy: 97.00% of 360 digits" in capsys.readouterr().out


def test_weights_that_are_not_good_enough_are_not_written(run, tmp_path, capsys):
    with pytest.raises(SystemExit, match=r"expected at least 97%; .* was not written\."):
        run(0.969)
    assert not (tmp_path / "weights.safetensors").exists()
    assert "held-out accuracy: 96.90% of 360 digits" in capsys.readouterr().out


def test_accuracy_is_the_share_of_right_answers(training, network, variables):
    images = training.load_digits()[1][0][:8]
    logits = jax.jit(network.apply, static_argnames="train")(variables, images, train=False)
    assert np.isfinite(logits).all()
    labels = np.array(np.argmax(logits, axis=-1))
    assert training.accuracy(variables, images, labels) == 1
    labels[:2] += 1
    assert training.accuracy(variables, images, labels) == 0.75


def test_the_model_is_the_one_of_resnet50():
    shared = DIGITS.parent / "resnet50" / "1"
    links = sorted((DIGITS / "1").glob("*.py"))
    assert [link.name for link in links] == sorted(file.name for file in shared.glob("*.py"))
    for link in links:
        assert link.is_symlink()
        assert not link.readlink().is_absolute()
        assert link.resolve() == shared / link.name
