"""What a model finds in the container: the mounted repository, Python, packages, shared memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from packaging.requirements import Requirement
from starting import GPU

from triton_stub.engines.container import ContainerEngine
from triton_stub.engines.engine import Engine

pytestmark = pytest.mark.container

CI = Path(__file__).resolve().parents[2] / "ci"
LOCK = CI / f"requirements-{'gpu' if GPU else 'cpu'}.txt"
# What the models of model_repository import.
PACKAGES = ["numpy", "jax", "jaxlib", "flax", "flaxmodels", "safetensors", "h5py", "pillow"]


def surroundings(engine: Engine) -> dict[str, Any]:
    names = np.array([name.encode() for name in PACKAGES], np.object_)
    facts: dict[str, Any] = json.loads(engine.infer("surroundings", PACKAGES=names)["JSON"].item())
    return facts


def locked(python: str) -> dict[str, str]:
    """The version of each package in the lock file, for a version of Python."""
    where = {"python_full_version": python, "python_version": ".".join(python.split(".")[:2])}
    found = {}
    for line in LOCK.read_text().splitlines():
        if not line.startswith(("#", " ", "-")):
            requirement = Requirement(line.removesuffix("\\"))
            if requirement.marker is None or requirement.marker.evaluate(where):
                (version,) = requirement.specifier
                found[requirement.name] = version.version
    return found


@pytest.fixture(scope="module")
def facts(engine: Engine) -> dict[str, Any]:
    return surroundings(engine)


def test_python_is_that_of_the_image(
    engine: Engine, facts: dict[str, Any], tell: Callable[[str], None]
) -> None:
    assert isinstance(engine, ContainerEngine)
    program = "import platform; print(platform.python_version())"
    status, said = engine.container.exec(["python3", "-c", program])
    assert (status, said.decode().strip()) == (0, facts["python"])
    server = engine.server_metadata()["version"]
    tell(f"in the image: tritonserver {server}, Python {facts['python']}")


def test_packages_are_those_of_the_lock_file(
    facts: dict[str, Any], tell: Callable[[str], None]
) -> None:
    versions = locked(facts["python"])
    assert facts["packages"] == {name: versions[name] for name in PACKAGES}
    tell(f"{LOCK.name}: " + ", ".join(f"{name} {versions[name]}" for name in PACKAGES))


def test_the_repository_cannot_be_written_to(facts: dict[str, Any]) -> None:
    assert facts["write_beside_model"] == "EROFS"


def test_models_are_not_run_by_root(facts: dict[str, Any]) -> None:
    assert facts["user"] != 0


def test_shared_memory_is_not_what_docker_gives_by_itself(facts: dict[str, Any]) -> None:
    assert facts["shared_memory"] > 64 << 20
