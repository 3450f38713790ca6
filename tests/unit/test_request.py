"""An inference request, and its response."""

import numpy as np
import pytest

from triton_stub.core.request import InferenceRequest, InferenceResponse, own_correlation_id
from triton_stub.core.tensor import Tensor
from triton_stub.errors import InferenceError, StatusCode

ARRAY = np.array([[1.5, 2.5]], np.float32)


def failed():
    error = InferenceError("no such row", StatusCode.NOT_FOUND)
    error.__cause__ = ValueError("row 7")
    return InferenceResponse(model_name="m", model_version="1", error=error)


@pytest.mark.parametrize(
    ("request_id", "prefix"), [("", "[request id: <id_unknown>] "), ("x7", "[request id: x7] ")]
)
def test_log_prefix(request_id, prefix):
    assert InferenceRequest(model_name="m", request_id=request_id).log_prefix == prefix


def test_outputs_are_read_by_dlpack():
    response = InferenceResponse(
        model_name="m", model_version="1", tensors=[Tensor.from_numpy("OUT", ARRAY)]
    )
    assert (np.from_dlpack(response.outputs["OUT"]) == ARRAY).all()


def test_result_has_arrays_and_where_they_come_from():
    result = InferenceResponse(
        model_name="m",
        model_version="1",
        request_id="x7",
        tensors=[Tensor.from_numpy("OUT", ARRAY)],
        parameters={"took": 3},
    ).result()
    assert (result["OUT"] == ARRAY).all()
    assert (result.model_name, result.model_version, result.request_id) == ("m", "1", "x7")
    assert result.parameters == {"took": 3}


def test_an_error_is_raised_with_its_code_and_cause():
    with pytest.raises(InferenceError, match="no such row") as caught:
        failed().result()
    assert caught.value.code is StatusCode.NOT_FOUND
    assert isinstance(caught.value.__cause__, ValueError)


def test_every_raise_has_an_exception_of_its_own():
    response = failed()
    raised = []
    for _ in range(2):
        with pytest.raises(InferenceError) as caught:
            response.result()
        raised.append(caught.value)
    assert raised[0] is not raised[1]
    assert response.error.__traceback__ is None


@pytest.mark.parametrize(
    ("given", "kept"), [(7, 7), ("seven", "seven"), ("a\0b", "a"), ("x" * 128 + "\0x", "x" * 128)]
)
def test_a_correlation_id_as_the_server_keeps_it(given, kept):
    assert own_correlation_id(given) == kept


@pytest.mark.parametrize("given", ["x" * 129, "ü" * 65])
def test_a_correlation_id_that_is_too_long(given):
    with pytest.raises(InferenceError, match="longer than 128 characters") as caught:
        own_correlation_id(given)
    assert caught.value.code is StatusCode.UNSUPPORTED
