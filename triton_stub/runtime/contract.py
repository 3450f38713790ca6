"""What ``execute`` may return, checked in the server's order and told in its words.

Source: python_backend ``src/pb_stub.cc``, ``ProcessReturnedResponses``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from triton_stub.errors import InferenceError
from triton_stub.pb_utils.errors import TritonError
from triton_stub.pb_utils.response import InferenceResponse

if TYPE_CHECKING:
    from triton_stub.pb_utils.request import InferenceRequest


def checked_responses(requests: list[InferenceRequest], returned: Any) -> list[InferenceResponse]:
    """The responses that ``execute`` returned, one for each request, pruned to what was asked for.

    Raises InferenceError, which then answers every request of the batch.
    """
    if returned is None:
        returned = [None] * len(requests)
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
    for response in returned:
        if response is not None and not isinstance(response, InferenceResponse):
            raise InferenceError(
                "Expected an 'InferenceResponse' object in the execute function return list, "
                f"found type '{type(response)}'."
            )
    responses = [_never_answered() if response is None else response for response in returned]
    if len(set(map(id, responses))) < len(responses):
        # Seen on the real server: outputs got lost, or the whole server died.
        raise InferenceError(
            "execute returned one InferenceResponse object for several requests, which the real "
            "server does not survive. Make a new InferenceResponse for each request."
        )
    for request, response in zip(requests, responses, strict=True):
        response._prune(request._requested_output_names)
    return responses


def _never_answered() -> InferenceResponse:
    # The server accepts None and its client waits for ever; a test must not.
    return InferenceResponse(
        error=TritonError(
            "execute returned None for this request, so it is never answered: on the real server "
            "the client would wait for ever. Return one InferenceResponse for each request."
        )
    )
