"""What the engine `container` says and leaves behind when something goes wrong: nothing is left.

Docker's API is an imitation, which fails as it is told.
"""

import gc
import os
import re
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import ANY

import numpy as np
import pytest
from boxed_models import docker, repository, start
from patience import PATIENCE

from triton_stub.engines import server_container
from triton_stub.engines.server_container import ContainerUnavailableError
from triton_stub.errors import InferenceError, LoadError, ServerError

__all__ = ["docker", "repository"]  # fixtures

ONE = np.ones((1, 2), np.float32)


def test_no_image_is_named(docker, repository):
    with pytest.raises(ContainerUnavailableError, match="image=, --triton-image, or the variable"):
        start(repository, image=None)


def test_an_image_that_is_nowhere(docker, repository):
    complaint = "no image 'triton:none', and could not pull it: no registry has triton:none. Build"
    with pytest.raises(ContainerUnavailableError, match=complaint):
        start(repository, image="triton:none")
    assert not docker.sent("POST", "/containers/create")


def test_no_docker_engine(repository, monkeypatch, tmp_path):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none")
    complaint = rf"no Docker engine answers at unix://{tmp_path}/none: .*\. Start one, or name"
    with pytest.raises(ContainerUnavailableError, match=complaint):
        start(repository)


@pytest.mark.parametrize("package", ["docker", "testcontainers"])
def test_a_package_that_is_missing(repository, monkeypatch, package):
    for name in [*sys.modules]:
        if name.partition(".")[0] == package:
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ContainerUnavailableError, match=r'pip install "triton-stub\[e2e\]"'):
        start(repository)


@pytest.mark.parametrize(
    "said",
    [
        'could not select device driver "" with capabilities: [[gpu]]',
        "nvidia-container-cli: initialization error: load library failed: libnvidia-ml.so.1",
    ],
)
def test_no_runtime_for_gpus(docker, repository, said):
    docker.refused["POST", "/containers/triton-stub"] = (500, said)
    with pytest.raises(ContainerUnavailableError) as caught:
        start(repository, gpus="all")
    assert f"no GPU to give (gpus='all'): {said}. Install" in str(caught.value)


def failure(repository, **options):
    """The error's text, and what is attached to it."""
    with pytest.raises(LoadError) as caught:
        start(repository, **options)
    return str(caught.value), getattr(caught.value, "__notes__", [])


@pytest.mark.parametrize(
    ("path", "said", "hint"),
    [
        ("/containers/create", "invalid mount config", None),
        (
            "/containers/triton-stub",
            'exec: "tritonserver": executable file not found in $PATH: unknown',
            "hint: the image has no tritonserver: *",
        ),
    ],
)
def test_a_container_that_cannot_be_started(docker, repository, path, said, hint):
    docker.refused["POST", path] = (500, said)
    with pytest.raises(LoadError, match="the container could not be started: ") as caught:
        start(repository)
    assert said in str(caught.value)
    notes = getattr(caught.value, "__notes__", [])
    assert [note[:36] for note in notes] == ([hint[:36]] if hint else [])


def test_no_image_for_testcontainers_own_container(docker, repository, monkeypatch):
    from testcontainers.core.config import testcontainers_config

    monkeypatch.setattr(testcontainers_config, "ryuk_disabled", False)
    said, notes = failure(repository)
    assert said.startswith("the container could not be started: no registry has testcontainers/r")
    (hint,) = notes
    assert hint.endswith(": export TESTCONTAINERS_RYUK_DISABLED=true")


def failed(reason):
    """How a server ends that could not load a model, and what it logs."""
    place = "E1123 02:46:18.076744 49 model_lifecycle.cc:642]"
    return 1, f"{place} \"failed to load 'm' version 1: {reason}\""


@pytest.mark.parametrize(
    ("ends", "text", "hint"),
    [
        ((3, "last words"), "ended with status 3 before tritonserver was ready", None),
        ((137, ""), "137 before tritonserver was ready: it ran out of memory", "has killed the"),
        ((135, ""), "ended with status 135", r"shared memory \(2m\) is full.*--triton-shm-size"),
        (
            failed("use '--shm-size' flag to control"),
            "failed to load 'm'",
            r"memory \(2m\) is full",
        ),
        (failed("AttributeError: _ARRAY_API not found"), "_ARRAY_API", "numpy<2"),
        (failed("m has kind KIND_GPU but no GPUs are available"), "KIND_GPU", "gpus=all"),
        (failed("No module named 'flax.nnx'"), "No module", "has no module flax.nnx: build an"),
        (failed("failed to open directory /models/m"), "failed to open", r"chmod -R a\+rX"),
        (failed("failed to read text proto from /models/m/config.pbtxt"), "text proto", None),
        (failed("OSError: Read-only file system: 'x'"), "Read-only", "to a volume"),
        ((1, "exec /usr/bin/x: exec format error"), "status 1", "for another processor"),
    ],
)
def test_a_server_that_ends_before_it_is_ready(docker, repository, ends, text, hint):
    docker.ends = ends
    said, notes = failure(repository, shm_size="2m")
    assert text in said
    shown = "\n".join(notes)
    assert ends[1] in shown
    assert re.findall("^hint: .*", shown, re.MULTILINE) == ([ANY] if hint else [])
    assert re.search(hint or "", shown)


def test_links_that_lead_out_of_the_repository(docker, repository, tmp_path):
    (tmp_path / "weights").touch()
    (repository / "double" / "1" / "weights").symlink_to("../../../weights")
    (repository / "double" / "1" / "again.py").symlink_to("model.py")
    docker.ends = (1, "")
    _, notes = failure(repository)
    (note,) = notes
    assert "1/weights leads to ../../../weights, which the container does not have" in note


@pytest.mark.parametrize("target", ["{repository}/double/1/model.py", "again.py"])
def test_links_that_lead_nowhere_in_the_container(docker, repository, target):
    target = target.format(repository=repository)
    (repository / "double" / "1" / "again.py").symlink_to(target)
    docker.ends = (1, "")
    said, notes = failure(repository)
    assert said == "the container ended with status 1 before tritonserver was ready"
    assert [f"1/again.py leads to {target}, which the con" in note for note in notes] == [True]


def test_a_server_that_is_never_ready(docker, repository):
    docker.sleeps = True
    said, _ = failure(repository, startup_timeout=0.01)
    assert said.startswith("tritonserver was not ready within 0.01 s; ")


def test_a_container_that_somebody_removes_meanwhile(docker, repository):
    docker.sleeps = True
    docker.meanwhile["/json"] = lambda: docker.sent("POST", "/start") and docker.containers.clear()
    said, _ = failure(repository)
    assert said.startswith("the container is gone: ")


def test_a_server_that_ends_while_it_serves(docker, repository):
    with start(repository) as engine:
        (container,) = docker.containers.values()
        container.end(139, "last words")
        assert engine.status == 139
        with pytest.raises(InferenceError, match="container: no answer from ") as caught:
            engine.infer("double", x=ONE)
        ended, end_of_log = caught.value.__notes__
        assert ended == "the container has ended with status 139"
        assert end_of_log.endswith("last words")
    assert engine.log().endswith("last words")


def test_shared_memory_that_fills_up_later(docker, repository):
    with start(repository) as engine, pytest.raises(InferenceError) as caught:
        engine.infer("double", x=7 * ONE)
    (hint,) = caught.value.__notes__
    assert hint.startswith("hint: the container's shared memory (1g) is full")


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)


def test_an_interrupt_while_the_container_is_made(docker, repository, monkeypatch):
    interrupted = threading.Event()

    class Executor(ThreadPoolExecutor):
        def shutdown(self, *arguments, **options):
            interrupted.set()
            super().shutdown(*arguments, **options)

    def made_only_afterwards():
        interrupt()
        assert interrupted.wait(PATIENCE)

    monkeypatch.setattr(server_container, "ThreadPoolExecutor", Executor)
    docker.meanwhile["/containers/create"] = made_only_afterwards
    with pytest.raises(KeyboardInterrupt):
        start(repository)
    assert docker.created()
    assert not docker.containers


@pytest.mark.parametrize("moment", ["/json", "/start"])
def test_an_interrupt_while_the_server_starts(docker, repository, moment):
    docker.sleeps = True
    docker.meanwhile[moment] = lambda: docker.sent("POST", "/start") and interrupt()
    with pytest.raises(KeyboardInterrupt):
        start(repository)
    assert not docker.containers


def test_an_interrupt_while_it_stops(docker, repository):
    engine = start(repository)
    docker.meanwhile["/stop"] = interrupt
    with pytest.raises(KeyboardInterrupt):
        engine.stop()
    assert not docker.containers


def test_an_engine_that_nobody_stops(docker, repository):
    engine = start(repository)
    engine._pool.close()
    del engine
    gc.collect()
    assert not docker.containers


def test_a_container_that_cannot_be_removed(docker, repository):
    engine = start(repository)
    (name,) = docker.containers
    docker.refused["DELETE", "/containers"] = (500, "device or resource busy")
    complaint = f"could not remove the container {name}: .*busy. Remove it yourself: docker rm -f"
    with pytest.raises(ServerError, match=complaint):
        engine.stop()
    docker.containers.clear()
