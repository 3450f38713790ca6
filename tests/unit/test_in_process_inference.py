"""Requests and responses by NVIDIA's in-process API: whatever its own tests ask for, and more."""

import gc
import json
import tracemalloc
import weakref

import numpy as np
import pytest
from gates import GATES
from in_process_models import TELLS, count, echo_config, refused, write_models
from model_files import write_model

import triton_stub as tritonserver

HALF = np.random.default_rng(7).random((100,)).astype(np.float16)
TRUTH = HALF > 0.5


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    repository = write_models(tmp_path_factory.mktemp("models"))
    with tritonserver.Server(model_repository=str(repository)) as running:
        yield running


@pytest.fixture
def echo(server):
    return server.model("echo")


@pytest.fixture
def counts(server):
    return server.model("counts")


def numbers(responses):
    return [
        np.from_dlpack(response.outputs["NUMBER"]).item()
        for response in responses
        if response.outputs
    ]


# One response


def test_arrays_and_lists_come_back(echo):
    (response,) = echo.infer(inputs={"IN_FP16": HALF, "IN_BOOL": [True, False]})
    assert isinstance(response, tritonserver.InferenceResponse)
    np.testing.assert_array_equal(np.from_dlpack(response.outputs["OUT_FP16"]), HALF)
    assert np.from_dlpack(response.outputs["OUT_BOOL"]).tolist() == [True, False]


def test_what_a_response_says(echo):
    (response,) = echo.infer(inputs={"IN_FP16": HALF}, request_id="seven")
    assert response.final
    assert response.error is None
    assert response.classification_label is None
    assert response.request_id == "seven"
    assert response.parameters == {}
    assert (response.model.name, response.model.version) == ("echo", 1)
    assert echo.version == -1
    assert response.result()["OUT_FP16"].tolist() == HALF.tolist()


def test_requests_leave_no_memory_behind(echo):
    def ask(times):
        for _ in range(times):
            for response in echo.infer(inputs={"IN_FP16": HALF}):
                np.from_dlpack(response.outputs["OUT_FP16"])

    ask(200)
    gc.collect()
    tracemalloc.start()
    try:
        ask(200)
        before, _ = tracemalloc.get_traced_memory()
        ask(1500)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # The smallest object takes 16 bytes; statistics that are added up later come and go.
    assert after - before < 1500 * 16


def test_parameters_of_a_response(tmp_path):
    write_model(tmp_path, "tells", TELLS, echo_config())
    with tritonserver.Server(str(tmp_path)) as server:
        (response,) = server.model("tells").infer(inputs={})
        assert response.parameters == {"number": 3, "text": "t"}


def test_an_output_tensor(echo):
    (response,) = echo.infer(inputs={"IN_FP16": HALF}, output_memory_type="cpu")
    tensor = response.outputs["OUT_FP16"]
    assert tensor.data_type == tritonserver.DataType.FP16
    assert tensor.shape.tolist() == [100]
    assert tensor.size == 200
    assert (tensor.memory_type, tensor.memory_type_id) == (tritonserver.MemoryType.CPU, 0)


@pytest.mark.parametrize(
    "given",
    [
        ["one", "tw\u00f6"],
        [b"one", "tw\u00f6".encode()],
        np.array(["one", "tw\u00f6"]),
        np.array([b"one", "tw\u00f6".encode()], np.object_),
        tritonserver.Tensor.from_string_array(["one", "tw\u00f6"]),
        tritonserver.Tensor.from_bytes_array([b"one", "tw\u00f6".encode()]),
    ],
)
def test_text(echo, given):
    (response,) = echo.infer(inputs={"IN_BYTES": given})
    tensor = response.outputs["OUT_BYTES"]
    assert tensor.data_type == tritonserver.DataType.BYTES
    assert tensor.to_bytes_array().tolist() == [b"one", "tw\u00f6".encode()]


def test_an_input_of_a_framework(echo):
    class Framework:
        def __dlpack__(self, **_):
            return HALF.__dlpack__()

        def __dlpack_device__(self):
            return HALF.__dlpack_device__()

    (response,) = echo.infer(inputs={"IN_FP16": Framework()})
    assert np.from_dlpack(response.outputs["OUT_FP16"]).tolist() == HALF.tolist()


def test_an_output_is_an_input_again(echo):
    tensor = tritonserver.Tensor.from_dlpack(HALF)
    for _ in range(3):
        (response,) = echo.infer(inputs={"IN_FP16": tensor})
        tensor = response.outputs["OUT_FP16"]
    assert np.from_dlpack(tensor).tolist() == HALF.tolist()


def test_a_tensor_that_says_another_size_is_refused(echo):
    tensor = tritonserver.Tensor.from_dlpack(HALF.copy())
    tensor.shape = [50]
    text = refused(tritonserver.InvalidArgumentError, echo.infer, inputs={"IN_FP16": tensor})
    assert "input byte size mismatch" in text


def test_parameters(echo):
    parameters = {"int": 0, "float": 0.5, "bool": False, "str": "test"}
    (response,) = echo.infer(inputs={"IN_FP16": HALF}, parameters=parameters)
    assert json.loads(response.outputs["PARAMETERS"].to_string_array()[0]) == parameters


@pytest.mark.parametrize("value", [{"test": 1}, None, [1], b"bytes", np.int64(3)])
def test_parameters_of_no_such_kind_are_refused(echo, value):
    text = refused(
        tritonserver.InvalidArgumentError, echo.infer, inputs={}, parameters={"bad": value}
    )
    assert text.startswith(f"Unsupported Value. Can't convert {type(value)} to Request Parameter")


def test_requested_outputs(echo):
    (response,) = echo.infer(
        inputs={"IN_FP16": HALF, "IN_BOOL": TRUTH}, requested_outputs=["OUT_BOOL"]
    )
    assert list(response.outputs) == ["OUT_BOOL"]


def test_a_request_of_ones_own(server, echo):
    request = echo.create_request(request_id="mine", model="not asked")
    assert request.model is echo
    request.inputs["IN_FP16"] = HALF
    # It goes to the model that it was made for.
    (response,) = server.model("counts").infer(request)
    assert (response.model.name, response.request_id) == ("echo", "mine")


def test_fields_of_a_request_and_their_defaults(echo):
    request = tritonserver.InferenceRequest(echo)
    assert vars(request) == {
        "model": echo,
        "request_id": None,
        "flags": 0,
        "correlation_id": None,
        "priority": 0,
        "timeout": 0,
        "inputs": {},
        "parameters": {},
        "output_memory_type": None,
        "response_queue": None,
        "requested_outputs": (),
    }


# What is refused, and where


@pytest.mark.parametrize(
    ("name", "error", "text"),
    [
        ("nobody", tritonserver.NotFoundError, "Request for unknown model: 'nobody' is not found"),
        ("echo", tritonserver.InvalidArgumentError, "unexpected inference input 'NO'"),
    ],
)
def test_the_server_refuses_at_the_call(server, name, error, text):
    said = refused(error, server.model(name).infer, inputs={"NO": HALF})
    assert text in said
    with pytest.raises(tritonserver.InferenceError):
        server.model(name).async_infer(inputs={"NO": HALF})


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.5, "Input type <class 'float'> not supported"),
        ((1, 2), "Input type <class 'tuple'> not supported"),
        (np.float32(1), "Input type <class 'numpy.float32'> not supported"),
        ([[1], [2, 3]], "Conversion from [[1], [2, 3]] to tensor not supported."),
        (np.ones(3, np.complex64), "Unsupported Numpy data type. Can't convert"),
        (np.ones((4, 4), np.float16)[:, ::2], "not C-contiguous"),
        (np.ones(3, ">f4"), "native byte order"),
        (np.ma.masked_equal([1.0, 2.0], 1.0), "masked"),
    ],
)
def test_inputs_that_are_none(echo, value, text):
    assert text in refused(tritonserver.InvalidArgumentError, echo.infer, inputs={"IN_FP16": value})


@pytest.mark.parametrize(
    ("memory", "text"),
    [
        ("unsupported", "Can't convert UNSUPPORTED to Triton server memory type"),
        ("gpu:0", "Conversion from"),
        ("cpu:0:1", "Invalid memory type string"),
        ("cpu:x", "Invalid memory type string"),
        ((1, 0), "Invalid memory type"),
        ((tritonserver.DLDeviceType.kDLMetal, 0), "Unsupported DLPack device type"),
    ],
)
@pytest.mark.parametrize("raise_on_error", [True, False])
def test_memory_that_there_is_not(echo, memory, text, raise_on_error):
    responses = echo.infer(
        inputs={"IN_FP16": HALF}, output_memory_type=memory, raise_on_error=raise_on_error
    )
    said = refused(tritonserver.InvalidArgumentError, next, responses)
    assert said.startswith(f"Memory type {memory} not supported: ")
    assert text in said
    assert list(responses) == []


def test_an_error_of_the_model(server):
    model = server.model("doubles")
    minus = {"IN": np.array([-14], np.float32)}
    responses = model.infer(inputs=minus)
    with pytest.raises(tritonserver.InternalError) as caught:
        next(responses)
    assert str(caught.value) == "minus fourteen"
    text, response = caught.value.args
    assert (text, response.error) == ("minus fourteen", caught.value)
    assert list(responses) == []

    (response,) = model.infer(inputs=minus, raise_on_error=False)
    assert isinstance(response.error, tritonserver.InferenceError)
    assert (response.final, response.outputs) == (True, {})
    with pytest.raises(tritonserver.InternalError, match="minus fourteen"):
        response.result()


def test_an_error_has_the_models_exception_as_its_cause(server):
    minus = {"IN": np.array([-13], np.float32)}
    with pytest.raises(tritonserver.InternalError, match="minus thirteen") as caught:
        list(server.model("doubles").infer(inputs=minus))
    assert isinstance(caught.value.__cause__, ValueError)


# Any number of responses


@pytest.mark.parametrize("number", [0, 1, 3])
def test_a_decoupled_model_ends_with_an_empty_response(counts, number):
    *responses, last = counts.infer(inputs=count(number), request_id="x")
    assert numbers(responses) == list(range(number))
    assert not any(response.final for response in responses)
    assert (last.final, last.outputs, last.error, last.request_id) == (True, {}, None, "x")


def test_an_error_in_between_is_not_the_end(counts):
    first, failed, last = counts.infer(inputs=count(-2), raise_on_error=False)
    assert numbers([first]) == [0]
    assert str(failed.error) == "failed half way"
    assert isinstance(failed.error, tritonserver.UnknownError)
    assert (failed.final, last.final) == (False, True)

    responses = counts.infer(inputs=count(-2))
    assert numbers([next(responses)]) == [0]
    with pytest.raises(tritonserver.TritonError, match="failed half way"):
        next(responses)
    assert next(responses).final
    assert list(responses) == []


def test_cancel(counts):
    responses = counts.infer(inputs=count(-1))
    assert not next(responses).final
    responses.cancel()
    *_, last = responses
    assert last.final


def test_a_request_may_be_cancelled_when_nobody_has_its_iterator(tmp_path):
    name = "abandoned"
    with tritonserver.Server(write_models(tmp_path, name)) as server:
        responses = server.model(name).infer(inputs={"IN": np.ones(1, np.float32)})
        GATES[name].wait_for_somebody()
        gone = weakref.ref(responses)
        del responses
        gc.collect()
        assert gone() is None
        GATES[name].opened.set()


def test_a_response_that_does_not_come_is_an_error(tmp_path):
    name = "late"
    options = tritonserver.Options(str(write_models(tmp_path, name)), response_timeout=0.01)
    with tritonserver.Server(options) as server:
        responses = server.model(name).infer(
            inputs={"IN": np.ones(1, np.float32)}, raise_on_error=False
        )
        (response,) = responses
        assert isinstance(response.error, tritonserver.UnavailableError)
        assert "no response within 0.01 s" in str(response.error)
        GATES[name].opened.set()
