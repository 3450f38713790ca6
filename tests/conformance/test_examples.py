"""What the READMEs of the Python backend's own examples promise, on both engines.

The models are of the same shape as those of python_backend ``examples/`` (24.10 to 26.06), with the
same names, inputs and outputs; ``examples/`` here has them. PyTorch, torchvision and TensorRT are
stood in for by NumPy, Pillow and JAX, and the ensemble by a model that asks one after the other.
"""

from __future__ import annotations

import io
import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from broken_models import both_engines, comparable, reasons
from comparing import Engines
from PIL import Image
from probing import comparable as without_addresses
from probing import wait_for_log

from triton_stub import InferenceError
from triton_stub.engines.engine import Engine
from triton_stub.engines.native import NativeEngine
from triton_stub.engines.stub import StubEngine

EXAMPLES = Path(__file__).parent / "examples"
A = np.array([0.75, 0.5, -3.25, 1e-3], np.float32)
B = np.array([0.125, 2.0, 4.5, 7.0], np.float32)


@pytest.fixture(scope="module")
def examples() -> Iterator[Engines]:
    """Both engines with all examples."""
    with NativeEngine(EXAMPLES) as native, StubEngine(EXAMPLES) as stub:
        yield Engines(stub, native)


def rule(name):
    return pytest.mark.rule(f"example-{name}")


def tensors(result):
    return {name: result[name] for name in result}


def error(call) -> str:
    """What is raised, without what differs between two Pythons and two runs."""
    with pytest.raises(InferenceError) as caught:
        call()
    return without_addresses(comparable(caught.value.message, EXAMPLES))


def told(responses) -> list:
    """Responses of a stream: error texts, or tensors and whether it is the last."""
    return [
        comparable(response.message, EXAMPLES)
        if isinstance(response, InferenceError)
        else {"tensors": tensors(response), "final": response.final, "id": response.request_id}
        for response in responses
    ]


# Sum and difference


@pytest.mark.parametrize(
    "model",
    [
        pytest.param("add_sub", marks=rule("add-sub")),
        pytest.param("pytorch", marks=rule("pytorch")),
        pytest.param("jax", marks=rule("jax")),
        pytest.param("nobatch_auto_complete", marks=rule("auto-complete")),
        pytest.param("bls_async", marks=rule("bls-async")),
        pytest.param("custom_metrics", marks=rule("custom-metrics")),
    ],
)
def test_sum_and_difference(examples, model):
    def ask(engine: Engine):
        result = engine.infer(
            model, INPUT0=A, INPUT1=B, request_id="1", outputs=["OUTPUT0", "OUTPUT1"]
        )
        np.testing.assert_array_equal(result["OUTPUT0"], A + B)
        np.testing.assert_array_equal(result["OUTPUT1"], A - B)
        return result.request_id, sorted(result), tensors(result)

    examples.same(ask)


@rule("add-sub")
def test_only_the_difference(examples):
    answer = examples.same(
        lambda engine: tensors(engine.infer("add_sub", INPUT0=A, INPUT1=B, outputs=["OUTPUT1"]))
    )
    assert list(answer) == ["OUTPUT1"]


@pytest.mark.parametrize(
    "inputs",
    [
        pytest.param({"INPUT0": A}, id="one is missing"),
        pytest.param({"INPUT0": A.astype(np.float64), "INPUT1": B}, id="another type"),
        pytest.param({"INPUT0": A[:3], "INPUT1": B}, id="another shape"),
        pytest.param({"INPUT0": A, "INPUT1": B[None]}, id="a batch, without batching"),
        pytest.param({"INPUT0": A, "INPUT2": B}, id="another name"),
    ],
)
@pytest.mark.parametrize("model", [pytest.param("add_sub", marks=rule("add-sub")), "bls_async"])
def test_wrong_inputs(examples, model, inputs):
    assert examples.same(lambda engine: error(lambda: engine.infer(model, inputs)))


# auto_complete


@rule("auto-complete")
@pytest.mark.parametrize(
    ("model", "max_batch_size"), [("nobatch_auto_complete", 0), ("batch_auto_complete", 4)]
)
def test_the_configuration_is_the_models_own(examples, model, max_batch_size):
    assert not (EXAMPLES / model / "config.pbtxt").exists()
    config = examples.same(lambda engine: engine.config(model))
    assert config["max_batch_size"] == max_batch_size
    for kind in ("input", "output"):
        assert [(entry["name"], entry["data_type"], entry["dims"]) for entry in config[kind]] == [
            (f"{kind.upper()}{number}", "TYPE_FP32", [4]) for number in range(2)
        ]


@rule("auto-complete")
def test_batches_up_to_four(examples):
    rows = np.stack([A] * 4)
    answer = examples.same(
        lambda engine: tensors(engine.infer("batch_auto_complete", INPUT0=rows, INPUT1=-rows))
    )
    assert answer["OUTPUT0"]["shape"] == (4, 4)
    more = np.stack([A] * 5)
    assert "must be <= 4" in examples.same(
        lambda engine: error(lambda: engine.infer("batch_auto_complete", INPUT0=more, INPUT1=more))
    )


@rule("auto-complete")
def test_max_batch_size_of_the_file_may_be_lower_but_not_higher(tmp_path):
    repository = tmp_path / "models"
    for name, size in (("lower", 2), ("higher", 8)):
        shutil.copytree(EXAMPLES / "batch_auto_complete", repository / name)
        (repository / name / "config.pbtxt").write_text(f"max_batch_size: {size}")
    with both_engines(repository) as engines:
        assert engines.same(lambda engine: engine.config("lower")["max_batch_size"]) == 4
        why = engines.same(lambda engine: comparable(reasons(engine)["higher"], repository))
    assert "max_batch_size 8" in why
    assert "max_batch_size 4" in why


# bls


@rule("bls-sync")
@pytest.mark.parametrize("callee", ["add_sub", "pytorch"])
def test_a_model_asks_the_one_that_is_named(examples, callee):
    name = np.array([callee.encode()], dtype=np.object_)

    def ask(engine: Engine):
        result = engine.infer("bls_sync", INPUT0=A, INPUT1=B, MODEL_NAME=name)
        np.testing.assert_array_equal(result["OUTPUT0"], A + B)
        np.testing.assert_array_equal(result["OUTPUT1"], A - B)
        return tensors(result)

    examples.same(ask)


@rule("bls-sync")
def test_a_model_asks_one_that_is_not_there(examples):
    name = np.array([b"undefined_model"], dtype=np.object_)
    assert "Model 'undefined_model' is not ready" in examples.same(
        lambda engine: error(lambda: engine.infer("bls_sync", INPUT0=A, INPUT1=B, MODEL_NAME=name))
    )


@rule("bls-async")
def test_many_ask_at_once(examples):
    def ask(engine: Engine):
        with ThreadPoolExecutor(8) as pool:
            results = pool.map(
                lambda n: engine.infer("bls_async", INPUT0=A + n, INPUT1=B), range(16)
            )
            return [tensors(result) for result in results]

    answers = examples.same(ask)
    assert len({str(answer) for answer in answers}) == 16


# bls_decoupled


@pytest.mark.parametrize(
    ("model", "times"),
    [
        pytest.param("bls_decoupled_sync", 1, marks=rule("bls-decoupled-sync")),
        pytest.param("bls_decoupled_async", 2, marks=rule("bls-decoupled-async")),
    ],
)
@pytest.mark.parametrize("number", [4, 2, 0, 1])
def test_the_sum_of_all_responses(examples, model, times, number):
    answer = examples.same(
        lambda engine: engine.infer(model, IN=np.array([number], np.int32))["SUM"]
    )
    assert answer == {"dtype": "int32", "shape": (1,), "values": [times * number**2]}


# decoupled


def square(engine: Engine, number: int):
    return told(
        engine.stream("square_int32", IN=np.array([number], np.int32), request_id=str(number))
    )


@rule("square")
@pytest.mark.parametrize("number", [4, 2, 0, 1])
def test_as_many_responses_as_the_number_says(examples, number):
    responses = examples.same(lambda engine: square(engine, number))
    assert [response["final"] for response in responses] == [False] * number + [True]
    assert all(response["id"] == str(number) for response in responses)
    assert responses[-1]["tensors"] == {}


@rule("square")
def test_requests_in_flight_at_once_get_their_own_responses(examples):
    def ask(engine: Engine):
        with ThreadPoolExecutor(4) as pool:
            return list(pool.map(lambda number: square(engine, number), [4, 2, 0, 1]))

    assert [len(responses) for responses in examples.same(ask)] == [5, 3, 1, 2]


def repeat(engine: Engine, values, delays, wait):
    return engine.stream(
        "repeat_int32",
        IN=np.array(values, np.int32),
        DELAY=np.array(delays, np.uint32),
        WAIT=np.array([wait], np.uint32),
        outputs=["OUT", "IDX"],
        request_id="0",
    )


@rule("repeat")
@pytest.mark.parametrize(
    ("values", "wait"), [([4, 2, 0, 1], 5), ([4, 2, 0, 1], 50), ([7], 0), ([], 0)]
)
def test_a_response_for_each_element(examples, values, wait):
    delays = range(1, len(values) + 1)
    *responses, last = examples.same(lambda engine: told(repeat(engine, values, delays, wait)))
    assert [response["tensors"]["OUT"]["values"] for response in responses] == [
        [value] for value in values
    ]
    assert [response["tensors"]["IDX"]["values"] for response in responses] == [
        [index] for index in range(len(values))
    ]
    assert last == {"tensors": {}, "final": True, "id": "0"}


@rule("repeat")
def test_the_next_request_is_answered_while_one_is_still_at_it(examples):
    def ask(engine: Engine):
        slow = repeat(engine, [1, 2], [0, 2000], 0)
        first = [next(slow)]
        between = told(repeat(engine, [3], [0], 0))
        return told(first), between, told(slow)

    first, between, rest = examples.same(ask)
    assert [len(first), len(between), len(rest)] == [1, 2, 2]


@rule("repeat")
def test_the_model_refuses_unequal_shapes(examples):
    (text,) = examples.same(lambda engine: told(repeat(engine, [1, 2], [0], 0)))
    assert "IN has shape [2] and DELAY has [1]" in text


@rule("repeat")
def test_a_parameter_makes_every_response_longer(tmp_path):
    repository = tmp_path / "models"
    shutil.copytree(EXAMPLES / "repeat_int32", repository / "repeat_int32")
    with (repository / "repeat_int32" / "config.pbtxt").open("a") as config:
        config.write('parameters { key: "output_num_elements" value { string_value: "3" } }\n')
    with both_engines(repository) as engines:
        responses = engines.same(lambda engine: told(repeat(engine, [4, 5], [0, 0], 0)))
    assert [response["tensors"]["OUT"]["values"] for response in responses[:-1]] == [
        [4, 4, 4],
        [5, 5, 5],
    ]


@pytest.mark.parametrize(
    "model",
    [
        pytest.param("square_int32", marks=rule("square")),
        pytest.param("repeat_int32", marks=rule("repeat")),
    ],
)
def test_a_decoupled_model_is_not_asked_by_http(examples, model):
    assert "decoupled" in examples.same(
        lambda engine: error(lambda: engine.infer(model, IN=np.array([1], np.int32)))
    )


@pytest.mark.parametrize("model", ["square_int32", "repeat_int32"])
def test_these_models_insist_on_being_decoupled(tmp_path, model):
    repository = tmp_path / "models"
    shutil.copytree(EXAMPLES / model, repository / model)
    config = repository / model / "config.pbtxt"
    config.write_text(config.read_text().replace("decoupled: True", "decoupled: False"))
    with both_engines(repository) as engines:
        assert f"{model} has to be decoupled" in engines.same(
            lambda engine: comparable(reasons(engine)[model], repository)
        )


# custom_metrics


def series(engine: Engine) -> list[str]:
    return [line for line in engine.metrics().splitlines() if "requests_process_latency" in line]


@rule("custom-metrics")
def test_three_instances_count_in_one_series(examples):
    def ask(engine: Engine):
        with ThreadPoolExecutor(3) as pool:
            for _ in range(6):
                pool.submit(engine.infer, "custom_metrics", INPUT0=A, INPUT1=B).result()
        *heads, line = series(engine)
        name, value = line.rsplit(" ", 1)
        assert float(value) > 0
        # The counter only grows, so its value is that of the last line.
        log = wait_for_log(engine, f"latency: {float(value)}")
        logged = re.findall(r"Cumulative requests processing latency: (\S+?)\"", log)
        assert max(map(float, logged)) == float(value)
        return heads, name, len(logged) >= 6

    heads, name, _ = examples.same(ask)
    assert heads == [
        "# HELP requests_process_latency_ns Cumulative time spent processing requests",
        "# TYPE requests_process_latency_ns counter",
    ]
    assert name == 'requests_process_latency_ns{model="custom_metrics",version="1"}'


# preprocessing


def png(colour: str) -> np.ndarray:
    """A file with a picture, mostly of one colour, as bytes of a batch of one."""
    picture = Image.new("RGB", (300, 200), colour)
    picture.paste("grey", (10, 10, 60, 60))
    file = io.BytesIO()
    picture.save(file, "png")
    return np.frombuffer(file.getvalue(), np.uint8)[None]


@rule("preprocessing")
def test_an_encoded_image_becomes_a_normalised_one(examples):
    image = examples.same(lambda engine: engine.infer("preprocess", INPUT_0=png("red"))["OUTPUT_0"])
    assert image["dtype"] == "float32"
    assert image["shape"] == (1, 3, 224, 224)
    corner = [image["values"][0][channel][223][223] for channel in range(3)]
    np.testing.assert_allclose(
        corner, [(1 - 0.485) / 0.229, -0.456 / 0.224, -0.406 / 0.225], rtol=1e-5
    )


@rule("preprocessing")
@pytest.mark.parametrize(("colour", "kind"), [("red", 0), ("lime", 1), ("blue", 2)])
def test_one_model_prepares_and_the_next_one_classifies(examples, colour, kind):
    def ask(engine: Engine):
        scores = engine.infer("preprocess_and_classify", INPUT=png(colour))["OUTPUT"]
        assert scores.shape == (1, 1000)
        return scores.argmax(1)

    assert examples.same(ask)["values"] == [kind]


@rule("preprocessing")
def test_what_is_no_image_is_refused(examples):
    text = examples.same(
        lambda engine: error(
            lambda: engine.infer("preprocess_and_classify", INPUT=np.zeros((1, 9), np.uint8))
        )
    )
    assert "UnidentifiedImageError" in text


# instance_kind


@rule("instance-kind")
def test_a_model_goes_where_its_configuration_says(examples):
    (group,) = examples.same(lambda engine: engine.config("instance_kind")["instance_group"])
    assert (group["name"], group["kind"], group["count"]) == ("instance_kind_0", "KIND_CPU", 1)
    images = np.zeros((2, 3, 224, 224), np.float32)
    images[0, 1] = images[1, 2] = 1

    def ask(engine: Engine):
        scores = engine.infer("instance_kind", INPUT=images)["OUTPUT"]
        return scores.argmax(1), scores[:, :4]

    classes, scores = examples.same(ask)
    assert classes["values"] == [1, 2]
    assert scores["values"] == [[0, 1, 0, 0], [0, 0, 1, 0]]
