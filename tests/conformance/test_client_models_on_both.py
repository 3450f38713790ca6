"""What NVIDIA's client examples do with their models, in short, over both protocols.

``ci/client_examples.py`` runs the examples themselves.
"""

from __future__ import annotations

import queue
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import grpc
import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from broken_models import both_engines
from comparing import Engines
from patience import wait_until
from shared_objects import forgotten
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException, serialize_byte_tensor, shared_memory

from triton_stub.engines.engine import Engine

MODELS = Path(__file__).parent.parent / "client_models"
LIBRARIES = {"http": tritonclient.http, "grpc": tritonclient.grpc}
ROW = np.arange(16, dtype=np.int32).reshape(1, 16)
ONES = np.ones((1, 16), np.int32)
VALUES = [11, 7, 5, 3, 2, 0, 1]

either = pytest.mark.parametrize("protocol", list(LIBRARIES))


@pytest.fixture(scope="module")
def both() -> Iterator[Engines]:
    explicit = ["--model-control-mode=explicit", "--load-model=*"]
    with both_engines(
        MODELS, options=explicit, model_control_mode="explicit", startup_models=["*"]
    ) as engines:
        yield engines


class Client:
    """A tritonclient of either protocol, used alike."""

    def __init__(self, engine: Engine, protocol: str) -> None:
        self.library: Any = LIBRARIES[protocol]
        self.real = self.library.InferenceServerClient(getattr(engine, f"{protocol}_url"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.real.close()

    def input(self, name: str, array: np.ndarray, datatype: str, **how: Any) -> Any:
        tensor = self.library.InferInput(name, array.shape, datatype)
        tensor.set_data_from_numpy(array, **how)
        return tensor

    def pair(self, left: np.ndarray, right: np.ndarray, datatype: str) -> list[Any]:
        return [self.input("INPUT0", left, datatype), self.input("INPUT1", right, datatype)]

    def output(self, name: str, **how: Any) -> Any:
        return self.library.InferRequestedOutput(name, **how)

    def infer(self, model: str, inputs: list[Any], *names: str, **options: Any) -> list[Any]:
        result = self.real.infer(model, inputs, **options)
        return [result.as_numpy(name) for name in names]


def expect(both: Engines, protocol: str, body: Any) -> Any:
    """The same from both servers."""

    def ask(engine: Engine) -> Any:
        with Client(engine, protocol) as client:
            return body(client)

    return both.same(ask)


@either
@pytest.mark.rule("5.5-examples-infer")
@pytest.mark.parametrize("compression", [None, "gzip", "deflate"])
def test_sums_and_differences(both: Engines, protocol: str, compression: str | None) -> None:
    compressed = (
        {"request": compression, "response": compression}
        if protocol == "http"
        else {"": compression}
    )
    options = {f"{key}_compression_algorithm".lstrip("_"): how for key, how in compressed.items()}

    def body(client: Client) -> Any:
        inputs = client.pair(ROW, ONES, "INT32")
        return client.infer("simple", inputs, "OUTPUT0", "OUTPUT1", **options)

    total, difference = expect(both, protocol, body)
    assert total["values"] == (ROW + ONES).tolist()
    assert difference["values"] == (ROW - ONES).tolist()


@either
@pytest.mark.rule("5.5-examples-infer")
def test_requests_without_waiting(both: Engines, protocol: str) -> None:
    def body(client: Client) -> Any:
        inputs = client.pair(ROW, ONES, "INT32")
        if protocol == "http":
            asked = [client.real.async_infer("simple", inputs) for _ in range(4)]
            results = [each.get_result() for each in asked]
        else:
            done: queue.Queue[Any] = queue.Queue()
            for _ in range(4):
                client.real.async_infer(
                    "simple", inputs, lambda result, error: done.put(error or result)
                )
            results = [done.get(timeout=60) for _ in range(4)]
        return [result.as_numpy("OUTPUT1") for result in results]

    assert len(expect(both, protocol, body)) == 4


@either
@pytest.mark.rule("5.5-examples-text")
@pytest.mark.parametrize("binary", [True, False])
def test_numbers_as_text(both: Engines, protocol: str, binary: bool) -> None:
    texts = ROW.astype(np.bytes_).astype(np.object_)
    zeros = np.array([[b"he\0llo"] * 16], np.object_)
    how = {"binary_data": binary} if protocol == "http" else {}

    def body(client: Client) -> Any:
        pair = [client.input(f"INPUT{index}", texts, "BYTES", **how) for index in (0, 1)]
        told = client.infer("simple_string", pair, "OUTPUT0", "OUTPUT1")
        inputs = [client.input("INPUT0", zeros, "BYTES", **how)]
        outputs = [client.output("OUTPUT0", **how)]
        return told + client.infer("simple_identity", inputs, "OUTPUT0", outputs=outputs)

    total, difference, same = expect(both, protocol, body)
    assert total["values"] == [[str(2 * number).encode() for number in range(16)]]
    assert difference["values"] == [[b"0"] * 16]
    assert len(same["values"][0]) == 16


def sequence(client: Client, model: str, sequence_id: int | str, values: list[int]) -> list[int]:
    told = []
    for number, value in enumerate(values):
        tensor = client.input("INPUT", np.array([[value]], np.int32), "INT32")
        (answer,) = client.infer(
            model,
            [tensor],
            "OUTPUT",
            sequence_id=sequence_id,
            sequence_start=number == 0,
            sequence_end=number == len(values) - 1,
        )
        told.append(answer.item())
    return told


@either
@pytest.mark.rule("5.5-examples-sequence")
@pytest.mark.parametrize(
    ("model", "sequence_id", "last"),
    [
        ("simple_sequence", 1000, 1),
        ("simple_sequence", str(uuid.uuid4()), 1),
        ("simple_dyna_sequence", 1001, 1002),
    ],
    ids=["number", "text", "told"],
)
def test_a_sequence(
    both: Engines, protocol: str, model: str, sequence_id: int | str, last: int
) -> None:
    def body(client: Client) -> list[int]:
        return sequence(client, model, sequence_id, [0, *VALUES])

    assert expect(both, protocol, body) == [1, *VALUES[:-1], last]


@either
@pytest.mark.newer("25.01", "core src/sequence_batch_scheduler.cc: SetControlTensors")
@pytest.mark.rule("5.5-examples-sequence")
def test_a_sequence_whose_text_the_model_is_told(both: Engines, protocol: str) -> None:
    with Client(both.stub, protocol) as client:
        told = sequence(client, "simple_string_dyna_sequence", "1002", [20, -11, 3])
    assert told == [20, 9, 12 + 1002]


@either
@pytest.mark.rule("5.5-examples-memory")
@pytest.mark.parametrize("model", ["simple", "simple_string"])
def test_tensors_in_shared_memory(both: Engines, protocol: str, model: str) -> None:
    array, datatype, size = ROW, "INT32", ROW.nbytes
    if model == "simple_string":
        array = serialize_byte_tensor(ROW.astype(np.bytes_).astype(np.object_))
        datatype, size = "BYTES", len(array.item())
    room = 256
    keys = {name: f"/triton_stub_{uuid.uuid4().hex[:12]}" for name in ("in", "out")}

    def body(client: Client) -> Any:
        regions = [
            shared_memory.create_shared_memory_region(name, key, room) for name, key in keys.items()
        ]
        try:
            shared_memory.set_shared_memory_region(regions[0], [array])
            for name, key in keys.items():
                client.real.register_system_shared_memory(name, key, room)
            inputs = [
                client.library.InferInput(f"INPUT{index}", [1, 16], datatype) for index in (0, 1)
            ]
            for tensor in inputs:
                tensor.set_shared_memory("in", size)
            output = client.output("OUTPUT0")
            output.set_shared_memory("out", room)
            result = client.real.infer(model, inputs, outputs=[output])
            status = client.real.get_system_shared_memory_status()
            names = sorted(getattr(status, "regions", None) or [row["name"] for row in status])
            entry = result.get_output("OUTPUT0")
            shape = list(getattr(entry, "shape", None) or entry["shape"])
            dtype = np.object_ if datatype == "BYTES" else np.int32
            array_out = shared_memory.get_contents_as_numpy(regions[1], dtype, shape)
            return names, np.array(array_out)
        finally:
            wait_until(lambda: forgotten(client.real.unregister_system_shared_memory))
            for region in regions:
                shared_memory.destroy_shared_memory_region(region)

    names, total = expect(both, protocol, body)
    assert names == ["in", "out"]
    assert [int(value) for value in total["values"][0]] == [2 * number for number in range(16)]


@either
@pytest.mark.rule("5.5-examples-classes")
def test_an_image_s_classes(both: Engines, protocol: str) -> None:
    red = np.full((3, 224, 224), -1, np.float32)
    red[0] = 1
    yellow = np.full((299, 299, 3), 1, np.float32)
    yellow[..., 2] = -1

    def body(client: Client) -> Any:
        alone = client.infer(
            "densenet_onnx",
            [client.input("data_0", red, "FP32")],
            "fc6_1",
            outputs=[client.output("fc6_1", class_count=3)],
        )
        name = "InceptionV3/Predictions/Softmax"
        batch = client.infer(
            "inception_graphdef",
            [client.input("input", np.stack([yellow, -yellow]), "FP32")],
            name,
            outputs=[client.output(name, class_count=2)],
        )
        return alone + batch

    alone, batch = expect(both, protocol, body)
    assert alone["shape"] == (3,)
    assert alone["values"][0] == b"1.000000:1:red"
    assert [row[0] for row in batch["values"]] == [b"1.000000:3:yellow", b"1.000000:4:blue"]


@either
@pytest.mark.rule("5.5-examples-classes")
def test_a_file_through_an_ensemble(both: Engines, protocol: str) -> None:
    green = b"P6 4 2 255\n" + b"\1\xff\1" * 8
    files = np.array([[green], [green]], np.object_)

    def body(client: Client) -> Any:
        inputs = [client.input("INPUT", files, "BYTES")]
        outputs = [client.output("OUTPUT", class_count=2)]
        return client.infer("preprocess_inception_ensemble", inputs, "OUTPUT", outputs=outputs)

    (classes,) = expect(both, protocol, body)
    assert [row[0].rpartition(b":")[2] for row in classes["values"]] == [b"green", b"green"]


@either
@pytest.mark.rule("5.5-examples-metadata")
def test_health_and_metadata(both: Engines, protocol: str) -> None:
    as_json = {} if protocol == "http" else {"as_json": True}

    def body(client: Client) -> Any:
        real = client.real
        told = [real.is_server_live(), real.is_server_ready(), real.is_model_ready("simple")]
        told += [real.get_model_metadata("simple", **as_json)]
        with pytest.raises(InferenceServerException) as caught:
            real.get_model_metadata("wrong_model_name")
        return [*told, caught.value.message(), caught.value.status()]

    told = expect(both, protocol, body)
    assert told[:3] == [True, True, True]
    assert "Request for unknown model" in told[-2]


@either
@pytest.mark.rule("5.5-examples-control")
def test_a_model_is_loaded_with_another_configuration(both: Engines, protocol: str) -> None:
    def body(client: Client) -> Any:
        def message(action: Any, *arguments: Any, **options: Any) -> str:
            with pytest.raises(InferenceServerException) as caught:
                action(*arguments, **options)
            return str(caught.value.message())

        def size() -> int:
            config = client.real.get_model_config("simple_int8")
            return config["max_batch_size"] if protocol == "http" else config.config.max_batch_size

        real = client.real
        real.load_model("simple_int8")
        wrong = message(real.load_model, "simple_int8", config='"parameters": {{"x": "16"}}}')
        sizes = [size()]
        real.load_model("simple_int8", config='{"max_batch_size":"16"}')
        sizes.append(size())
        real.unload_model("simple_int8")
        told = [wrong, sizes, real.is_model_ready("simple_int8")]
        real.load_model("simple_int8")
        return [*told, message(real.load_model, "wrong_model_name")]

    wrong, sizes, ready, missing = expect(both, protocol, body)
    assert sizes == [8, 16]
    assert not ready
    assert wrong.startswith("failed to load 'simple_int8'")
    assert missing.startswith("failed to load 'wrong_model_name'")


def stream(client: Client, *requests: dict[str, Any], count: int) -> list[Any]:
    """Send requests down one stream; so many results."""
    told: queue.Queue[Any] = queue.Queue()
    client.real.start_stream(lambda result, error: told.put(error or result))
    for request in requests:
        client.real.async_stream_infer(**request)
    results = [told.get(timeout=60) for _ in range(count)]
    client.real.stop_stream()
    return results


@pytest.mark.rule("5.5-examples-sequence")
@pytest.mark.parametrize("model", ["simple_sequence", "simple_dyna_sequence"])
def test_two_sequences_in_one_stream(both: Engines, model: str) -> None:
    def body(client: Client) -> Any:
        requests = []
        for sequence_id, values in ((2000, [0, *VALUES]), (2001, [100, *VALUES])):
            for number, value in enumerate(values):
                tensor = client.input("INPUT", np.array([[value]], np.int32), "INT32")
                flags = {"sequence_start": number == 0, "sequence_end": number == len(VALUES)}
                requests.append({
                    "model_name": model, "inputs": [tensor], "sequence_id": sequence_id,
                    "request_id": f"{sequence_id}_{number}", **flags,
                })  # fmt: skip
        results = stream(client, *requests, count=len(requests))
        rows = [(each.get_response().id, each.as_numpy("OUTPUT").item()) for each in results]
        return [[row for row in rows if row[0].startswith(name)] for name in ("2000", "2001")]

    last = 2001 if model == "simple_dyna_sequence" else 1
    first, _second = expect(both, "grpc", body)
    assert [value for _, value in first] == [1, *VALUES[:-1], last]


@pytest.mark.rule("5.5-examples-decoupled")
def test_many_responses_to_one_request(both: Engines) -> None:
    def body(client: Client) -> Any:
        tensors = [
            client.input("IN", np.arange(100, 105, dtype=np.int32), "INT32"),
            client.input("DELAY", np.zeros(5, np.uint32), "UINT32"),
            client.input("WAIT", np.zeros(1, np.uint32), "UINT32"),
        ]
        results = stream(client, {"model_name": "repeat_int32", "inputs": tensors}, count=5)
        return [[each.as_numpy(name).tolist() for name in ("OUT", "IDX")] for each in results]

    assert expect(both, "grpc", body) == [[[100 + index], [index]] for index in range(5)]


@pytest.mark.rule("5.5-examples-contents")
@pytest.mark.parametrize(
    ("model", "datatype", "field", "values"),
    [
        ("simple", "INT32", "int_contents", list(range(16))),
        ("simple_int8", "INT8", "int_contents", list(range(-8, 8))),
        ("simple_string", "BYTES", "bytes_contents", [str(each).encode() for each in range(16)]),
    ],
)
def test_typed_contents(
    both: Engines, model: str, datatype: str, field: str, values: list[Any]
) -> None:
    request = service_pb2.ModelInferRequest(model_name=model)
    for name in ("INPUT0", "INPUT1"):
        tensor = request.inputs.add(name=name, datatype=datatype, shape=[1, 16])
        getattr(tensor.contents, field).extend(values)

    def body(engine: Engine) -> Any:
        with grpc.insecure_channel(engine.grpc_url or "") as channel:
            answer = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(request)
        outputs = {each.name: (each.datatype, list(each.shape)) for each in answer.outputs}
        return outputs, [raw.hex() for raw in answer.raw_output_contents]

    outputs, _raw = both.same(body)
    assert outputs == {key: [datatype, [1, 16]] for key in ("OUTPUT0", "OUTPUT1")}
