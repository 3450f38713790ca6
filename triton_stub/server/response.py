"""What comes back from ``Model.infer`` and ``Model.async_infer``.

Source of rules: core, ``python/tritonserver/_api/_response.py``.
"""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass, field
from queue import Full, SimpleQueue
from typing import TYPE_CHECKING, Any, Self

from triton_stub.errors import (
    AlreadyExistsError,
    InferenceError,
    InvalidArgumentError,
    StatusCode,
    TritonError,
)
from triton_stub.server.tensor import Tensor, from_core

if TYPE_CHECKING:
    from triton_stub.core import request as core_request
    from triton_stub.core.request import Parameter
    from triton_stub.core.responses import Responses
    from triton_stub.core.result import Result
    from triton_stub.server.memory import DeviceOrMemoryType
    from triton_stub.server.model import Model


@dataclass
class InferenceResponse:
    """One response: tensors by name, or an error.

    ``model`` is the version that answers. The last response to a request is ``final``; that of a
    decoupled model may be empty. ``error`` has the response in its ``args``, behind the text; its
    ``str()`` is the text alone, and not all ``args`` as in NVIDIA's API.
    """

    model: Model
    request_id: str | None = None
    parameters: dict[str, Parameter] = field(default_factory=dict)
    outputs: dict[str, Tensor] = field(default_factory=dict)
    error: TritonError | None = None
    classification_label: str | None = None
    final: bool = False
    _answer: core_request.InferenceResponse | None = field(
        default=None, init=False, repr=False, compare=False
    )

    def result(self) -> Result:
        """The outputs as NumPy arrays; raises the error. Not in NVIDIA's API."""
        if self.error is not None:
            raise self.error
        if self._answer is None:
            raise InferenceError("a response that was made by hand has no result()")
        return self._answer.result()


class Answers:
    """Makes responses of what a model answers to one request."""

    def __init__(
        self, responses: Responses, model: Model, memory: DeviceOrMemoryType | None
    ) -> None:
        self._responses = responses
        self._model = model
        self._memory = memory

    def get(self) -> InferenceResponse:
        """Wait for the next one; InvalidArgumentError if it should be in a memory there is not."""
        try:
            answer = next(self._responses)
        except TritonError as error:  # none came in time
            return self.failed(error)
        return self._read(answer)

    async def get_async(self) -> InferenceResponse:
        """The same in an event loop."""
        try:
            answer = await self._responses.get_async()
        except AlreadyExistsError:  # somebody waits already, and still does
            raise
        except TritonError as error:
            return self.failed(error)
        return self._read(answer)

    def failed(self, error: TritonError) -> InferenceResponse:
        """The last response, which is an error."""
        return InferenceResponse(self._model, error=error, final=True)

    def cancel(self) -> None:
        """Tell the model, if it looks, that nobody needs the answer any more."""
        self._responses.cancel()

    def _read(self, answer: core_request.InferenceResponse) -> InferenceResponse:
        response = InferenceResponse(
            self._model.of_version(int(answer.model_version)),
            answer.request_id,
            dict(answer.parameters),
            {tensor.name: from_core(tensor) for tensor in answer.tensors},
            final=answer.final,
        )
        response._answer = answer
        if answer.error is not None:
            # A fresh one: whoever raises it adds a traceback to it.
            error = InferenceError(answer.error.message, answer.error.code)
            error.__cause__ = answer.error.__cause__
            error.args += (response,)
            response.error = error
        if self._memory is not None:
            response.outputs = self._moved(response.outputs, self._memory)
        return response

    @staticmethod
    def _moved(outputs: dict[str, Tensor], memory: DeviceOrMemoryType) -> dict[str, Tensor]:
        try:
            return {name: tensor.to_device(memory) for name, tensor in outputs.items()}
        except TritonError as error:
            raise InferenceError(
                f"Memory type {memory} not supported: {error}", StatusCode.INVALID_ARG
            ) from error


class ResponseIterator:
    """The responses to one request, as they come.

    With a queue each of them goes there as well, whether or not anybody iterates.
    """

    def __init__(
        self, answers: Answers, queue: SimpleQueue[Any] | None, *, raise_on_error: bool
    ) -> None:
        self._answers = answers
        self._raise_on_error = raise_on_error
        self._complete = False
        self._get = answers.get
        if queue is not None:
            copies: SimpleQueue[InferenceResponse] = SimpleQueue()
            self._get = copies.get
            # Not a method of this object: nobody needs to keep it.
            threading.Thread(
                target=_copy, args=(answers, queue, copies), name="response queue", daemon=True
            ).start()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> InferenceResponse:
        if self._complete:
            raise StopIteration
        response = self._get()
        self._complete = response.final
        if self._raise_on_error and response.error is not None:
            raise response.error
        return response

    def cancel(self) -> None:
        """Tell the model, if it looks, that nobody needs the answer any more."""
        self._answers.cancel()


class AsyncResponseIterator:
    """The same for ``async for``, in any event loop."""

    def __init__(
        self, answers: Answers, queue: asyncio.Queue[Any] | None, *, raise_on_error: bool
    ) -> None:
        self._answers = answers
        self._raise_on_error = raise_on_error
        self._complete = False
        self._get = answers.get_async
        if queue is not None:
            copies: asyncio.Queue[InferenceResponse] = asyncio.Queue()
            self._get = copies.get
            task = asyncio.get_running_loop().create_task(_copy_async(answers, queue, copies))
            _tasks.add(task)  # an event loop does not keep its tasks
            task.add_done_callback(_tasks.discard)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> InferenceResponse:
        if self._complete:
            raise StopAsyncIteration
        response = await self._get()
        self._complete = response.final
        if self._raise_on_error and response.error is not None:
            raise response.error
        return response

    def cancel(self) -> None:
        """Tell the model, if it looks, that nobody needs the answer any more."""
        self._answers.cancel()


_tasks: set[asyncio.Task[None]] = set()


def _copy(answers: Answers, *queues: SimpleQueue[Any]) -> None:
    final = False
    while not final:
        try:
            response = answers.get()
        except TritonError as error:
            response = answers.failed(error)
        final = _put(answers, response, *queues)


async def _copy_async(answers: Answers, *queues: asyncio.Queue[Any]) -> None:
    final = False
    while not final:
        try:
            response = await answers.get_async()
        except TritonError as error:
            response = answers.failed(error)
        final = _put(answers, response, *queues)


def _put(
    answers: Answers,
    response: InferenceResponse,
    given: SimpleQueue[Any] | asyncio.Queue[Any],
    copies: SimpleQueue[InferenceResponse] | asyncio.Queue[InferenceResponse],
) -> bool:
    """Put a response into both queues; True if nothing follows it."""
    try:
        given.put_nowait(response)
    except (Full, asyncio.QueueFull):
        text = (
            f"the response_queue is full, with {given.qsize()} responses. NVIDIA's API does not "
            "wait for room: this response and all that follow are lost, and who iterates over them "
            "waits for ever. Give it a queue without a limit"
        )
        response = answers.failed(InvalidArgumentError(text))
    copies.put_nowait(response)
    return response.final
