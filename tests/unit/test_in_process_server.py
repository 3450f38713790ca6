"""Servers, options, models and metrics by NVIDIA's in-process API."""

import gc
import json
from dataclasses import fields

import numpy as np
import pytest
from gates import GATES
from in_process_models import write_models
from model_files import BATCHED, BROKEN, DOUBLE, GATED, write_model

import triton_stub as tritonserver

ONE = np.ones(1, np.float32)
TIMEOUT = 60


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


def refused(kind, call, *args, **kwargs):
    with pytest.raises(kind) as caught:
        call(*args, **kwargs)
    return str(caught.value)


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


def test_a_repository_that_is_not_there(tmp_path):
    server = tritonserver.Server(model_repository=str(tmp_path / "foo"))
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


# Models


def test_the_index(server):
    models = server.models()
    assert {key: (model.state, model.reason) for key, model in models.items()} == {
        ("counts", -1): (None, None),
        ("doubles", 1): ("READY", None),
        ("echo", -1): (None, None),
    }
    assert list(server.models(exclude_not_ready=True)) == [("doubles", 1)]
    by_name = models["doubles"]
    assert (by_name.name, by_name.version, by_name.state) == ("doubles", -1, None)
    assert models["doubles", 1].ready()
    assert str(models["doubles", 1]) == "{'name': 'doubles', 'version': 1, 'state': 'READY'}"
    for key in ("nobody", ("doubles", 2)):
        assert "Unknown Model" in refused(KeyError, lambda key=key: models[key])


def test_why_a_model_does_not_serve(repository, server):
    write_model(repository, "broken", BROKEN)
    with pytest.raises(tritonserver.InvalidArgumentError, match="no weights"):
        server.load("broken")
    model = server.models()["broken", 1]
    assert model.state == "UNAVAILABLE"
    assert "no weights" in model.reason


def test_load_and_unload(server):
    model = server.load("echo")
    assert isinstance(model, tritonserver.Model)
    assert model.ready()
    server.unload(model, wait_until_unloaded=True)
    assert not model.ready()
    assert server.models()["echo", 1].state == "UNAVAILABLE"
    assert server.models()["echo", 1].reason == "unloaded"


def test_load_with_another_configuration(server):
    config = {"backend": "python", "max_batch_size": 4, **as_json(server)}
    model = server.load("doubles", {"config": json.dumps(config)})
    assert model.config()["max_batch_size"] == 4


def as_json(server):
    config = server.model("doubles").config()
    return {key: config[key] for key in ("input", "output")}


def test_unload_does_not_wait_unless_asked(tmp_path):
    name = "unloaded_late"
    write_model(tmp_path, name, GATED)
    with tritonserver.Server(
        str(tmp_path), model_control_mode="explicit", startup_models=["*"]
    ) as server:
        responses = server.model(name).infer(inputs={"IN": ONE})
        GATES[name].wait_for_somebody()
        server.unload(name)
        server.unload(name, wait_until_unloaded=True, polling_interval=0.001, timeout=0.01)
        assert not server.model(name).ready()
        assert server.models()[name, 1].state == "UNLOADING"
        GATES[name].opened.set()
        server.unload(name, wait_until_unloaded=True)
        assert server.models()[name, 1].state == "UNAVAILABLE"
        (response,) = responses
        assert np.from_dlpack(response.outputs["OUT"]).tolist() == [2]


def test_what_is_known_of_a_model(repository):
    write_model(repository, "batched", config=BATCHED)
    flag, property_ = tritonserver.ModelBatchFlag, tritonserver.ModelTxnPropertyFlag
    with tritonserver.Server(str(repository)) as server:
        batched, counts = server.model("batched"), server.model("counts")
        assert batched.metadata()["inputs"] == [
            {"name": "IN", "datatype": "FP32", "shape": [-1, -1]}
        ]
        assert batched.config()["max_batch_size"] == batched.config(1)["max_batch_size"] == 8
        assert batched.batch_properties() is flag.FIRST_DIM
        assert counts.batch_properties() is flag.UNKNOWN
        assert batched.transaction_properties() is property_.ONE_TO_ONE
        assert counts.transaction_properties() is property_.DECOUPLED
        list(batched.infer(inputs={"IN": ONE.reshape(1, 1)}))
        (row,) = batched.statistics()["model_stats"]
        assert (row["name"], row["version"], row["inference_count"]) == ("batched", "1", 1)
        text = refused(tritonserver.InvalidArgumentError, batched.config, 2)
        assert text == ("model configuration version 2 not supported, supported versions are: 1")
        nobody = server.model("nobody")
        assert not nobody.ready()
        for call in (
            nobody.config,
            nobody.metadata,
            nobody.batch_properties,
            nobody.transaction_properties,
        ):
            refused(tritonserver.NotFoundError, call)


# Repositories


def test_register_and_unregister(tmp_path, server):
    other = tmp_path / "elsewhere"
    write_model(other, "more")
    server.register_model_repository(str(other))
    refused(tritonserver.AlreadyExistsError, server.register_model_repository, str(other))
    assert server.load("more").ready()
    server.unregister_model_repository(str(other))
    text = refused(
        tritonserver.InvalidArgumentError, server.unregister_model_repository, str(other)
    )
    assert "repository not found" in text


def test_poll(tmp_path):
    write_model(tmp_path, "first")
    poll = tritonserver.ModelControlMode.POLL
    with tritonserver.Server(str(tmp_path), model_control_mode=poll) as server:
        write_model(tmp_path, "second")
        assert not server.model("second").ready()
        server.poll_model_repository()
        assert server.model("second").ready()
        text = refused(tritonserver.UnavailableError, server.load, "first")
        assert "not allowed if polling is enabled" in text


def test_polling_is_a_mode(server):
    text = refused(tritonserver.UnavailableError, server.poll_model_repository)
    assert text == "polling is disabled"


# Metrics


def test_metrics_of_a_programs_own(server):
    counter = tritonserver.MetricFamily(tritonserver.MetricKind.COUNTER, "asked_total", "How often")
    gauge = tritonserver.MetricFamily(tritonserver.MetricKind.GAUGE, "level", "How much")
    asked = tritonserver.Metric(counter, {"who": "me"})
    level = tritonserver.Metric(gauge)
    assert (asked.kind, level.kind) == (counter.kind, gauge.kind)
    asked.increment(2)
    level.set_value(3.5)
    level.increment(-1)
    assert (asked.value, level.value) == (2, 2.5)
    text = refused(tritonserver.UnsupportedError, asked.set_value, 1)
    assert "does not support Set" in text
    refused(tritonserver.InvalidArgumentError, asked.increment, -1)
    prometheus = tritonserver.MetricFormat.PROMETHEUS
    assert server.metrics() == server.metrics(prometheus)
    assert '# TYPE asked_total counter\nasked_total{who="me"} 2\n' in server.metrics()
    assert "\nlevel 2.5\n" in server.metrics()
    refused(TypeError, server.metrics, "prometheus")
    del counter, gauge, asked, level
    gc.collect()
    assert "asked_total" not in server.metrics()


def test_a_metric_of_another_kind_or_of_no_name():
    kinds = tritonserver.MetricKind
    family = tritonserver.MetricFamily(kinds.COUNTER, "only_one", "")
    error = tritonserver.InvalidArgumentError
    refused(error, tritonserver.MetricFamily, kinds.GAUGE, "only_one", "")
    refused(error, tritonserver.MetricFamily, kinds.GAUGE, "no name", "")
    refused(error, tritonserver.Metric, family, {"no label": "x"})
