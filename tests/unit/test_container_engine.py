"""What the engine `container` asks of Docker, seen by an imitation of Docker's API.

What goes wrong is in test_container_failures.py; real containers are in tests/e2e.
"""

import os
import re
from pathlib import Path

import numpy as np
import pytest
from boxed_models import IMAGE, docker, repository, start, write_models

from triton_stub.engines.engine import Engine

__all__ = ["docker", "repository"]  # fixtures

ONE = np.ones((1, 2), np.float32)


def created(docker, repository, **options):
    """What Docker is asked for."""
    start(repository, **options).stop()
    return docker.created()


def test_a_whole_life(docker, repository):
    with start(repository) as engine:
        assert isinstance(engine, Engine)
        assert engine.name == "container"
        assert engine.http_url.startswith("127.0.0.1:")
        assert (engine.infer("double", x=ONE)["y"] == 2).all()
        (response,) = engine.stream("double", x=ONE)
        assert (response["y"] == 2).all()
        assert "nv_inference_count" in engine.metrics()
        assert engine.status is None
        assert engine.container.get_wrapped_container().name in docker.containers
    assert "double" in engine.log()
    engine.stop()
    assert engine.status is None
    assert len(docker.sent("DELETE", "/containers/")) == 1


def test_the_readmes_example(docker, tmp_path, monkeypatch, capsys):
    docker.images.add("triton-jax:gpu")
    write_models(tmp_path / "model_repository", "resnet50")
    monkeypatch.chdir(tmp_path)
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    (example,) = re.findall(
        "```python\n(from triton_stub.engines.container .*?)```", readme, re.DOTALL
    )
    exec(example, {})
    assert "'resnet50'" in capsys.readouterr().out
    host = docker.created()["HostConfig"]
    assert host["DeviceRequests"][0]["Count"] == -1
    assert [mount["Type"] for mount in host["Mounts"]] == ["bind", "volume"]


def test_what_docker_is_asked_for(docker, repository):
    asked = created(docker, repository)
    assert asked["Image"] == IMAGE
    assert asked["Cmd"] == ["tritonserver", "--model-repository=/models"]
    assert asked["Env"] == ["PYTHONDONTWRITEBYTECODE=1"]
    assert "User" not in asked
    host = asked["HostConfig"]
    assert host["ShmSize"] == 1 << 30
    assert host["Mounts"] == [
        {"Type": "bind", "Source": str(repository), "Target": "/models", "ReadOnly": True}
    ]
    loopback = [{"HostIp": "127.0.0.1", "HostPort": ""}]
    assert host["PortBindings"] == dict.fromkeys(("8000/tcp", "8001/tcp", "8002/tcp"), loopback)
    assert "DeviceRequests" not in host
    (removed,) = docker.sent("DELETE", "/containers/")
    assert (removed["v"], removed["force"]) == ("True", "True")


def test_several_repositories_models_and_options(docker, repository, tmp_path):
    other = write_models(tmp_path / "other", "triple", "unused")
    asked = created(
        docker,
        [repository, os.path.relpath(other)],
        models=["double", "triple"],
        options=["--log-verbose=1", "--exit-timeout-secs=2"],
    )
    assert asked["Cmd"] == [
        *("tritonserver", "--model-repository=/models", "--model-repository=/models-2"),
        *("--model-control-mode=explicit", "--load-model=double", "--load-model=triple"),
        *("--log-verbose=1", "--exit-timeout-secs=2"),
    ]
    assert [(m["Source"], m["Target"], m["ReadOnly"]) for m in asked["HostConfig"]["Mounts"]] == [
        (str(repository), "/models", True),
        (str(other), "/models-2", True),
    ]
    # Longer than the server's own limit, so that it can end in good order.
    assert docker.sent("POST", "/stop") == [{"t": "12"}]


def test_environment_user_and_shared_memory(docker, repository):
    env = {"XLA_FLAGS": "--a=b", "PYTHONDONTWRITEBYTECODE": ""}
    asked = created(docker, repository, env=env, user="1000:1000", shm_size="64m")
    assert sorted(asked["Env"]) == ["PYTHONDONTWRITEBYTECODE=", "XLA_FLAGS=--a=b"]
    assert asked["User"] == "1000:1000"
    assert asked["HostConfig"]["ShmSize"] == 64 << 20


def test_volumes_have_a_name_or_are_folders(docker, repository, tmp_path):
    volumes = {"jax-cache": "/cache", tmp_path: "/weights", f"{tmp_path}/models": "/again"}
    mounts = created(docker, repository, volumes=volumes)["HostConfig"]["Mounts"]
    assert [(m["Type"], m["Source"], m["Target"], m["ReadOnly"]) for m in mounts[1:]] == [
        ("volume", "jax-cache", "/cache", False),
        ("bind", str(tmp_path), "/weights", False),
        ("bind", str(repository), "/again", False),
    ]


@pytest.mark.parametrize(
    ("gpus", "asked"),
    [
        ("all", {"Count": -1, "DeviceIDs": []}),
        (2, {"Count": 2, "DeviceIDs": []}),
        ("2", {"Count": 2, "DeviceIDs": []}),
        ("device=0,GPU-3a", {"Count": 0, "DeviceIDs": ["0", "GPU-3a"]}),
    ],
)
def test_gpus(docker, repository, gpus, asked):
    (request,) = created(docker, repository, gpus=gpus)["HostConfig"]["DeviceRequests"]
    assert request == {"Driver": "", "Capabilities": [["gpu"]], "Options": {}, **asked}


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"gpus": "some"}, "some: expected all, a number of GPUs, or device=0,1"),
        ({"gpus": 0}, "0: expected all, a number of GPUs, or device=0,1"),
        ({"gpus": True}, "True: expected all"),
        ({"shm_size": "1 GB"}, "1 GB: expected a number of bytes with b, k, m or g behind it"),
        ({"shm_size": "0"}, "0: expected a number of bytes"),
    ],
)
def test_what_docker_would_not_understand(docker, repository, options, complaint):
    with pytest.raises(ValueError, match=complaint):
        start(repository, **options)
    assert not docker.requests


def test_the_image_of_the_environment(docker, repository, monkeypatch):
    monkeypatch.setenv("TRITON_STUB_IMAGE", IMAGE)
    assert created(docker, repository, image=None)["Image"] == IMAGE


def test_an_image_is_pulled(docker, repository):
    docker.registry.add("triton:newer")
    assert created(docker, repository, image="triton:newer")["Image"] == "triton:newer"


def test_an_engine_on_another_host(docker, repository, monkeypatch):
    from testcontainers.core.config import ConnectionMode, testcontainers_config

    monkeypatch.setattr(testcontainers_config, "tc_host_override", "localhost")
    mode = ConnectionMode.docker_host
    monkeypatch.setattr(testcontainers_config, "connection_mode_override", mode)
    with start(repository) as engine:
        assert engine.http_url.startswith("localhost:")
        assert engine.ready("double")
    # Its loopback interface is not ours.
    anywhere = [{"HostIp": "", "HostPort": ""}]
    assert docker.created()["HostConfig"]["PortBindings"]["8000/tcp"] == anywhere


def test_good_models_are_served_beside_a_broken_one(docker, repository):
    options = ["--exit-on-error=false"]
    (write_models(repository, "broken") / "broken" / "1" / "model.py").write_text("1 / 0")
    with start(repository, options=options) as engine:
        assert (engine.ready(), engine.ready("double"), engine.ready("broken")) == (
            *(False, True, False),
        )
