"""What the benchmarks serve is what this repository has, and the same without a server."""

import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from triton_stub import config as model_config
from triton_stub.engines.stub import StubEngine

BENCH = Path(__file__).parents[1] / "bench"
# As much of a model as a benchmark calls; a batch of 3 is its undoing.
MODEL = """
import json

import numpy as np
import triton_python_backend_utils as pb_utils
from beside import CLASSES

class TritonPythonModel:
    image_shape = (2, 2, 3)
    image_dtype = np.dtype("uint8")

    def initialize(self, args):
        config = json.loads(args["model_config"])
        assert pb_utils.get_input_config_by_name(config, "image")["dims"] == [2, 2, 3]
        assert pb_utils.get_output_config_by_name(config, "nothing") is None
        assert args["model_instance_kind"] == "CPU"
        pb_utils.Logger.log_info("nobody reads this")
        print("nor this")

    def classify(self, images):
        assert all(image.shape == (1, 2, 2, 3) and image.dtype == np.uint8 for image in images)
        return np.zeros((len(images) - (len(images) == 3), CLASSES))

    def finalize(self):
        pass
"""
CONFIG = {
    "name": "m",
    "instance_group": [{"kind": "KIND_CPU", "count": 2}],
    "input": [{"name": "image", "dims": [2, 2, 3]}],
    "output": [],
}


@pytest.fixture
def resnets(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    import resnets

    return resnets


def test_ours(resnets, tmp_path):
    assert resnets.ours(tmp_path, "resnet18", compilation_cache_dir="/c") == "resnet18"
    before = model_config.parse((resnets.OURS / "config.pbtxt").read_text())
    after = model_config.parse((tmp_path / "resnet18/config.pbtxt").read_text())
    for key, value in {
        "architecture": "resnet18", "weights": "random", "compilation_cache_dir": "/c",
    }.items():  # fmt: skip
        assert after.parameters[key].string_value == value
        before.parameters[key].string_value = value
    before.name = "resnet18"
    assert after == before


@pytest.mark.parametrize("architecture", ["resnet18", "resnet50"])
def test_a_tutorials(resnets, tmp_path, architecture):
    name = resnets.tutorial(tmp_path, architecture)
    assert name == f"tutorial_{architecture}"
    config = model_config.parse((tmp_path / name / "config.pbtxt").read_text())
    assert config.name == name
    text = (tmp_path / name / "1/model.py").read_text()
    assert f"flaxmodels.{architecture.replace('resnet', 'ResNet')}(" in text


def test_a_file_that_has_become_another(resnets, tmp_path):
    (tmp_path / "file").write_text("one two two")
    resnets.change(tmp_path / "file", "one", "three")
    assert (tmp_path / "file").read_text() == "three two two"
    for pattern, count in (("one", 0), ("two", 2)):
        with pytest.raises(ValueError, match=rf"has '{pattern}' {count} times; expected once"):
            resnets.change(tmp_path / "file", pattern, "")


def test_a_parameter_that_is_not_there(resnets, tmp_path):
    with pytest.raises(ValueError, match=r"speed.* 0 times"):
        resnets.ours(tmp_path, "resnet18", speed="more")


@pytest.fixture
def direct(resnets):
    import direct

    return direct


@pytest.fixture
def model(tmp_path):
    version = tmp_path / "m/1"
    version.mkdir(parents=True)
    (version / "model.py").write_text(MODEL)
    (version / "beside.py").write_text("CLASSES = 4\n")
    return version


def test_batches_without_a_server(direct, model):
    instances = direct.Direct(Path(sys.executable), {}, model, CONFIG)
    try:
        assert instances.run({1: 5, 4: 2}, seconds=0.1) > 0
        assert instances.run({2: 1}, seconds=0) > 0
    finally:
        instances.close()


def test_a_batch_without_logits(direct, model, capfd):
    instances = direct.Direct(Path(sys.executable), {}, model, CONFIG)
    try:
        with pytest.raises(RuntimeError, match="ended with status 1; it says why above"):
            instances.run({3: 1}, seconds=0.1)
    finally:
        instances.close()
    assert "classify gave no logits for each of 3 images" in capfd.readouterr().err


def test_a_model_that_does_not_start(direct, model, capfd):
    (model / "beside.py").unlink()
    with pytest.raises(RuntimeError, match="ended with status 1"):
        direct.Direct(Path(sys.executable), {}, model, CONFIG)
    assert "No module named 'beside'" in capfd.readouterr().err


def test_batches_that_were_served(resnets, tmp_path):
    import serving
    from echo import write_echo
    from load import Generator, Load

    write_echo(tmp_path, "echo", [4])
    config = tmp_path / "echo/config.pbtxt"
    config.write_text(config.read_text() + "max_batch_size: 4\ndynamic_batching { }\n")
    served = {}
    with StubEngine(tmp_path) as engine, Generator(1) as generator:
        engine.infer("echo", IN=np.zeros((3, 4), np.float32))
        assert serving.batches(engine.statistics("echo")) == {3: 1}
        load = Load(engine.http_url, "echo", 2, 0.2)
        figures = serving.cell(generator, engine, load, served)
        sizes = served["echo"]
    assert set(sizes) <= {1, 2}
    assert isinstance(sizes, Counter)
    requests = sum(size * count for size, count in sizes.items())
    assert requests > 0
    assert figures["mean batch"] == requests / sizes.total()


def test_an_echo_repository_is_a_models_folder(resnets, tmp_path):
    from echo import write_echo

    write_echo(tmp_path, "echo", [-1])
    tensor = np.arange(5, dtype=np.float32)
    with StubEngine(tmp_path) as engine:
        np.testing.assert_array_equal(engine.infer("echo", IN=tensor)["OUT"], tensor)
