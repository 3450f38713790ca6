"""``InferenceResponseSender``."""

import pytest
from instances import Client, request

from triton_stub import deviations
from triton_stub.pb_utils import InferenceRequest, InferenceResponse, TritonError
from triton_stub.pb_utils.errors import TritonModelException

FLAG = "Unsupported flag provided."
NOTHING = "Inference Response object must be provided"
SECOND = "Non-decoupled model cannot send more than one response."
EARLY_END = "Non-decoupled model cannot send complete final before"
CLOSED = "Response sender has been closed."


def sender_of(client):
    return request("A", client=client).get_response_sender()


def told(call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except TritonModelException as error:
        return str(error)
    return "sent"


def test_the_sender_is_one_object():
    one = request("A")
    assert one.get_response_sender() is one.get_response_sender()


@pytest.mark.parametrize(
    ("decoupled", "calls"),
    [
        (False, [((None, 2), FLAG), ((), NOTHING), ((None, 1), EARLY_END)]),
        (False, [(("R",), "sent"), (("R",), SECOND), ((None, 1), "sent"), ((None, 1), CLOSED)]),
        (False, [(("R", 1), "sent"), (("R",), SECOND), ((None, 1), CLOSED)]),
        (True, [(("R",), "sent"), (("R",), "sent"), ((None, 1), "sent"), (("R",), CLOSED)]),
        (True, [((None, 1), "sent"), ((None, 1), CLOSED), ((), NOTHING), ((None, 3), FLAG)]),
    ],
)
def test_calls_in_a_row(decoupled, calls):
    sender = sender_of(Client(decoupled=decoupled))
    for args, words in calls:
        given = [InferenceResponse([]) if arg == "R" else arg for arg in args]
        assert words in told(sender.send, *given)


def test_what_the_client_gets():
    client = Client(decoupled=True)
    sender = sender_of(client)
    response = InferenceResponse([])
    sender.send(response)
    sender.send(flags=1)
    assert client.got == [(response, False), (None, True)]
    del sender
    assert not client.abandoned


def test_a_sender_that_is_dropped_says_so():
    client = Client()
    sender_of(client)
    assert client.abandoned


def test_a_failure_closes():
    client = Client(decoupled=True)
    sender = sender_of(client)
    sender._fail("no")
    sender._fail("again")
    ((response, final),) = client.got
    assert (response.error().message(), final) == ("no", True)
    assert CLOSED in told(sender.send, response)


def test_cancelled():
    client = Client()
    one = request("A", client=client)
    sender = one.get_response_sender()
    assert not one.is_cancelled()
    client.cancelled = True
    assert one.is_cancelled()
    assert sender.is_cancelled()
    sender.send(InferenceResponse([]), 1)
    assert sender.is_cancelled(), "once seen, it stays so"


def test_whether_an_answered_request_was_cancelled_cannot_be_asked():
    sender = sender_of(Client())
    sender.send(InferenceResponse(error=TritonError("no")), 1)
    assert deviations.CANCELLED_AFTER_END.server in told(sender.is_cancelled)


def test_a_request_of_the_models_own():
    own = InferenceRequest(inputs=[], requested_output_names=[], model_name="m")
    assert deviations.OWN_REQUEST.server in told(own.is_cancelled)
    assert "no reference to the decoupled state" in told(
        own.get_response_sender().send, InferenceResponse([])
    )
