"""What one request is answered with."""

import asyncio
import gc
import threading
import time
import weakref

import pytest

from triton_stub import deviations
from triton_stub.core.request import InferenceResponse
from triton_stub.core.responses import Responses
from triton_stub.errors import InferenceError, StatusCode


def response(request_id="", *, final=True, error=None):
    return InferenceResponse(
        model_name="m", model_version="1", request_id=request_id, final=final, error=error
    )


def test_responses_come_in_their_order_until_the_last():
    responses = Responses()
    sent = [response("a", final=False), response("b", final=False), response("c")]
    for one in sent:
        responses.put(one)
    assert list(responses) == sent
    assert list(responses) == []
    assert (responses.closed, responses.count) == (True, 3)


def test_nothing_follows_the_last():
    responses = Responses()
    responses.put(response("a"))
    responses.put(response("b"))
    assert [one.request_id for one in responses] == ["a"]


@pytest.mark.parametrize("is_async", [False, True])
def test_one_result(is_async):
    responses = Responses(60)

    def answer():
        responses.put(response("a", final=False))
        time.sleep(0.01)
        responses.put(response())

    threading.Timer(0.01, answer).start()
    result = asyncio.run(responses.result_async()) if is_async else responses.result()
    assert result.request_id == "a"


def test_an_error_after_the_response_is_the_result():
    responses = Responses()
    responses.put(response("a", final=False))
    responses.put(response(error=InferenceError("no")))
    assert responses.result().error.message == "no"


@pytest.mark.parametrize("is_async", [False, True])
def test_whoever_waits_too_long_is_told_where_the_model_is(is_async):
    responses = Responses(0.01, lambda: "It is here.")
    ended = []
    responses.when_closed(lambda: ended.append(True))
    with pytest.raises(InferenceError) as caught:
        asyncio.run(responses.result_async()) if is_async else next(responses)
    assert caught.value.code is StatusCode.UNAVAILABLE
    assert deviations.OVERDUE.server in str(caught.value)
    assert str(caught.value).endswith("It is here.")
    # The model need not answer any more.
    assert responses.closed
    assert ended == [True]
    responses.put(response())
    assert list(responses) == []


def test_it_is_told_when_it_is_closed():
    early, late = Responses(), Responses()
    ended = []
    early.when_closed(lambda: ended.append("early"))
    early.put(response(final=False))
    assert ended == []
    early.put(response())
    late.put(response())
    late.when_closed(lambda: ended.append("late"))
    assert ended == ["early", "late"]


@pytest.mark.parametrize("is_early", [True, False])
def test_whoever_was_told_that_it_is_closed_may_go(is_early):
    class Ended:
        times = 0

        def __call__(self):
            Ended.times += 1

    responses, ended = Responses(), Ended()
    if is_early:
        responses.when_closed(ended)
    responses.put(response())
    if not is_early:
        responses.when_closed(ended)
    gone = weakref.ref(ended)
    del ended
    assert (gone(), Ended.times) == (None, 1)


def test_cancelled():
    responses = Responses()
    assert not responses.cancelled
    responses.cancel()
    assert responses.cancelled


def test_whoever_leaves_waits_no_more_and_nobody_else_hears_of_it():
    responses = Responses(60)
    ended = []
    responses.when_closed(lambda: ended.append(True))
    threading.Timer(0.01, responses.leave, [response("left")]).start()
    assert [one.request_id for one in responses] == ["left"]
    assert responses.cancelled
    assert (responses.closed, responses.count, ended) == (False, 0, [])
    responses.put(response("late"))
    assert (responses.closed, responses.count, ended) == (True, 1, [True])


def test_whoever_leaves_after_the_end_has_left_nothing():
    responses = Responses()
    responses.put(response("a"))
    responses.leave(response("left"))
    assert responses.take().request_id == "a"
    assert responses.take() is None
    assert not responses.cancelled


def test_what_has_ended_is_not_cancelled_any_more():
    responses = Responses()
    responses.put(response())
    responses.cancel()
    assert not responses.cancelled


@pytest.mark.parametrize("is_async", [False, True])
def test_what_is_dropped_in_a_circle_is_found_before_the_time_is_up(is_async):
    class Dropped:
        def __del__(self):
            responses.put(response("found"))

    responses = Responses(60)
    gc.disable()
    try:
        circle = [Dropped()]
        circle.append(circle)
        del circle
        result = asyncio.run(responses.result_async()) if is_async else responses.result()
        assert result.request_id == "found"
    finally:
        gc.enable()
