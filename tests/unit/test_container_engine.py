"""The engine `container` against an imitation of Docker's API; real containers are in tests/e2e."""

import numpy as np
import pytest
from fake_docker import fake_docker

from triton_stub.engines.container import ContainerEngine
from triton_stub.engines.engine import Engine

IMAGE = "triton:test"
ONE = np.ones((1, 2), np.float32)
CONFIG = """
max_batch_size: 4
input { name: "x" data_type: TYPE_FP32 dims: [ -1 ] }
output { name: "y" data_type: TYPE_FP32 dims: [ -1 ] }
"""
MODEL = """
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [
            pb_utils.InferenceResponse([
                pb_utils.Tensor("y", 2 * pb_utils.get_input_tensor_by_name(request, "x").as_numpy())
            ])
            for request in requests
        ]
"""


@pytest.fixture
def docker(tmp_path_factory, monkeypatch):
    from testcontainers.core.config import testcontainers_config

    with fake_docker(tmp_path_factory.mktemp("d"), image=IMAGE) as docker:
        monkeypatch.setenv("DOCKER_HOST", docker.url)
        monkeypatch.setattr(testcontainers_config, "ryuk_disabled", True)
        monkeypatch.delenv("TRITON_STUB_IMAGE", raising=False)
        yield docker
        assert not docker.containers, "something is left behind"


@pytest.fixture
def repository(tmp_path):
    return write_models(tmp_path / "models", "double")


def write_models(repository, *names):
    for name in names:
        (repository / name / "1").mkdir(parents=True)
        (repository / name / "config.pbtxt").write_text(CONFIG)
        (repository / name / "1" / "model.py").write_text(MODEL)
    return repository


def test_a_whole_life(docker, repository):
    with ContainerEngine(repository, image=IMAGE) as engine:
        assert isinstance(engine, Engine)
        assert engine.name == "container"
        assert engine.http_url.startswith("127.0.0.1:")
        assert (engine.infer("double", x=ONE)["y"] == 2).all()
        (response,) = engine.stream("double", x=ONE)
        assert (response["y"] == 2).all()
        assert "nv_inference_count" in engine.metrics()
        assert engine.status is None
    assert "double" in engine.log()
    assert not docker.containers
