"""Models for the imitation of Docker's API, and the engine `container` on it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_docker import FakeDocker, fake_docker

from triton_stub.engines.container import ContainerEngine

IMAGE = "triton:test"
CONFIG = """
max_batch_size: 4
input { name: "x" data_type: TYPE_FP32 dims: [ -1 ] }
output { name: "y" data_type: TYPE_FP32 dims: [ -1 ] }
"""
MODEL = """
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(pb_utils.get_input_tensor_by_name(r, "x").as_numpy()) for r in requests]

    def answer(self, x):
        if (x == 7).any():
            text = "Failed to increase the shared memory pool size for key 'k' to 9 bytes. If you "
            text += "are running Triton inside docker, use '--shm-size' flag to control the shared "
            text += "memory region size. Error: No space left on device"
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(text))
        return pb_utils.InferenceResponse([pb_utils.Tensor("y", 2 * x)])
"""


@pytest.fixture
def docker(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDocker]:
    with fake_docker(monkeypatch, image=IMAGE) as docker:
        yield docker


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return write_models(tmp_path / "models", "double")


def write_models(repository: Path, *names: str) -> Path:
    """Models that double; one that is given a 7 has no shared memory left."""
    for name in names:
        (repository / name / "1").mkdir(parents=True)
        (repository / name / "config.pbtxt").write_text(CONFIG)
        (repository / name / "1" / "model.py").write_text(MODEL)
    return repository


def start(repository: object, **options: object) -> ContainerEngine:
    return ContainerEngine(repository, **{"image": IMAGE} | options)
