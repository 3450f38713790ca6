"""What ``execute`` may return, checked in the server's order and told in its words.

Source: python_backend ``src/pb_stub.cc``, ``ProcessReturnedResponses``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from triton_stub import deviations
from triton_stub.errors import InferenceError
from triton_stub.pb_utils.errors import TritonModelException
from triton_stub.pb_utils.request import RELEASE_RESCHEDULE
from triton_stub.pb_utils.response import InferenceResponse

if TYPE_CHECKING:
    from triton_stub.pb_utils.request import InferenceRequest


class AlreadyAnsweredError(InferenceError):
    """A response was returned for a request that has had its final one."""


def checked_responses(
    requests: list[InferenceRequest], returned: Any, *, decoupled_instance: str = ""
) -> list[InferenceResponse | None]:
    """What ``execute`` returned for each request, pruned to what was asked for.

    None stands for a request that is answered in another way, or was rescheduled.
    ``decoupled_instance`` is the name of the instance if its model is decoupled. Raises
    InferenceError, which then answers every request of the batch.
    """
    if returned is None:
        return [None] * len(requests)
    if decoupled_instance:
        raise InferenceError(
            f"Python model '{decoupled_instance}' is using the decoupled mode and the execute "
            "function must return None."
        )
    if not isinstance(returned, list):
        raise InferenceError(
            f"Expected a list in the execute return, found type '{type(returned)}'."
        )
    if len(returned) != len(requests):
        raise InferenceError(
            "Number of InferenceResponse objects do not match the number of InferenceRequest "
            f"objects. InferenceRequest(s) size is:{len(requests)}, and InferenceResponse(s) "
            f"size is:{len(returned)}\n"
        )
    responses: list[InferenceResponse | None] = []
    made: set[int] = set()
    shared = False
    for request, response in zip(requests, returned, strict=True):
        if response is not None:
            _check(request, response)
            shared = shared or id(response) in made
            made.add(id(response))
        responses.append(response)
    if shared:
        # Seen on the real server: outputs got lost, or the whole server died.
        raise InferenceError(
            deviations.SHARED_RESPONSE.text(
                "execute returned one InferenceResponse object for several requests",
                "Make a new InferenceResponse for each request.",
            )
        )
    for request, response in zip(requests, responses, strict=True):
        if response is not None:
            response._prune(request._requested_output_names)
    return responses


def _check(request: InferenceRequest, response: Any) -> None:
    if request._release_flags == RELEASE_RESCHEDULE:
        # The misspelling is the server's.
        raise InferenceError(
            "Expected a None object in the execute function return list for reschduled request, "
            f"found type '{type(response)}'."
        )
    if not isinstance(response, InferenceResponse):
        raise InferenceError(
            "Expected an 'InferenceResponse' object in the execute function return list, found "
            f"type '{type(response)}'."
        )
    try:
        request._sender._count(response, final=True)
    except TritonModelException as error:
        kind = AlreadyAnsweredError if request._sender._closed else InferenceError
        raise kind(str(error)) from error
