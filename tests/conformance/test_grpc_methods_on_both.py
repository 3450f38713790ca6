"""gRPC: health, metadata, configuration, statistics and the repository on both."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import grpc_models
import pytest
from broken_models import both_engines, write_models
from comparing import Engines
from grpc_asking import Failure, call, failure, request, same
from patience import wait_until
from tritonclient.grpc import service_pb2 as pb

from triton_stub.engines.engine import Engine

RICH = """
name: "rich"
backend: "python"
max_batch_size: 8
input { name: "A" data_type: TYPE_FP32 dims: [ -1, 3 ] optional: true }
input { name: "B" data_type: TYPE_STRING dims: [ 1 ] reshape { shape: [ ] } }
output { name: "C" data_type: TYPE_BF16 dims: [ 2 ] label_filename: "labels.txt" }
instance_group { count: 2 kind: KIND_CPU }
parameters { key: "k" value { string_value: "v" } }
dynamic_batching {
  preferred_batch_size: [ 2, 4 ] max_queue_delay_microseconds: 100
  priority_levels: 2 default_priority_level: 1
  default_queue_policy { timeout_action: DELAY max_queue_size: 10 }
}
version_policy { all { } }
model_transaction_policy { decoupled: false }
model_warmup { name: "w" batch_size: 0 }
response_cache { enable: false }
"""
NOTHING = """
class TritonPythonModel:
    def execute(self, requests):
        return []
"""
BROKEN = "raise ValueError('no')"
ENSEMBLE = """
platform: "ensemble"
input { name: "IN" data_type: TYPE_FP32 dims: [ -1 ] }
output { name: "OUT" data_type: TYPE_FP32 dims: [ -1 ] }
ensemble_scheduling {
  step { model_name: "inner" model_version: -1
         input_map { key: "IN" value: "IN" } output_map { key: "OUT" value: "OUT" } }
}
"""


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    repository = tmp_path_factory.mktemp("methods")
    grpc_models.write(repository)
    files = {"1/model.py": NOTHING, "3/model.py": NOTHING, "labels.txt": "x\ny\n"}
    write_models(repository, {"rich": {**files, "config.pbtxt": RICH}})
    write_models(repository, {"broken": BROKEN})
    write_models(repository, {"inner": grpc_models.ECHO}, grpc_models.TELLING)
    write_models(repository, {"outer": {"config.pbtxt": ENSEMBLE, "1/empty": ""}})
    for name in ("left", "again"):
        write_models(repository, {name: grpc_models.ECHO}, grpc_models.TELLING)
    started = ["echo", "rich", "outer", "again", "decoupled", "sequence", "batched", "broken"]
    with both_engines(
        repository,
        options=[
            "--model-control-mode=explicit",
            *(f"--load-model={name}" for name in started),
        ],
        model_control_mode="explicit",
        startup_models=started,
    ) as both:
        yield both


@pytest.mark.rule("5.2-health")
@pytest.mark.parametrize(
    "message", [pb.ServerLiveRequest(), pb.ServerReadyRequest()], ids=["live", "ready"]
)
def test_health(engines: Engines, message: Any) -> None:
    same(engines, type(message).__name__.removesuffix("Request"), message)


VERSIONS = ["", "1", "3", "2", "0", "-1", "x", "1.5", "99999999999999999999"]
NAMES = ["echo", "rich", "outer", "broken", "left", "nope", "", "echo\0x"]


@pytest.mark.rule("5.2-health", "5.2-metadata")
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("method", ["ModelReady", "ModelMetadata", "ModelConfig"])
def test_models(engines: Engines, method: str, version: str) -> None:
    for name in NAMES:
        same(engines, method, getattr(pb, f"{method}Request")(name=name, version=version))


@pytest.mark.rule("5.2-metadata")
def test_server_metadata(engines: Engines) -> None:
    assert same(engines, "ServerMetadata", pb.ServerMetadataRequest())["extensions"]


@pytest.mark.rule("5.2-health")
@pytest.mark.parametrize(
    "path",
    [
        "/grpc.health.v1.Health/Check",
        "/grpc.health.v1.Health/Watch",
        "/grpc.health.v1.Health/Nope",
        "/inference.GRPCInferenceService/Nope",
        "/of.Nobody/Check",
        "nonsense",
    ],
)
@pytest.mark.parametrize("body", [b"", b"\x0a\x03abc"])
def test_other_services(engines: Engines, path: str, body: bytes) -> None:
    stub, native = (raw(engine, path, body) for engine in engines)
    assert stub == native


@pytest.mark.rule("5.2-unreadable")
@pytest.mark.parametrize("method", ["ServerLive", "ModelReady", "ModelInfer", "ModelStatistics"])
@pytest.mark.parametrize("body", [b"\xff", b"\x0a\x01\xff", b"\x0a\x05abc"])
def test_unreadable(engines: Engines, method: str, body: bytes) -> None:
    stub, native = (
        raw(engine, f"/inference.GRPCInferenceService/{method}", body) for engine in engines
    )
    assert stub == native


def raw(engine: Engine, path: str, body: bytes) -> Any:
    with grpc.insecure_channel(engine.grpc_url) as channel:
        try:
            return channel.unary_unary(path)(body, timeout=30)
        except grpc.RpcError as error:
            return failure(error)


def statistics(engine: Engine, **fields: Any) -> Any:
    """Without times, and what happens at its own time."""
    answer = call(engine, "ModelStatistics", pb.ModelStatisticsRequest(**fields))
    return answer if isinstance(answer, Failure) else _without_times(answer)


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: _without_times(each) if key not in ("ns", "last_inference") else each != "0"
            for key, each in value.items()
        }
    return [_without_times(each) for each in value] if isinstance(value, list) else value


@pytest.mark.rule("5.2-statistics")
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", NAMES)
def test_statistics(engines: Engines, name: str, version: str) -> None:
    stub, native = (statistics(engine, name=name, version=version) for engine in engines)
    assert stub == native


@pytest.mark.rule("5.2-statistics")
def test_statistics_of_requests(engines: Engines) -> None:
    for engine in engines:
        for message in (request("again"), request("again", id="1"), request("again", raw=())):
            call(engine, "ModelInfer", message)

        def counted(engine: Engine = engine) -> bool:
            (row,) = statistics(engine, name="again")["model_stats"]
            return bool(row["inference_stats"]["success"]["count"] == "2")

        wait_until(counted)
    stub, native = (statistics(engine, name="again") for engine in engines)
    assert stub == native


@pytest.mark.rule("5.2-repository")
@pytest.mark.parametrize(
    "message",
    [
        pb.RepositoryIndexRequest(),
        pb.RepositoryIndexRequest(ready=True),
        pb.RepositoryIndexRequest(repository_name="x"),
    ],
    ids=["all", "ready", "of a repository"],
)
def test_index(engines: Engines, message: Any) -> None:
    def rows(engine: Engine) -> Any:
        answer = call(engine, "RepositoryIndex", message)
        if isinstance(answer, Failure):
            return answer
        for row in answer["models"]:
            row["reason"] = row["reason"].splitlines()[:1]
        return answer

    stub, native = map(rows, engines)
    assert stub == native


def load(engines: Engines, name: str, **fields: Any) -> Any:
    message = pb.RepositoryModelLoadRequest(model_name=name)
    for key, value in fields.pop("parameters", {}).items():
        message.parameters[key].CopyFrom(value)
    message.MergeFrom(pb.RepositoryModelLoadRequest(**fields))
    return same(engines, "RepositoryModelLoad", message)


def unload(engines: Engines, name: str, **fields: Any) -> Any:
    message = pb.RepositoryModelUnloadRequest(model_name=name)
    for key, value in fields.pop("parameters", {}).items():
        message.parameters[key].CopyFrom(value)
    message.MergeFrom(pb.RepositoryModelUnloadRequest(**fields))
    return same(engines, "RepositoryModelUnload", message)


@pytest.mark.rule("5.2-repository")
def test_load_and_unload(engines: Engines) -> None:
    same(engines, "ModelReady", pb.ModelReadyRequest(name="left"))
    assert load(engines, "left") == {}
    assert same(engines, "ModelReady", pb.ModelReadyRequest(name="left")) == {"ready": True}
    same(engines, "ModelInfer", request("left"))
    assert unload(engines, "left") == {}
    assert same(engines, "ModelReady", pb.ModelReadyRequest(name="left")) == {"ready": False}


Given = pb.ModelRepositoryParameter
CONFIG = """{"backend": "python",
 "input": [{"name": "IN", "data_type": "TYPE_FP32", "dims": [-1]}],
 "output": [{"name": "OUT", "data_type": "TYPE_FP32", "dims": [-1]},
            {"name": "TOLD", "data_type": "TYPE_STRING", "dims": [1]}],
 "max_batch_size": 3}"""


@pytest.mark.rule("5.2-repository")
def test_load_with_config_and_files(engines: Engines) -> None:
    config = Given(string_param=CONFIG)
    file = Given(bytes_param=grpc_models.ECHO.encode())
    assert load(engines, "left", parameters={"config": config}) == {}
    same(engines, "ModelConfig", pb.ModelConfigRequest(name="left"))
    given = {"config": config, "file:1/model.py": file}
    assert load(engines, "new", parameters=given) == {}
    same(engines, "ModelConfig", pb.ModelConfigRequest(name="new"))
    unload(engines, "left")
    unload(engines, "new")


LOADS: dict[str, dict[str, Any]] = {
    "unknown": {"name": "nope"},
    "repository": {"name": "left", "repository_name": "x"},
    "config, bytes": {"name": "left", "parameters": {"config": Given(bytes_param=b"{}")}},
    "config, nothing": {"name": "left", "parameters": {"config": Given()}},
    "config, no JSON": {"name": "left", "parameters": {"config": Given(string_param="{")}},
    "config of another backend": {
        "name": "left",
        "parameters": {"config": Given(string_param='{"backend": "nope"}')},
    },
    "file, text": {"name": "left", "parameters": {"file:1/model.py": Given(string_param="x")}},
    "file without config": {
        "name": "left",
        "parameters": {"file:1/model.py": Given(bytes_param=b"x")},
    },
    "unknown parameter": {"name": "left", "parameters": {"x": Given(string_param="x")}},
}


@pytest.mark.rule("5.2-repository")
@pytest.mark.parametrize("fields", LOADS.values(), ids=LOADS)
def test_refused_loads(engines: Engines, fields: dict[str, Any]) -> None:
    assert isinstance(load(engines, **fields), Failure)


@pytest.mark.rule("5.2-repository")
def test_load_of_a_broken_model(engines: Engines) -> None:
    message = pb.RepositoryModelLoadRequest(model_name="broken")
    stub, native = (call(engine, "RepositoryModelLoad", message) for engine in engines)
    assert stub.code == native.code
    assert stub.details.splitlines()[0] == native.details.splitlines()[0]


UNLOADS: dict[str, dict[str, Any]] = {
    "unknown": {"name": "nope"},
    "no name": {"name": ""},
    "repository": {"name": "left", "repository_name": "x"},
    "dependents, text": {
        "name": "left",
        "parameters": {"unload_dependents": Given(string_param="x")},
    },
    "unknown parameter": {"name": "nope", "parameters": {"x": Given(bool_param=True)}},
}


@pytest.mark.rule("5.2-repository")
@pytest.mark.parametrize("fields", UNLOADS.values(), ids=UNLOADS)
def test_odd_unloads(engines: Engines, fields: dict[str, Any]) -> None:
    unload(engines, **fields)


@pytest.mark.rule("5.2-repository")
@pytest.mark.parametrize("dependents", [False, True])
def test_unload_of_an_ensemble(engines: Engines, dependents: bool) -> None:
    load(engines, "outer")
    unload(engines, "outer", parameters={"unload_dependents": Given(bool_param=dependents)})
    for name in ("outer", "inner"):
        same(engines, "ModelReady", pb.ModelReadyRequest(name=name))
