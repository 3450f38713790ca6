"""What comes back from ``Model.infer``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from triton_stub.core.request import InferenceResponse
    from triton_stub.core.responses import Responses


class ResponseIterator:
    """The responses to one request, as they come."""

    def __init__(self, responses: Responses, raise_on_error: bool) -> None:  # noqa: FBT001
        self._responses = responses
        self._raise_on_error = raise_on_error

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> InferenceResponse:
        response = next(self._responses)
        if self._raise_on_error:
            response.raise_error()
        return response

    def cancel(self) -> None:
        """Tell the model, if it looks, that nobody needs the answer any more."""
        self._responses.cancel()
