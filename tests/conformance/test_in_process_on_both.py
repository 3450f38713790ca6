"""The in-process API beside the real server, where HTTP and gRPC show the same.

NVIDIA's own bindings are not in the wheel of the real server, so its side is asked by a client;
what a client cannot see is taken from their source (core ``python/tritonserver``), and is in the
unit tests.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from broken_models import both_engines
from comparing import Engines
from in_process_models import count, write_models
from model_files import BATCHED, BROKEN, CONFIG, write_model
from tritonclient.utils import InferenceServerException

import triton_stub as tritonserver
from triton_stub import InferenceError
from triton_stub.engines.engine import Engine
from triton_stub.engines.http import HttpEngine
from triton_stub.engines.stub import StubEngine

ONE = np.ones(1, np.float32)
PYTHON = f'backend: "python" {CONFIG}'
ALL = f"{PYTHON} version_policy {{ all {{ }} }}"
# tritonserver_pybind.cc, ThrowIfError; http_server.cc, HttpCodeFromError
STATUS = {
    tritonserver.InternalError: 500,
    tritonserver.NotFoundError: 404,
    tritonserver.InvalidArgumentError: 400,
    tritonserver.UnavailableError: 503,
    tritonserver.UnsupportedError: 501,
    tritonserver.AlreadyExistsError: 400,
    tritonserver.UnknownError: 400,
}


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    repository = write_models(tmp_path_factory.mktemp("models"))
    write_model(repository, "batched", config=f'backend: "python" {BATCHED}')
    for version in (1, 3):
        write_model(repository, "versions", config=ALL, version=version)
    write_model(repository, "broken", BROKEN, PYTHON)
    write_model(repository, "spare", config=PYTHON)
    for file in repository.glob("*/config.pbtxt"):
        if "backend" not in file.read_text():
            file.write_text(f'backend: "python"\n{file.read_text()}')
    started = ["echo", "counts", "doubles", "batched", "versions"]
    options = ["--model-control-mode=explicit", *(f"--load-model={name}" for name in started)]
    with both_engines(
        repository,
        options=options,
        model_control_mode=tritonserver.ModelControlMode.EXPLICIT,
        startup_models=started,
    ) as engines:
        yield engines


def server_of(engine: Engine) -> tritonserver.Server | None:
    """The in-process API of the stub; None for the real server."""
    return engine.server if isinstance(engine, StubEngine) else None


def caught(body: Callable[[], Any]) -> Any:
    """What comes out; an error's status is told by its class alone, unless it is a client's."""
    try:
        return body()
    except tritonserver.TritonError as error:
        (status,) = {code for kind, code in STATUS.items() if isinstance(error, kind)}
        return {"error": str(error), "status": status}
    except InferenceServerException as error:
        return {"error": error.message(), "status": int(error.status() or 0)}


def ask(engine: Engine, name: str, inputs: dict[str, Any], version: int = -1, **fields: Any) -> Any:
    """One request: each response's outputs as lists, its id, version, parameters and error."""
    if server := server_of(engine):
        model = server.model(name, version)
        return caught(
            lambda: [
                told(response)
                for response in model.infer(inputs=inputs, raise_on_error=False, **fields)
            ]
        )
    text = "" if version == -1 else str(version)
    result = caught(lambda: engine.infer(name, inputs, model_version=text, **fields))
    if isinstance(result, dict):
        return result
    return [told_of_result(result)]


def told(response: tritonserver.InferenceResponse) -> Any:
    if response.error is not None:
        raise response.error
    outputs = {
        name: (
            tensor.to_bytes_array() if tensor.data_type.name == "BYTES" else np.from_dlpack(tensor)
        )
        for name, tensor in response.outputs.items()
    }
    # What has no outputs has no version on the wire.
    version = str(response.model.version) if outputs else ""
    return row(outputs, response.request_id or "", version, response.parameters, response.final)


def told_of_result(result: Any) -> Any:
    outputs = dict(result.items())
    parameters = {**result.parameters}
    return row(outputs, result.request_id, result.model_version, parameters, result.final)


def row(outputs: Any, request_id: str, version: str, parameters: Any, final: bool) -> Any:
    arrays = {name: (array.tolist(), list(array.shape)) for name, array in outputs.items()}
    return arrays, request_id, version, parameters, final


# What is known of models


@pytest.mark.rule("4.17-metadata")
@pytest.mark.parametrize("version", [-1, 1, 3])
@pytest.mark.parametrize("name", ["echo", "counts", "doubles", "batched", "versions", "nobody"])
def test_metadata(both: Engines, name: str, version: int) -> None:
    def body(engine: Engine) -> Any:
        if server := server_of(engine):
            return caught(server.model(name, version).metadata)
        return caught(lambda: engine.metadata(name, "" if version == -1 else str(version)))

    both.same(body)


@pytest.mark.rule("4.17-config")
@pytest.mark.parametrize("name", ["echo", "counts", "doubles", "batched", "versions", "nobody"])
def test_config(both: Engines, name: str) -> None:
    def body(engine: Engine) -> Any:
        if server := server_of(engine):
            return caught(server.model(name).config)
        return caught(lambda: engine.config(name))

    both.same(body)


@pytest.mark.rule("4.17-properties")
@pytest.mark.parametrize("name", ["echo", "counts", "batched"])
def test_properties(both: Engines, name: str) -> None:
    def body(engine: Engine) -> Any:
        if server := server_of(engine):
            model = server.model(name)
            return model.batch_properties().name, model.transaction_properties().name
        config = engine.config(name)
        decoupled = config.get("model_transaction_policy", {}).get("decoupled")
        return (
            "FIRST_DIM" if config["max_batch_size"] else "UNKNOWN",
            "DECOUPLED" if decoupled else "ONE_TO_ONE",
        )

    both.same(body)


@pytest.mark.rule("4.17-ready")
@pytest.mark.parametrize(
    ("name", "version"), [("echo", -1), ("versions", 3), ("versions", 2), ("spare", -1), ("no", 1)]
)
def test_ready(both: Engines, name: str, version: int) -> None:
    def body(engine: Engine) -> Any:
        if server := server_of(engine):
            return server.live(), server.ready(), server.model(name, version).ready()
        text = "" if version == -1 else str(version)
        return True, engine.ready(), engine.ready(name, text)

    both.same(body)


@pytest.mark.rule("4.17-index")
def test_index(both: Engines) -> None:
    def body(engine: Engine) -> Any:
        if server := server_of(engine):
            models = server.models().values()
            found = [(model.name, model.version, model.state, model.reason) for model in models]
            ready = [(model.name, model.version) for model in server.models(True).values()]
        else:
            with engine.client() as client:
                rows = client.get_model_repository_index()
            found = [
                (each["name"], int(each.get("version", -1)), each.get("state"), each.get("reason"))
                for each in rows
            ]
            ready = [(name, version) for name, version, state, _ in found if state == "READY"]
        return sorted(found, key=str), sorted(ready)

    found, _ = both.same(body)
    assert ["spare", -1, None, None] in found


@pytest.mark.rule("4.17-statistics")
def test_statistics(both: Engines) -> None:
    def body(engine: Engine) -> Any:
        server = server_of(engine)

        def read() -> Any:
            return server.model("doubles").statistics() if server else engine.statistics("doubles")

        (before,) = read()["model_stats"]
        for value in (1, 2, -13, -14):
            ask(engine, "doubles", {"IN": np.array([value], np.float32)})
        (after,) = read()["model_stats"]
        while after["execution_count"] < before["execution_count"] + 4:  # it counts afterwards
            (after,) = read()["model_stats"]
        counted = {
            name: times["count"] - before["inference_stats"][name]["count"]
            for name, times in after["inference_stats"].items()
        }
        counts = ("inference_count", "execution_count")
        return sorted(after), counted, [after[name] - before[name] for name in counts]

    both.same(body)


# Requests and responses


@pytest.mark.rule("4.17-responses")
@pytest.mark.parametrize(
    "inputs",
    [
        {"IN_FP16": np.array([0.5, 2], np.float16)},
        {"IN_BOOL": np.array([True, False])},
        {"IN_BYTES": np.array([b"one", "tw\u00f6".encode()], np.object_)},
        {"IN_INT8": np.array([-1], np.int8), "IN_UINT64": np.array([2**64 - 1], np.uint64)},
        {"IN_FP64": np.empty(0, np.float64)},
        {},
    ],
    ids=lambda inputs: ",".join(inputs) or "none",
)
def test_outputs(both: Engines, inputs: dict[str, Any]) -> None:
    both.same(lambda engine: ask(engine, "echo", inputs))


@pytest.mark.rule("4.17-responses")
@pytest.mark.parametrize("request_id", ["", "seven", "\u00e4"])
@pytest.mark.parametrize("version", [-1, 1, 3])
def test_ids_and_versions(both: Engines, request_id: str, version: int) -> None:
    both.same(lambda e: ask(e, "versions", {"IN": ONE}, version, request_id=request_id))


@pytest.mark.rule("4.17-parameters")
@pytest.mark.parametrize(
    "parameters", [{"int": 0, "bool": False, "str": "test"}, {"float": 0.5}, {"big": 2**62}, {}]
)
def test_parameters(both: Engines, parameters: dict[str, Any]) -> None:
    def body(engine: Engine) -> Any:
        ((outputs, *_),) = ask(engine, "echo", {}, parameters=parameters)
        return json.loads(outputs["PARAMETERS"][0][0])

    assert both.same(body) == parameters


@pytest.mark.rule("4.17-decoupled")
@pytest.mark.parametrize("number", [0, 1, 3])
def test_responses_of_a_decoupled_model(both: Engines, number: int) -> None:
    def body(engine: Engine) -> Any:
        if server := server_of(engine):
            responses = server.model("counts").infer(inputs=count(number), request_id="x")
            return [told(response) for response in responses]
        return [
            told_of_result(result)
            for result in engine.stream("counts", count(number), request_id="x")
        ]

    both.same(body)


@pytest.mark.rule("4.17-decoupled")
def test_an_error_of_a_decoupled_model(both: Engines) -> None:
    def body(engine: Engine) -> Any:
        if server := server_of(engine):
            responses = server.model("counts").infer(inputs=count(-2), raise_on_error=False)
            return [(str(response.error or ""), bool(response.outputs)) for response in responses]
        return [
            (each.message, False) if isinstance(each, InferenceError) else ("", bool(each.outputs))
            for each in engine.stream("counts", count(-2))
        ]

    both.same(body)


@pytest.mark.rule("4.17-errors")
@pytest.mark.parametrize(
    ("name", "version", "inputs"),
    [
        ("nobody", -1, {}),
        ("versions", 2, {"IN": ONE}),
        ("spare", -1, {"IN": ONE}),
        ("doubles", -1, {}),
        ("doubles", -1, {"NO": ONE}),
        ("doubles", -1, {"IN": ONE, "NO": ONE}),
        ("doubles", -1, {"IN": ONE.astype(np.float64)}),
        ("doubles", -1, {"IN": ONE.reshape(1, 1)}),
        ("batched", -1, {"IN": np.ones((9, 1), np.float32)}),
        ("batched", -1, {"IN": ONE}),
        ("doubles", -1, {"IN": np.array([-14], np.float32)}),
    ],
    ids=str,
)
def test_errors_and_their_classes(
    both: Engines, name: str, version: int, inputs: dict[str, Any]
) -> None:
    answer = both.same(lambda engine: ask(engine, name, inputs, version))
    assert set(answer) == {"error", "status"}


@pytest.mark.rule("4.17-errors")
@pytest.mark.parametrize("flags", [0, 1, 2, 3])
def test_correlation_ids_of_a_model_without_sequences(both: Engines, flags: int) -> None:
    def body(engine: Engine) -> Any:
        if server_of(engine):
            return ask(engine, "doubles", {"IN": ONE}, correlation_id=7, flags=flags)
        ends = {"sequence_start": bool(flags & 1), "sequence_end": bool(flags & 2)}
        return ask(engine, "doubles", {"IN": ONE}, sequence_id=7, **ends)

    both.same(body)


# Loading


def load(engine: Engine, name: str, **config: Any) -> Any:
    given = {"config": json.dumps(config)} if config else None
    if server := server_of(engine):
        return caught(lambda: server.load(name, given).ready())
    assert isinstance(engine, HttpEngine)
    with engine.client() as client:

        def body() -> bool:
            client.load_model(name, config=given and given["config"])
            return client.is_model_ready(name)

        return caught(body)


def unload(engine: Engine, name: str) -> Any:
    if server := server_of(engine):
        server.unload(name, wait_until_unloaded=True, polling_interval=0.001)
        return server.model(name).ready()
    with engine.client() as client:
        client.unload_model(name)
        return client.is_model_ready(name)


@pytest.mark.rule("4.17-load")
def test_load_and_unload(both: Engines) -> None:
    def body(engine: Engine) -> Any:
        first = load(engine, "spare")
        answer = ask(engine, "spare", {"IN": ONE})
        gone = unload(engine, "spare")
        return first, answer, gone, ask(engine, "spare", {"IN": ONE})

    both.same(body)


@pytest.mark.rule("4.17-load")
def test_load_with_another_configuration(both: Engines) -> None:
    def body(engine: Engine) -> Any:
        tensor = {"data_type": "TYPE_FP32", "dims": [-1]}
        config = {
            "backend": "python",
            "max_batch_size": 2,
            "input": [{"name": "IN", **tensor}],
            "output": [{"name": "OUT", **tensor}],
        }
        loaded = load(engine, "spare", **config)
        answer = ask(engine, "spare", {"IN": np.ones((2, 1), np.float32)})
        unload(engine, "spare")
        return loaded, answer

    both.same(body)


@pytest.mark.rule("4.17-load")
def test_load_of_nothing(both: Engines) -> None:
    """In process the stub says besides what there is."""
    stub, native = (load(engine, "nobody") for engine in both)
    assert stub["status"] == native["status"]
    assert stub["error"].startswith(native["error"])


@pytest.mark.rule("4.17-load")
def test_load_of_what_is_broken(both: Engines) -> None:
    def body(engine: Engine) -> Any:
        answer = load(engine, "broken")
        return answer["error"].partition("\n")[0], answer["status"]

    text, _ = both.same(body)
    assert "no weights" in text
