"""The pytest plugin with servers that are not in this process: containers, and those of a URL.

Docker's API is an imitation, and so are the servers: the real ones are in tests/e2e.
"""

import importlib
import os
import signal

import pytest
from boxed_models import IMAGE, docker, write_models

import triton_stub
from triton_stub import config

# As in test_plugin.py: what runs inside this process forgets its imports.
config.schema()
for name in ("docker.models.containers", "testcontainers.core.container"):
    importlib.import_module(name)
importlib.import_module("triton_stub.engines.stub")

__all__ = ["docker"]  # a fixture

pytest_plugins = ["pytester"]

TESTS = """
import numpy as np
import pytest

ONE = np.ones((1, 2), np.float32)


def test_infer(triton):
    assert triton.name == NAME
    assert (triton.infer("double", x=ONE)["y"] == 2).all()


@pytest.mark.triton(models=["triple"])
def test_another_model(triton):
    assert triton.ready("triple")
"""


@pytest.fixture
def project(pytester):
    write_models(pytester.path / "model_repository", "double", "triple")
    return pytester


@pytest.fixture
def server(project):
    """A server that was there before."""
    repository = project.path / "model_repository"
    with triton_stub.Server(
        repository, model_control_mode="explicit", startup_models=["double"]
    ) as server:
        yield server.serve(http_port=0, grpc_port=0)


def run(project, *arguments):
    arguments = ("-p", "no:cacheprovider", "-W", "error", *arguments)
    return project.runpytest_inprocess(*arguments, no_reraise_ctrlc=True)


def write_tests(project, name):
    project.makepyfile(f"NAME = {name!r}\n{TESTS}")


def test_tests_in_a_container(docker, project):
    write_tests(project, "container")
    options = ["--triton-gpus=device=1", "--triton-shm-size=64m", "--triton-timeout=60"]
    result = run(project, "--triton-engine=container", f"--triton-image={IMAGE}", *options)
    result.assert_outcomes(passed=2)
    first, second = docker.sent("POST", "/containers/create")
    assert first["Cmd"] == [
        *("tritonserver", "--model-repository=/models", "--exit-timeout-secs=60"),
    ]
    assert second["Cmd"][2:4] == ["--model-control-mode=explicit", "--load-model=triple"]
    for asked in (first, second):
        host = asked["HostConfig"]
        assert asked["Image"] == IMAGE
        assert host["ShmSize"] == 64 << 20
        assert host["DeviceRequests"][0]["DeviceIDs"] == ["1"]
        (mount,) = host["Mounts"]
        assert mount["Source"] == str(project.path / "model_repository")


def test_options_in_the_ini_file(docker, project):
    write_tests(project, "container")
    options = {"engine": "container", "image": IMAGE, "gpus": "all", "shm_size": "2g"}
    lines = (f"triton_{name} = {value}" for name, value in options.items())
    project.makeini("\n".join(["[pytest]", *lines]))
    run(project, "-k", "infer", "--triton-shm-size=1g").assert_outcomes(passed=1, deselected=1)
    host = docker.created()["HostConfig"]
    assert host["ShmSize"] == 1 << 30  # the command line wins
    assert host["DeviceRequests"][0]["Count"] == -1


@pytest.mark.parametrize(
    ("option", "complaint"),
    [
        ("gpus=some", "expected all, a number of GPUs, or device=0,1"),
        ("shm-size=1 GB", "expected a number of bytes with b, k, m or g behind it, as 1g"),
        ("grpc-url=http://host:8001", "expected host:port, such as localhost:8001"),
        ("grpc-url=8001", "expected host:port, such as localhost:8001"),
    ],
)
def test_options_that_are_wrong(project, option, complaint):
    name, _, value = option.partition("=")
    project.makepyfile("def test_it(): ...")
    result = run(project, f"--triton-{option}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: --triton-{name}={value}: {complaint}"])
    ini = f"triton_{name.replace('-', '_')} = {value}"
    project.makeini(f"[pytest]\n{ini}")
    result = run(project)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: ini option {ini}: {complaint}"])


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "no image is named: give one *"),
        (["--triton-image=triton:none"], "the Docker engine has no image 'triton:none', *"),
    ],
)
def test_a_container_that_cannot_be_had(docker, project, arguments, reason):
    write_tests(project, "container")
    arguments = ["--triton-engine=container", *arguments]
    result = run(project, *arguments)
    result.assert_outcomes(skipped=2)
    said = f"no real tritonserver for --triton-engine=container: {reason}"
    result.stdout.fnmatch_lines(["*= triton =*", f"2 skipped: {said}"])
    result = run(project, *arguments, "--triton-require")
    result.assert_outcomes(errors=2)
    result.stdout.fnmatch_lines([said])


def test_no_docker_engine(project, monkeypatch, tmp_path):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none")
    write_tests(project, "container")
    arguments = ["--triton-engine=container", "--triton-image=any"]
    result = run(project, *arguments)
    result.assert_outcomes(skipped=2)
    result.stdout.fnmatch_lines([f"2 skipped: *: no Docker engine answers at unix://{tmp_path}/*"])
    run(project, *arguments, "--triton-require").assert_outcomes(errors=2)


def test_a_server_that_does_not_start(docker, project):
    write_tests(project, "container")
    docker.ends = (1, "the last line")
    result = run(project, "--triton-engine=container", f"--triton-image={IMAGE}")
    result.assert_outcomes(errors=2)
    result.stdout.fnmatch_lines(["*LoadError: the container ended with status 1 *", "*last line*"])


def test_nothing_is_left_after_an_interrupt(docker, project):
    project.makepyfile(
        """
        def test_it(triton):
            assert triton.ready("double")
            raise KeyboardInterrupt
        """
    )
    result = run(project, "--triton-engine=container", f"--triton-image={IMAGE}")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert docker.created()
    assert not docker.containers


def test_nothing_is_left_after_an_interrupt_at_the_start(docker, project):
    write_tests(project, "container")
    docker.sleeps = True
    docker.meanwhile["/start"] = lambda: os.kill(os.getpid(), signal.SIGINT)
    result = run(project, "--triton-engine=container", f"--triton-image={IMAGE}")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert docker.created()
    assert not docker.containers


def test_a_server_that_is_there(server, project):
    url = f"http://{server.http_url}"
    write_tests(project, url)
    # What it serves is its own affair: no repository is needed here.
    (project.path / "model_repository").rename(project.path / "elsewhere")
    result = run(project, f"--triton-engine={url}")
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(
        [
            f"the server at {url} does not have ready what the test wants: triple. Tests load no "
            "models there: load them, or start the server with them"
        ]
    )


def test_streams_of_a_server_that_is_there(server, project):
    project.makepyfile(
        """
        import numpy as np

        def test_it(triton):
            (response,) = triton.stream("double", x=np.ones((1, 2), np.float32))
            assert (response["y"] == 2).all()
            with triton.client("grpc") as client:
                assert client.is_server_live()
        """
    )
    engine = f"--triton-engine=http://{server.http_url}"
    result = run(project, engine)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*a stream of responses needs gRPC*--triton-grpc-url=HOST:PORT*"])
    run(project, engine, f"--triton-grpc-url={server.grpc_url}").assert_outcomes(passed=1)
    run(project, engine, f"--triton-grpc-url=grpc://{server.grpc_url}").assert_outcomes(passed=1)


def test_nobody_is_there(server, project):
    server.stop()
    url = f"http://{server.http_url}"
    write_tests(project, url)
    result = run(project, f"--triton-engine={url}")
    result.assert_outcomes(skipped=2)
    said = f"no real tritonserver for --triton-engine={url}: no answer from {server.http_url}: *"
    result.stdout.fnmatch_lines(["*= triton =*", f"2 skipped: {said}"])
    result = run(project, f"--triton-engine={url}", "--triton-require")
    result.assert_outcomes(errors=2)
    result.stdout.fnmatch_lines([said])
