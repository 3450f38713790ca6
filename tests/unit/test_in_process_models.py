"""Models, repositories and metrics by NVIDIA's in-process API."""

import gc
import json

import numpy as np
import pytest
from gates import GATES
from in_process_models import refused, write_models
from model_files import BATCHED, BROKEN, CONFIG, GATED, write_model

import triton_stub as tritonserver

ONE = np.ones(1, np.float32)


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


def test_models_may_have_other_names_than_their_folders(tmp_path, server):
    other = tmp_path / "elsewhere"
    write_model(other, "folder", config=CONFIG)
    write_model(other, "second", config=CONFIG)
    error = tritonserver.InvalidArgumentError
    register = server.register_model_repository
    assert "must be a string" in refused(error, register, str(other), {"folder": 1})
    both = {"folder": "named", "second": "named"}
    assert "conflicting mapping for 'named'" in refused(error, register, str(other), both)
    register(str(other), {"folder": "named"})
    model = server.load("named")
    (response,) = model.infer(inputs={"IN": ONE})
    assert (response.model.name, response.result()["OUT"].tolist()) == ("named", [2])


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
    for page in (server.metrics(), server.metrics(prometheus)):
        assert '# TYPE asked_total counter\nasked_total{who="me"} 2\n' in page
        assert "\nlevel 2.5\n" in page
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
