"""``pb_utils.InferenceResponse``."""

import json

import numpy as np
import pytest

from triton_stub import deviations
from triton_stub.pb_utils import InferenceResponse, Tensor, TritonError, TritonModelException

SIGNATURE = (
    "__init__(): incompatible constructor arguments. The following argument types are "
    "supported:\n    1. c_python_backend_utils.InferenceResponse(output_tensors: "
    "list[c_python_backend_utils.Tensor] = [], error: c_python_backend_utils.TritonError = None, "
    "parameters: object = None)\n\nInvoked with: "
)


def tensor(name="x"):
    return Tensor(name, np.zeros(1))


@pytest.mark.parametrize(
    ("args", "kwargs", "invoked"),
    [
        ((None,), {}, "None"),
        (("",), {}, "''"),
        (({},), {}, "{}"),
        (([1],), {}, "[1]"),
        (([], "text"), {}, "[], 'text'"),
        ((), {"error": 3}, "kwargs: error=3"),
        ((), {"output_tensor": []}, "kwargs: output_tensor=[]"),
        (([], None, None, 4), {}, "[], None, None, 4"),
    ],
)
def test_arguments_that_do_not_fit(args, kwargs, invoked):
    with pytest.raises(TypeError) as caught:
        InferenceResponse(*args, **kwargs)
    assert str(caught.value) == SIGNATURE + invoked


def test_an_empty_response():
    response = InferenceResponse()
    assert response.output_tensors() == []
    assert not response.has_error()
    assert response.error() is None
    assert response.parameters() == "{}"


@pytest.mark.parametrize("kind", [list, tuple, lambda items: np.array(items, object)])
def test_tensors_come_in_any_sequence(kind):
    tensors = [tensor("a"), tensor("b")]
    assert InferenceResponse(kind(tensors)).output_tensors() == tensors


def test_the_list_is_new_at_every_call():
    response = InferenceResponse([tensor()])
    response.output_tensors().clear()
    assert len(response.output_tensors()) == 1


def test_none_is_no_tensor():
    with pytest.raises(
        TritonModelException, match=r"^Output tensor for inference response should not be empty\.$"
    ):
        InferenceResponse([tensor(), None])


def test_an_error_beside_tensors():
    error = TritonError("text")
    response = InferenceResponse([tensor()], error)
    assert response.has_error()
    assert response.error() is error
    assert len(response.output_tensors()) == 1


def test_parameters_are_json():
    given = {"a": 1, "b": True, "c": "ä"}
    response = InferenceResponse(parameters=given)
    assert json.loads(response.parameters()) == given
    assert response.parameters().isascii()


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ([], "Expect N8pybind114dictE, got <class 'list'>"),
        ({1: 2}, "Expect parameters keys to have type str, found type <class 'int'>"),
        (
            {"a": 1.5},
            "Expect parameters values to have type bool/int/str, found type <class 'float'>",
        ),
        (
            {"a": None},
            "Expect parameters values to have type bool/int/str, found type <class 'NoneType'>",
        ),
    ],
)
def test_parameters_that_are_refused(parameters, text):
    with pytest.raises(TritonModelException) as caught:
        InferenceResponse(parameters=parameters)
    assert str(caught.value) == text


def test_pruning_keeps_what_was_asked_for_in_its_order():
    response = InferenceResponse([tensor("a"), tensor("b"), tensor("c"), tensor("a")])
    response._prune(frozenset({"c", "a"}))
    assert [item.name() for item in response.output_tensors()] == ["a", "c", "a"]


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1])
def test_a_parameter_that_would_end_the_server(number):
    with pytest.raises(TritonModelException) as caught:
        InferenceResponse(parameters={"a": number})
    assert deviations.BIG_RESPONSE_PARAMETER.server in str(caught.value)
    InferenceResponse(parameters={"least": -(2**63), "most": 2**63 - 1})


def test_parameters_are_those_of_the_beginning():
    given = {"a": 1}
    response = InferenceResponse(parameters=given)
    given["a"] = 2
    assert response.parameters() == '{"a": 1}'
    assert response._parameters == {"a": 1}


@pytest.mark.parametrize(
    ("parameters", "text"), [({"a": "ü", "b": 1}, '{"a":"ü","b":1}'), ({}, "{}"), (None, "")]
)
def test_parameters_of_a_received_response_are_compact(parameters, text):
    assert InferenceResponse._received([], parameters).parameters() == text


def test_a_received_error():
    error = TritonError("m")
    response = InferenceResponse._received([], error=error)
    assert (response.error(), response.has_error(), response.parameters()) == (error, True, "")
