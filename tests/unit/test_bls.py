"""Requests of models' own: what is refused, and what becomes of a response."""

from dataclasses import dataclass, field

import numpy as np
import pytest

from triton_stub import pb_utils
from triton_stub.core import bls
from triton_stub.core.request import InferenceRequest, InferenceResponse
from triton_stub.core.responses import Responses
from triton_stub.core.tensor import Tensor
from triton_stub.errors import InferenceError, StatusCode
from triton_stub.pb_utils.memory import MemoryType, PreferredMemory


@dataclass
class Model:
    decoupled: bool = False
    ready: object = lambda: True
    got: list = field(default_factory=list)

    def prepare(self, request):
        if request.request_id == "wrong":
            raise InferenceError("this request is wrong")

    def submit(self, request):
        self.got.append(request)
        return Responses()


def submit(model=None, *, decoupled=False, **fields):
    model = model or Model()
    bls.submit(
        lambda _name, _version: model,
        InferenceRequest(model_name="m", **fields),
        decoupled=decoupled,
    )
    return model.got[0]


def made(**fields):
    given = {"inputs": [], "requested_output_names": [], "model_name": "m", **fields}
    return pb_utils.InferenceRequest(**given)


@dataclass
class Answers:
    responses: list
    cancelled: bool = False

    def get(self):
        response = self.responses.pop(0)
        if isinstance(response, InferenceError):
            raise response
        return response

    def cancel(self):
        self.cancelled = True


def call(*responses, decoupled=False, **fields):
    answers = Answers(list(responses))
    return bls.Call(lambda _request, _decoupled: answers, made(**fields), decoupled=decoupled)


def answer(**fields):
    return InferenceResponse(model_name="m", model_version="1", **fields)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"correlation_id": "x" * 129}, "string correlation ID cannot be longer than 128"),
        ({"parameters": {"a": 2**63}}, "Unsupported value type on parameters"),
        ({"parameters": {"a": 1.5}}, "Unsupported value type on parameters"),
        ({"parameters": {"a": "\ud800"}}, "The surrogate pair in string is invalid. at 7"),
        ({"parameters": {"a\0b": 1}}, "Unexpected missing key on parameters"),
    ],
)
def test_what_is_refused(fields, text):
    with pytest.raises(InferenceError, match=text):
        submit(**fields)


def test_texts_end_where_c_ends_them():
    parameters = {"a": "x\0y", "b": True, "c": -(2**63), "d": "\U0001f600"}
    assert submit(parameters=parameters).parameters == {**parameters, "a": "x"}


def test_a_decoupled_model_needs_a_decoupled_call():
    with pytest.raises(InferenceError, match="is using the decoupled"):
        submit(Model(decoupled=True))
    submit(Model(decoupled=True), decoupled=True)


@pytest.mark.parametrize(
    ("request_id", "text"), [("", "Server not ready"), ("wrong", "this request is wrong")]
)
def test_while_the_server_starts(request_id, text):
    model, request = Model(), InferenceRequest(model_name="m", request_id=request_id)
    with pytest.raises(InferenceError, match=text):
        bls.submit(lambda *_: model, request, decoupled=False, ready=False)
    assert model.got == []


def test_a_refusal_is_a_response_that_names_the_model():
    def refuse(_request, _decoupled):
        raise InferenceError("no", StatusCode.UNAVAILABLE)

    refused = bls.Call(refuse, made(model_name="m\0n"), decoupled=True)
    response, final = refused.response()
    assert not refused.was_taken
    assert final
    assert response.error().message() == "Model m - Error when running inference: no"
    assert response.error().code() == pb_utils.TritonError.INTERNAL
    refused.cancel()


def test_the_error_of_the_other_model_keeps_its_code():
    error = InferenceError("text", StatusCode.NOT_FOUND)
    response, _ = call(answer(error=error)).response()
    assert response.error().message() == "text"
    assert response.error().code() == pb_utils.TritonError.NOT_FOUND
    assert response.parameters() == ""


def test_nothing_in_time_is_an_end():
    response, final = call(
        InferenceError("late", StatusCode.UNAVAILABLE), decoupled=True
    ).response()
    assert response.error().message() == "late"
    assert final


def test_a_response_without_the_final_flag():
    assert "without the final flag" in call(answer(final=False)).response()[0].error().message()
    response, final = call(answer(final=False), decoupled=True).response()
    assert not response.has_error()
    assert not final


@pytest.mark.parametrize(
    ("preferred", "was_on_gpu", "on_gpu"),
    [(0, False, True), (1, True, False), (1, False, False), (2, True, True), (2, False, False)],
)
def test_where_outputs_are(preferred, was_on_gpu, on_gpu):
    memory = PreferredMemory(MemoryType(preferred))
    tensor = Tensor.from_numpy("a", np.zeros(1))
    tensor = Tensor(tensor.name, tensor.datatype, tensor.shape, tensor.data, on_gpu=was_on_gpu)
    response, _ = call(answer(tensors=[tensor]), preferred_memory=memory).response()
    assert response.output_tensors()[0].is_cpu() is not on_gpu


def test_a_memory_type_that_there_is_not():
    memory = PreferredMemory(MemoryType(7))
    tensor = Tensor.from_numpy("a", np.zeros(1))
    response, _ = call(answer(tensors=[tensor]), preferred_memory=memory).response()
    assert response.error().message() == "Unknown memory type"
    response, _ = call(answer(), preferred_memory=memory).response()
    assert not response.has_error()


def test_parameters_of_an_end_are_none():
    end = call(answer(parameters={"a": 1}, final=False), answer(bare=True), decoupled=True)
    assert end.response()[0].parameters() == '{"a":1}'
    assert end.response()[0].parameters() == ""
