"""``ResponseIterator``: the responses to a request that a model has sent itself.

Source of every rule: python_backend ``src/pb_response_iterator.cc``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from triton_stub.pb_utils import pybind
from triton_stub.pb_utils.casters import instance_of
from triton_stub.pb_utils.response import InferenceResponse

if TYPE_CHECKING:
    from collections.abc import Iterator


class ResponseIterator(pybind.PybindObject):
    """What ``exec(decoupled=True)`` returns; after its end it can be iterated over again."""

    __slots__ = ("_coming", "_finished", "_index", "_seen")
    __module__ = "c_python_backend_utils"

    _coming: Iterator[tuple[InferenceResponse, bool]]
    _finished: bool
    _index: int
    _seen: list[InferenceResponse]

    @pybind.constructor(instance_of(InferenceResponse))
    def __init__(self, response: InferenceResponse, /) -> None:
        self._begin(iter([(response, True)]))

    @classmethod
    def _of(cls, coming: Iterator[tuple[InferenceResponse, bool]]) -> Self:
        iterator = cls.__new__(cls)
        iterator._begin(coming)
        return iterator

    def _begin(self, coming: Iterator[tuple[InferenceResponse, bool]]) -> None:
        self._coming = coming
        self._seen = []
        self._finished = False
        self._index = 0

    @pybind.method("c_python_backend_utils.ResponseIterator")
    def __iter__(self) -> Self:
        if self._finished and self._index >= len(self._seen):
            self._index = 0
        return self

    @pybind.method("c_python_backend_utils.InferenceResponse")
    def __next__(self) -> InferenceResponse:
        if not self._finished:
            response, self._finished = next(self._coming)
            self._seen.append(response)
            self._index = len(self._seen) if self._finished else 0
            return response
        if self._index < len(self._seen):
            self._index += 1
            return self._seen[self._index - 1]
        raise StopIteration("Iteration is done for the responses.")
