"""The tensors of one request to an ensemble, and the sequence that they hand on."""

import pytest

from triton_stub import deviations
from triton_stub.core.ensembles.tensors import Origin, Values, origin_in, parameters_of
from triton_stub.errors import InferenceError, InvalidArgumentError


def test_a_value_goes_with_its_last_taker():
    values = Values(2)
    assert [values.add(None), values.add(None)] == [0, 1]
    values.take(0)
    assert values.by_turn.keys() == {0, 1}
    values.take(0)
    assert values.by_turn.keys() == {1}
    assert values.add(None) == 2


def test_what_nobody_takes_stays():
    values = Values(0)
    assert values.by_turn[values.add(None)].left == 0


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({}, None),
        ({"other": 1}, None),
        ({"sequence_id": 3}, Origin(3, 0)),
        ({"sequence_id": -1}, Origin(2**64 - 1, 0)),
        ({"sequence_start": True, "other": "x"}, Origin(7, 1)),
        ({"sequence_start": False}, Origin(7, 0)),
        ({"sequence_start": True, "sequence_id": 3, "sequence_end": True}, Origin(3, 3)),
    ],
)
def test_the_sequence_that_a_response_names(parameters, expected):
    assert origin_in(parameters, 7) == expected


@pytest.mark.parametrize(
    "parameters", [{"sequence_id": 1.0}, {"sequence_id": True}, {"sequence_end": 1}]
)
def test_parameters_of_another_type(parameters):
    with pytest.raises(InvalidArgumentError, match="to be TRITONSERVER_PARAMETER_"):
        origin_in(parameters, 7)


def test_a_text_would_be_the_end_of_the_server():
    with pytest.raises(InferenceError) as caught:
        origin_in({"sequence_id": "seven"}, 7)
    assert "'seven'" in caught.value.message
    assert deviations.TEXT_SEQUENCE.server in caught.value.message


@pytest.mark.parametrize(
    ("origin", "asked", "expected"),
    [
        (Origin(3, 1), 0, (3, True, False)),
        (Origin(2**63 + 5, 2), 0, (5 - 2**63, False, True)),
        (Origin("s", 0), "t", ("s", False, False)),
        (Origin(3, 0), "t", ("", False, False)),
        (Origin("s", 3), 0, (0, True, True)),
    ],
)
def test_what_a_client_is_told(origin, asked, expected):
    names = ("sequence_id", "sequence_start", "sequence_end")
    assert parameters_of(origin, asked) == dict(zip(names, expected, strict=True))
