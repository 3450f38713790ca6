"""What one request is answered with: one response, or on a decoupled model any number of them."""

from __future__ import annotations

import asyncio
import queue
import threading
from typing import TYPE_CHECKING

from triton_stub import deviations
from triton_stub.errors import InferenceError, StatusCode

if TYPE_CHECKING:
    from collections.abc import Callable

    from triton_stub.core.request import InferenceResponse

# Guards the step from waiting to executed of every request: it is never held for long.
_starting = threading.Lock()


class Responses:
    """The responses to one request, in order, as they come; an iterator.

    The last one is ``final``. A decoupled model may end with a response that is empty.
    ``timeout`` is how many seconds to wait for any one of them, ``where`` tells where the model
    is that lets one wait for longer.
    """

    __slots__ = (
        "_arrived",
        "_cancelled",
        "_done",
        "_listener",
        "_started",
        "_timeout",
        "_where",
        "closed",
        "count",
        "executor",
        "kept",
    )

    def __init__(self, timeout: float | None = None, where: Callable[[], str] = lambda: "") -> None:
        self._arrived: queue.SimpleQueue[InferenceResponse] = queue.SimpleQueue()
        self._timeout = timeout
        self._where = where
        self._listener: Callable[[], None] | None = None
        self._started = False
        self._cancelled = False
        self._done = False
        #: True once the final response is there.
        self.closed = False
        #: How many responses have come so far.
        self.count = 0
        #: Who executes the request, once it goes to a model.
        self.executor: object = None
        #: True once the model may answer from wherever it likes: it has asked for the sender.
        self.kept = False

    def put(self, response: InferenceResponse) -> None:
        """Add a response; nothing happens if the final one is there already."""
        if self.closed:
            return
        self.closed = response.final
        self.count += 1
        self._arrived.put(response)
        if self._listener is not None:
            self._listener()

    def start(self, executor: object = None) -> bool:
        """Say that the request goes to its model now; False if it was cancelled before."""
        with _starting:
            self._started = True
            self.executor = executor
            return not self._cancelled

    def cancel(self) -> bool:
        """Ask for an end: True if the model never gets to see the request.

        A model that has it already may look (``is_cancelled()``) and still has to answer.
        """
        with _starting:
            self._cancelled = True
            return not self._started

    @property
    def cancelled(self) -> bool:
        """True once somebody has called ``cancel``."""
        return self._cancelled

    def __iter__(self) -> Responses:
        return self

    def __next__(self) -> InferenceResponse:
        if self._done:
            raise StopIteration
        return self.get(self._timeout)

    def get(self, timeout: float | None) -> InferenceResponse:
        """Wait for the next response; InferenceError if none comes in time."""
        try:
            response = self._arrived.get(timeout=timeout)
        except queue.Empty:
            raise self._overdue(timeout) from None
        self._done = response.final
        return response

    def result(self, timeout: float | None = None) -> InferenceResponse:
        """Wait for the one response of a model that is not decoupled."""
        timeout = self._timeout if timeout is None else timeout
        responses = [self.get(timeout)]
        while not responses[-1].final:
            responses.append(self.get(timeout))
        return _only(responses)

    async def result_async(self) -> InferenceResponse:
        """The same in an event loop."""
        loop = asyncio.get_running_loop()
        changed = asyncio.Event()
        responses: list[InferenceResponse] = []

        def wake() -> None:
            loop.call_soon_threadsafe(changed.set)

        self._listener = wake
        while not self._done:
            try:
                response = self._arrived.get_nowait()
            except queue.Empty:
                try:
                    await asyncio.wait_for(changed.wait(), self._timeout)
                except TimeoutError:
                    raise self._overdue(self._timeout) from None
                changed.clear()
            else:
                self._done = response.final
                responses.append(response)
        return _only(responses)

    def _overdue(self, timeout: float | None) -> InferenceError:
        text = deviations.OVERDUE.text(
            f"no response within {timeout:g} s, because the model blocks, or has kept the request "
            "or its response sender without answering",
            f"Raise response_timeout if the model needs longer. {self._where()}",
        )
        return InferenceError(text.rstrip(), StatusCode.UNAVAILABLE)


def _only(responses: list[InferenceResponse]) -> InferenceResponse:
    if len(responses) == 1:
        return responses[0]
    # What follows is either the bare end, or says what went wrong afterwards.
    failed = [response for response in responses[1:] if response.error is not None]
    if failed:
        return failed[0]
    return responses[0]
