"""Servers, options and logs by NVIDIA's in-process API."""

from dataclasses import fields

import numpy as np
import pytest
from in_process_models import refused, write_models
from model_files import BROKEN, DOUBLE, write_model

import triton_stub as tritonserver


@pytest.fixture
def repository(tmp_path):
    return write_models(tmp_path)


@pytest.fixture
def server(repository):
    options = tritonserver.Options(
        server_id="TestServer",
        model_repository=str(repository),
        model_control_mode=tritonserver.ModelControlMode.EXPLICIT,
        startup_models=["doubles"],
    )
    running = tritonserver.Server(options).start(wait_until_ready=True)
    yield running
    running.stop()


# Everything is there


@pytest.mark.parametrize("name", sorted(set(tritonserver.__all__)))
def test_everything_that_is_named_is_there(name):
    assert getattr(tritonserver, name) is not None


def test_what_is_not_named_is_not_there():
    assert not hasattr(tritonserver, "NoSuchThing")


# core, python/tritonserver/_api/_server.py
THEIRS = {
    "model_repository": [],
    "server_id": "triton",
    "model_control_mode": tritonserver.ModelControlMode.NONE,
    "startup_models": [],
    "strict_model_config": False,
    "rate_limiter_mode": tritonserver.RateLimitMode.OFF,
    "rate_limiter_resources": [],
    "pinned_memory_pool_size": 1 << 28,
    "cuda_memory_pool_sizes": {},
    "cache_config": {},
    "cache_directory": "/opt/tritonserver/caches",
    "min_supported_compute_capability": 6.0,
    "exit_on_error": True,
    "strict_readiness": True,
    "exit_timeout": 30,
    "buffer_manager_thread_count": 0,
    "model_load_thread_count": 4,
    "model_load_retry_count": 0,
    "model_namespacing": False,
    "enable_peer_access": True,
    "log_file": None,
    "log_info": False,
    "log_warn": False,
    "log_error": False,
    "log_format": tritonserver.LogFormat.DEFAULT,
    "log_verbose": 0,
    "metrics": True,
    "gpu_metrics": True,
    "cpu_metrics": True,
    "metrics_interval": 2000,
    "backend_directory": "/opt/tritonserver/backends",
    "repo_agent_directory": "/opt/tritonserver/repoagents",
    "model_load_device_limits": [],
    "backend_configuration": {},
    "host_policies": {},
    "metrics_configuration": {},
}


def test_options_have_their_names_order_and_defaults():
    options = tritonserver.Options()
    ours = {field.name: getattr(options, field.name) for field in fields(options)}
    assert dict(list(ours.items())[: len(THEIRS)]) == THEIRS
    assert list(ours)[: len(THEIRS)] == list(THEIRS)


def test_options_or_keywords_or_a_repository():
    assert tritonserver.Server().options == tritonserver.Options()
    assert tritonserver.Server(server_id="x").options.server_id == "x"
    assert tritonserver.Server("models", server_id="x").options == tritonserver.Options(
        "models", server_id="x"
    )
    options = tritonserver.Options("models")
    assert tritonserver.Server(options).options is options
    with pytest.raises(TypeError, match="besides"):
        tritonserver.Server(options, server_id="x")
    with pytest.raises(TypeError, match="nonsense"):
        tritonserver.Server(nonsense=1)


# A server's life


def test_a_server_that_has_not_started():
    server = tritonserver.Server()
    for call in (
        server.ready,
        server.live,
        server.metadata,
        server.metrics,
        server.models,
        server.poll_model_repository,
    ):
        assert refused(tritonserver.InvalidArgumentError, call) == "Server not started"
    for call in (server.model, server.load, server.unload, server.unregister_model_repository):
        assert refused(tritonserver.InvalidArgumentError, call, "test") == "Server not started"


@pytest.mark.parametrize(
    "options",
    [
        {"server_id": 1},
        {"model_repository": 1},
        {"model_repository": [1]},
        {"model_control_mode": 2},
        {"model_control_mode": "sometimes"},
        {"rate_limiter_mode": "always"},
    ],
)
def test_options_of_the_wrong_type_are_told_at_the_start(options, tmp_path):
    server = tritonserver.Server(**{"model_repository": str(tmp_path), **options})
    refused(TypeError, server.start)


@pytest.mark.parametrize("given", [None, []])
def test_a_server_needs_a_repository(given):
    server = tritonserver.Server(model_repository=given)
    assert "must be specified" in refused(tritonserver.InvalidArgumentError, server.start)


@pytest.mark.parametrize("exit_on_error", [True, False])
def test_a_repository_that_is_not_there(tmp_path, exit_on_error):
    options = tritonserver.Options(str(tmp_path / "foo"), exit_on_error=exit_on_error)
    server = tritonserver.Server(options)
    assert "foo" in refused(tritonserver.InternalError, server.start)


def test_a_model_that_does_not_load(repository):
    write_model(repository, "broken", BROKEN)
    server = tritonserver.Server(model_repository=str(repository))
    assert "no weights" in refused(tritonserver.InternalError, server.start)
    assert refused(tritonserver.InvalidArgumentError, server.ready) == "Server not started"


def test_namespaces_are_not_imitated(tmp_path):
    server = tritonserver.Server(model_repository=str(tmp_path), model_namespacing=True)
    assert "--triton-engine=native" in refused(tritonserver.UnsupportedError, server.start)


def test_start_stop_and_start_again(repository):
    server = tritonserver.Server(model_repository=str(repository))
    for _ in range(2):
        assert server.start() is server
        assert server.live()
        assert server.ready()
        text = refused(tritonserver.InvalidArgumentError, server.start)
        assert text == "Server already started"
        server.stop()
    assert refused(tritonserver.InvalidArgumentError, server.live) == "Server not started"


def test_a_server_that_does_not_get_ready(repository):
    never = f"{DOUBLE}\n    def is_ready(self):\n        return False\n"
    write_model(repository, "never", never)
    server = tritonserver.Server(model_repository=str(repository))
    text = refused(tritonserver.UnavailableError, server.start, True, 0.001, 0.01)
    assert text == "Timeout before ready"
    assert server.live()
    server.stop()


def test_metadata(server):
    metadata = server.metadata()
    assert metadata["name"] == "TestServer"
    assert set(metadata) == {"name", "version", "extensions"}


# Metrics


def test_metrics_that_are_turned_off(tmp_path):
    write_model(tmp_path, "double", DOUBLE)
    with tritonserver.Server(str(tmp_path), metrics=False) as server:
        server.model("double")(IN=np.ones(1, np.float32))
        text = server.metrics()
        assert 'nv_inference_count{model="double",version="1"} 0\n' in text
        assert "nv_cpu" not in text
        assert "nv_pinned" not in text
    with tritonserver.Server(str(tmp_path), cpu_metrics=False) as server:
        server.model("double")(IN=np.ones(1, np.float32))
        text = server.metrics()
        assert 'nv_inference_count{model="double",version="1"} 1\n' in text
        assert "nv_cpu" not in text
        assert "nv_pinned" in text


# The log


def test_log_file(repository, tmp_path):
    file = tmp_path / "server.log"
    with tritonserver.Server(str(repository), log_file=str(file), log_error=True) as server:
        pass
    assert file.read_text() == ""
    assert "successfully loaded" in str(server.log())
    with tritonserver.Server(str(repository), log_file=str(file), log_verbose=6) as server:
        pass
    assert file.read_text() == f"{server.log()}\n"


@pytest.mark.parametrize(
    ("levels", "letters"),
    [
        ({}, ""),
        ({"log_error": True}, "E"),
        ({"log_warn": True}, "WE"),
        ({"log_info": True}, "IWE"),
        ({"log_verbose": 1}, "IWE"),
    ],
)
def test_a_level_has_those_below_it(levels, letters):
    assert tritonserver.Options(**levels).log_severity == letters


def test_the_log_goes_to_the_standard_error_stream_if_asked_for(repository, capsys):
    with tritonserver.Server(str(repository)):
        pass
    assert capsys.readouterr() == ("", "")
    with tritonserver.Server(str(repository), log_info=True):
        pass
    assert "successfully loaded" in capsys.readouterr().err
