"""What ``execute`` may return."""

import numpy as np
import pytest
from instances import request

from triton_stub.errors import InferenceError
from triton_stub.pb_utils import InferenceResponse, Tensor, TritonError
from triton_stub.runtime.contract import checked_responses


def response(*names):
    return InferenceResponse([Tensor(name, np.zeros(1)) for name in names])


def refusal(requests, returned):
    with pytest.raises(InferenceError) as caught:
        checked_responses(requests, returned)
    return str(caught.value)


def test_a_response_for_each_request_in_order():
    responses = [response("A"), InferenceResponse(error=TritonError("no")), response("A")]
    checked = checked_responses([request("A") for _ in range(3)], responses)
    assert checked == responses


def test_a_kind_of_list_will_do():
    class Responses(list):
        pass

    assert len(checked_responses([request("A")], Responses([response("A")]))) == 1


def test_each_response_keeps_what_its_request_asked_for():
    checked = checked_responses(
        [request("A"), request("B", "C")], [response("A", "B"), response("C", "A", "B")]
    )
    names = [[tensor.name() for tensor in each.output_tensors()] for each in checked]
    assert names == [["A"], ["C", "B"]]


@pytest.mark.parametrize("returned", [None, [None, None]])
def test_none_means_that_the_request_is_answered_otherwise(returned):
    assert checked_responses([request("A") for _ in range(2)], returned) == [None, None]


@pytest.mark.parametrize("returned", [(), {}, response("A"), iter([])])
def test_what_is_no_list(returned):
    assert refusal([request("A")], returned) == (
        f"Expected a list in the execute return, found type '{type(returned)}'."
    )


@pytest.mark.parametrize("count", [0, 1, 3])
def test_another_number_of_responses(count):
    assert refusal([request("A") for _ in range(2)], [response("A") for _ in range(count)]) == (
        "Number of InferenceResponse objects do not match the number of InferenceRequest objects. "
        f"InferenceRequest(s) size is:2, and InferenceResponse(s) size is:{count}\n"
    )


def test_an_element_that_is_no_response():
    assert refusal([request("A") for _ in range(2)], [response("A"), "text"]) == (
        "Expected an 'InferenceResponse' object in the execute function return list, "
        "found type '<class 'str'>'."
    )


def test_one_response_for_two_requests():
    same = response("A")
    assert "one InferenceResponse object for several requests" in refusal(
        [request("A") for _ in range(2)], [same, same]
    )
