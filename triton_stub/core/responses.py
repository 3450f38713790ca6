"""What one request is answered with: one response, or on a decoupled model any number of them."""

from __future__ import annotations

import asyncio
import contextlib
import math
import queue
import time
from typing import TYPE_CHECKING

from triton_stub import deviations
from triton_stub.core import garbage
from triton_stub.core.mailbox import Mailbox
from triton_stub.errors import InferenceError, StatusCode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from triton_stub.core.bell import Bell, LockBell
    from triton_stub.core.host import InstanceHost
    from triton_stub.core.model import ServedModel
    from triton_stub.core.request import InferenceResponse
    from triton_stub.core.statistics import BatchTimes
    from triton_stub.core.trace import Trace

#: After so many seconds of waiting Python collects cycles: a model may have dropped a response
#: sender in one.
UNTIL_COLLECTION = 1.0


class Responses:
    """The responses to one request, in order, as they come; an iterator.

    The last one is ``final``. A decoupled model may end with a response that is empty.
    ``timeout`` is how many seconds to wait for any one of them, ``where`` tells where the model
    is that lets one wait for longer.
    """

    __slots__ = (
        "_arrived",
        "_done",
        "_ended",
        "_listener",
        "_where",
        "cancelled",
        "check_waiting",
        "closed",
        "count",
        "executor",
        "kept",
        "steps",
        "timeout",
        "times",
        "trace",
        "withdrawn",
    )

    def __init__(self, timeout: float | None = None, where: Callable[[], str] = lambda: "") -> None:
        self._arrived: Mailbox[InferenceResponse] = Mailbox()
        #: How many seconds to wait for any response; None for ever.
        self.timeout = timeout
        self._where = where
        self._listener: Callable[[], None] | None = None
        self._ended: Callable[[], None] | None = None
        self._done = False
        #: Raises InferenceError in a thread that would wait for itself.
        self.check_waiting: Callable[[], None] = _may_wait
        #: True once somebody has called ``cancel``.
        self.cancelled = False
        #: True once the final response is there, or nobody waits for it any more.
        self.closed = False
        #: How many responses have come so far.
        self.count = 0
        #: Who executes the request, once it goes to a model.
        self.executor: InstanceHost | None = None
        #: True once the model may answer from wherever it likes: it has asked for the sender.
        self.kept = False
        #: Of a request to an ensemble: where it is, the models of its steps and what they answer.
        self.steps: Callable[[], list[tuple[ServedModel, Responses]]] | None = None
        #: When the request was executed; None if it was not, as of one from a cache.
        self.times: BatchTimes | None = None
        #: Who is to know of every response, if the request is traced.
        self.trace: Trace | None = None
        #: Set to True by whoever has sent the request, if no model may see it any more.
        self.withdrawn = False

    def put(self, response: InferenceResponse) -> None:
        """Add a response; nothing happens if the final one is there already."""
        bell = self.add(response)
        if bell is not None:
            bell.ring()

    def add(self, response: InferenceResponse) -> Bell | LockBell | None:
        """The same; the bell that is to be rung for it, after those of a batch have theirs."""
        if self.closed:
            return None
        if self.trace is not None:
            self.trace.responded(response)
        self.closed = response.final
        self.count += 1
        bell = self._arrived.add(response)
        listener = self._listener  # which may go away meanwhile
        if listener is not None:
            listener()
        if self.closed and self._ended is not None:
            self._tell_of_end()
        return bell

    def listen(self, listener: Callable[[], None] | None) -> None:
        """Have ``listener`` called after each response, in the thread that gives it; or nobody."""
        self._listener = listener

    def take(self) -> InferenceResponse | None:
        """The next response; None if it is not there."""
        try:
            response = self._arrived.get_nowait()
        except queue.Empty:
            return None
        self._done = response.final
        return response

    def when_closed(self, ended: Callable[[], None]) -> None:
        """Have ``ended`` called, once or twice, as soon as this is ``closed``."""
        self._ended = ended
        if self.closed:
            self._tell_of_end()

    def _tell_of_end(self) -> None:
        # It may refer to this: what is under way must not wait for a garbage collection.
        ended, self._ended = self._ended, None
        if ended is not None:
            ended()

    def cancel(self) -> None:
        """Say that nobody needs the answer any more.

        A request that waits in the queue of a dynamic batcher may be dropped, with an error. One
        that gets to the model has to be answered all the same, but the model may look
        (``is_cancelled()``). After the final response there is nothing left to cancel.
        """
        if not self.closed:
            self.cancelled = True

    def leave(self, instead: InferenceResponse) -> None:
        """Cancel, and have whoever waits get this final response in place of what is to come.

        To everybody else the request goes on.
        """
        if not self.closed:
            self.cancelled = True
            self._arrived.put(instead)

    def __iter__(self) -> Responses:
        return self

    def __next__(self) -> InferenceResponse:
        if self._done:
            raise StopIteration
        return self.get(self.timeout)

    def get(self, timeout: float | None) -> InferenceResponse:
        """Wait for the next response; InferenceError if none comes in time."""
        try:
            # The first of the waits, which is long enough for nearly all.
            response = self._arrived.get(timeout=_first_wait(timeout))
        except queue.Empty:
            response = self._get_late(timeout)
        self._done = response.final
        return response

    def _get_late(self, timeout: float | None) -> InferenceResponse:
        waits = self._waits(timeout)
        next(waits)  # is over
        self.check_waiting()
        for wait in waits:
            try:
                return self._arrived.get(timeout=wait)
            except queue.Empty:
                self.check_waiting()
        raise self.give_up(timeout)

    def result(self, timeout: float | None = None) -> InferenceResponse:
        """Wait for the one response of a model that is not decoupled."""
        timeout = self.timeout if timeout is None else timeout
        response = self.get(timeout)
        if response.final:
            return response
        responses = [response]
        while not responses[-1].final:
            responses.append(self.get(timeout))
        return _only(responses)

    async def result_async(self) -> InferenceResponse:
        """The same in an event loop."""
        responses = [await self.get_async()]
        while not responses[-1].final:
            responses.append(await self.get_async())
        return _only(responses)

    async def get_async(self) -> InferenceResponse:
        """Wait for the next response in an event loop; StopAsyncIteration after the last."""
        if self._done:
            raise StopAsyncIteration
        try:
            response = self._arrived.get_nowait()
        except queue.Empty:
            response = await self._arrival()
        self._done = response.final
        return response

    async def _arrival(self) -> InferenceResponse:
        if self._listener is not None:
            # The words of the server's Python bindings (core, ``tritonserver_pybind.cc``).
            raise InferenceError(
                "cannot call GetNextResponse concurrently", StatusCode.ALREADY_EXISTS
            )
        loop = asyncio.get_running_loop()
        changed = asyncio.Event()

        def wake() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(changed.set)

        self._listener = wake
        try:
            while True:
                # It may have come before anybody listened.
                with contextlib.suppress(queue.Empty):
                    return self._arrived.get_nowait()
                await self._changed(changed)
                changed.clear()
        finally:
            self._listener = None

    async def _changed(self, changed: asyncio.Event) -> None:
        for wait in self._waits(self.timeout):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):  # wait_for() would make a task
                    await changed.wait()
                return
        raise self.give_up(self.timeout)

    def collect(self, since: float, within: float) -> float:
        """Have Python collect cycles, in the process of the model if it has one.

        As ``garbage.Collections.ask``.
        """
        collect = garbage.collect if self.executor is None else self.executor.collect
        return collect(since, within)

    def _waits(self, timeout: float | None) -> Iterator[float | None]:
        """Seconds to wait, one time after the other, None for ever; collects garbage between."""
        left = math.inf if timeout is None else timeout
        wait = _first_wait(timeout)
        since = None
        while True:
            yield wait
            left -= wait
            since = since or time.monotonic()
            wait = self.collect(since, left)
            if not wait:
                break
        yield None if timeout is None else left

    def give_up(self, timeout: float | None) -> InferenceError:
        """Take nothing more, after ``timeout`` seconds without a response; the error to tell."""
        self._done = self.closed = True
        self._tell_of_end()
        text = deviations.OVERDUE.text(
            f"no response within {timeout:g} s, because the model blocks, or has kept the request "
            "or its response sender without answering",
            f"Raise response_timeout if the model needs longer. {self._where()}",
        )
        return InferenceError(text.rstrip(), StatusCode.UNAVAILABLE)


def _first_wait(timeout: float | None) -> float:
    return UNTIL_COLLECTION if timeout is None else min(timeout, UNTIL_COLLECTION)


def _may_wait() -> None:
    """Anybody may."""


def _only(responses: list[InferenceResponse]) -> InferenceResponse:
    if len(responses) == 1:
        return responses[0]
    # What follows is either the bare end, or says what went wrong afterwards.
    failed = [response for response in responses[1:] if response.error is not None]
    if failed:
        return failed[0]
    return responses[0]
