"""``pb_utils.InferenceRequest`` as ``execute`` gets it."""

import json

import numpy as np
from instances import received

from triton_stub.pb_utils import InferenceRequest


def make(**fields):
    return InferenceRequest._received([], (), **{"parameters": {}, **fields})


def test_inputs_are_a_new_list_of_the_same_tensors():
    tensors = [received("A", np.zeros(1)), received("B", np.zeros(1))]
    request = InferenceRequest._received(tensors, (), parameters={})
    assert request.inputs() == tensors
    request.inputs().clear()
    assert request.inputs() == tensors


def test_requested_outputs_are_a_new_set():
    request = InferenceRequest._received([], ["A", "B"], parameters={})
    assert request.requested_output_names() == {"A", "B"}
    assert type(request.requested_output_names()) is set
    request.requested_output_names().clear()
    assert request.requested_output_names() == {"A", "B"}


def test_what_a_client_leaves_out():
    request = make()
    assert request.request_id() == ""
    assert request.correlation_id() == 0
    assert request.flags() == 0
    assert request.timeout() == 0
    assert request.parameters() == "{}"


def test_what_a_client_sets():
    request = make(request_id="7", correlation_id="seq", flags=3, timeout=1000)
    assert request.request_id() == "7"
    assert request.correlation_id() == "seq"
    assert request.flags() == 3
    assert request.timeout() == 1000


def test_parameters_are_json_without_blanks():
    given = {"p": 1, "q": "ä", "b": True, "f": 1.5}
    request = make(parameters=given)
    assert request.parameters() == '{"p":1,"q":"ä","b":true,"f":1.5}'
    assert json.loads(request.parameters()) == given
