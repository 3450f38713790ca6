"""``ResponseIterator``: the responses to a request that a model has sent itself.

Source of every rule: python_backend ``src/pb_response_iterator.cc``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from triton_stub.pb_utils.pybind import PybindObject

if TYPE_CHECKING:
    from collections.abc import Iterator

    from triton_stub.pb_utils.response import InferenceResponse


class ResponseIterator(PybindObject):
    """What ``exec(decoupled=True)`` returns; after its end it can be iterated over again."""

    __slots__ = ("_coming", "_finished", "_index", "_seen")
    __module__ = "c_python_backend_utils"

    _coming: Iterator[tuple[InferenceResponse, bool]]
    _finished: bool
    _index: int
    _seen: list[InferenceResponse]

    @classmethod
    def _of(cls, coming: Iterator[tuple[InferenceResponse, bool]]) -> Self:
        iterator = cls.__new__(cls)
        iterator._coming = coming
        iterator._seen = []
        iterator._finished = False
        iterator._index = 0
        return iterator

    def __iter__(self) -> Self:
        if self._finished and self._index >= len(self._seen):
            self._index = 0
        return self

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
