"""``pb_utils.ResponseIterator``: what it takes from a call, and when."""

from dataclasses import dataclass, field

import pytest

from triton_stub.pb_utils import InferenceResponse
from triton_stub.pb_utils.errors import TritonModelException
from triton_stub.pb_utils.iterator import ResponseIterator


@dataclass
class Coming:
    """A call whose responses are there; ``was_taken`` as for any that was sent."""

    responses: list
    was_taken: bool = True
    cancelled: int = 0
    asked: int = field(default=0)

    def response(self):
        self.asked += 1
        response = self.responses.pop(0)
        return response, not self.responses

    def cancel(self):
        self.cancelled += 1


def of(*responses):
    coming = Coming(list(responses))
    first, final = coming.response()
    return coming, ResponseIterator._of(coming, first, final=final)


def test_a_response_is_asked_for_when_it_is_wanted():
    responses = [InferenceResponse() for _ in range(3)]
    coming, iterator = of(*responses)
    assert coming.asked == 1
    assert next(iterator) is responses[0]
    assert coming.asked == 1
    assert list(iterator) == responses[1:]
    assert coming.asked == 3


def test_after_the_end_it_begins_again_with_the_same_objects():
    responses = [InferenceResponse() for _ in range(2)]
    _, iterator = of(*responses)
    assert [*iterator] == [*iterator] == responses
    with pytest.raises(StopIteration, match=r"^Iteration is done for the responses\.$"):
        next(iterator)


def test_cancel_is_told_until_the_last_response_is_there():
    coming, iterator = of(InferenceResponse(), InferenceResponse())
    iterator.cancel()
    assert coming.cancelled == 1
    list(iterator)
    iterator.cancel()
    assert coming.cancelled == 1


def test_one_response_is_an_end():
    response = InferenceResponse()
    iterator = ResponseIterator(response)
    iterator.cancel()
    assert list(iterator) == [response]


def test_nothing_is_no_response():
    with pytest.raises(TritonModelException, match="the real server"):
        ResponseIterator(None)


def test_what_is_lost_is_not_seen():
    _, iterator = of(InferenceResponse())
    iterator._lose()
    assert list(iterator) == []
    _, iterator = of(response := InferenceResponse())
    assert list(iterator) == [response]
    iterator._lose()
    assert list(iterator) == [response]
