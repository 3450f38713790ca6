"""Requests on their way to a process of a model, and what that process answers them by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from triton_stub.core.request import InferenceRequest
from triton_stub.core.validation import ValidatedRequest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from triton_stub.core.processes.link import Link
    from triton_stub.core.request import InferenceResponse, Parameter
    from triton_stub.core.scheduling.scheduler import Pending
    from triton_stub.core.tensor import Tensor


def sent(number: int, pending: Pending) -> tuple[Any, ...]:
    """What a process needs to know of a request: the arguments of ``RemotePending``."""
    request, validated = pending.request, pending.validated
    return (
        number,
        request.request_id,
        request.timeout,
        request.parameters,
        pending.correlation_id,
        pending.flags,
        pending.answer.trace is not None,
        list(validated.inputs),
        list(validated.requested_outputs),
    )


class RemotePending:
    """A ``Pending`` in the process of the model: what ``Conversion`` reads of it."""

    __slots__ = ("answer", "correlation_id", "flags", "number", "request", "validated")

    def __init__(  # noqa: PLR0917 - in the order of ``sent``
        self,
        link: Link,
        number: int,
        request_id: str,
        timeout: int,
        parameters: Mapping[str, Parameter],
        correlation_id: int | str,
        flags: int,
        is_traced: bool,  # noqa: FBT001
        inputs: Sequence[Tensor],
        requested_outputs: Sequence[str],
    ) -> None:
        self.number = number
        self.answer = RemoteAnswer(link, number, is_traced=is_traced)
        self.correlation_id = correlation_id
        self.flags = flags
        self.request = InferenceRequest(
            model_name="", request_id=request_id, timeout=timeout, parameters=parameters
        )
        self.validated = ValidatedRequest(0, inputs, frozenset(requested_outputs))


class RemoteAnswer:
    """The ``Responses`` of such a request: what is put there goes to the server."""

    __slots__ = ("_link", "_number", "trace")

    def __init__(self, link: Link, number: int, *, is_traced: bool) -> None:
        self._link = link
        self._number = number
        #: What a request of the model's own names its trace by, on the way to the server.
        self.trace = number if is_traced else None

    def put(self, response: InferenceResponse) -> None:
        """Send a response."""
        self._link.tell("respond", self._number, response)

    @property
    def kept(self) -> bool:
        """Only to be set: the model may answer from wherever it likes."""
        return False

    @kept.setter
    def kept(self, _: bool) -> None:
        self._link.tell("keep", self._number)

    @property
    def cancelled(self) -> bool:
        """True if the client does not want the answer any more."""
        cancelled: bool = self._link.call("is_cancelled", self._number)
        return cancelled
