"""``ResponseIterator``: the responses to a request that a model has sent itself.

Source of every rule: python_backend ``src/pb_response_iterator.cc`` and ``GetResponseIterator`` in
``src/pb_stub.cc``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from triton_stub import deviations
from triton_stub.pb_utils import pybind
from triton_stub.pb_utils.casters import instance_of
from triton_stub.pb_utils.errors import TritonModelException
from triton_stub.pb_utils.response import InferenceResponse

if TYPE_CHECKING:
    from triton_stub.pb_utils.host import Call


class ResponseIterator(pybind.PybindObject):
    """What ``exec(decoupled=True)`` returns; after its end it can be iterated over again."""

    __slots__ = ("_call", "_finished", "_index", "_next", "_seen")
    __module__ = "c_python_backend_utils"

    _call: Call | None
    _finished: bool
    _index: int
    _next: InferenceResponse | None  # the first response, until somebody takes it
    _seen: list[InferenceResponse]

    @pybind.constructor(instance_of(InferenceResponse))
    def __init__(self, response: InferenceResponse | None, /) -> None:
        if response is None:
            raise TritonModelException(
                deviations.NO_RESPONSE.text(
                    "ResponseIterator(None)", "exec(decoupled=True) returns an iterator."
                )
            )
        self._begin(None, response)

    def _begin(self, call: Call | None, response: InferenceResponse) -> None:
        self._call = call
        self._next = response
        self._seen = []
        self._finished = False
        self._index = 0

    @classmethod
    def _of(cls, call: Call, response: InferenceResponse, *, final: bool) -> Self:
        """The responses of a call whose first one is there."""
        iterator = cls.__new__(cls)
        iterator._begin(None if final else call, response)
        return iterator

    def _lose(self) -> None:
        """Lose what was not taken yet."""
        self._finished = True
        self._call = self._next = None

    @pybind.method("c_python_backend_utils.ResponseIterator")
    def __iter__(self) -> Self:
        """From the first response again, if the last one was seen."""
        if self._finished and self._index >= len(self._seen):
            self._index = 0
        return self

    @pybind.method("c_python_backend_utils.InferenceResponse")
    def __next__(self) -> InferenceResponse:
        """Wait for the next response; that at the end of a decoupled model's may be empty."""
        if self._finished:
            if self._index >= len(self._seen):
                raise StopIteration("Iteration is done for the responses.")
            self._index += 1
            return self._seen[self._index - 1]
        response, self._next = self._next, None
        if response is None:
            assert self._call is not None
            response, final = self._call.response()
            if final:
                self._call = None
        self._seen.append(response)
        self._finished = self._call is None
        if self._finished:
            self._index = len(self._seen)
        return response

    @pybind.method("None")
    def cancel(self) -> None:
        """Tell the other model that nobody needs the rest any more (Triton 25.04)."""
        if self._call is not None:
            self._call.cancel()
