"""``InferenceResponseSender``: how a model answers a request without returning from ``execute``.

Source of every rule: python_backend ``src/response_sender.cc``.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Protocol

from triton_stub import deviations
from triton_stub.pb_utils import pybind
from triton_stub.pb_utils.casters import UINT32, instance_of
from triton_stub.pb_utils.errors import TritonError, TritonModelException
from triton_stub.pb_utils.response import InferenceResponse

if TYPE_CHECKING:
    from collections.abc import Iterable

_FINAL = 1
# Sending is rare beside everything else, and never waits while it holds this.
_sending = threading.Lock()


class ResponseChannel(Protocol):
    """The way from a model back to the client of one request."""

    @property
    def decoupled(self) -> bool:
        """True if the model may send any number of responses."""

    @property
    def trace(self) -> object:
        """What links a request of the model's own to the trace of this one; None without one."""

    def respond(self, response: InferenceResponse | None, *, final: bool) -> None:
        """Hand on a response, or with None the bare end."""

    def keep(self) -> None:
        """The model has asked for the sender: from now on it may answer from any thread."""

    def is_cancelled(self) -> bool:
        """True if the client does not want the answer any more."""

    def abandon(self, sent: int, instead: str | None) -> None:
        """Nobody is left who could send the final response, after so many that were sent.

        ``instead`` is what the client gets then: the channel's own words if it is None, and
        nothing if it is empty.
        """


class InferenceResponseSender(pybind.PybindObject):
    """``request.get_response_sender()``: the same object at every call."""

    __slots__ = (
        "_cancelled",
        "_channel",
        "_closed",
        "_ended",
        "_instead",
        "_requested_output_names",
        "_sent",
    )
    __module__ = "c_python_backend_utils"

    _cancelled: bool
    _channel: ResponseChannel | None
    _closed: bool
    # Closed by a final flag that was sent: the request is answered, whatever execute does then.
    _ended: bool
    _instead: str | None
    _requested_output_names: frozenset[str]
    _sent: int

    __init__ = pybind.no_constructor

    @classmethod
    def _of(
        cls, channel: ResponseChannel | None, requested_output_names: Iterable[str]
    ) -> InferenceResponseSender:
        """The sender of a request; one that the model made itself has no channel."""
        sender = cls.__new__(cls)
        sender._channel = channel
        sender._requested_output_names = frozenset(requested_output_names)
        sender._cancelled = sender._closed = sender._ended = False
        sender._instead = None
        sender._sent = 0
        return sender

    @pybind.method("None", response=(instance_of(InferenceResponse), None), flags=(UINT32, 0))
    def send(self, response: InferenceResponse | None = None, flags: int = 0) -> None:
        """Send a response, and with ``flags=1`` (final) the end, or the end alone.

        Raises TritonModelException for what the model's transaction policy does not allow.
        """
        if flags not in (0, _FINAL):
            raise TritonModelException("Unable to send response. Unsupported flag provided.")
        if not flags and response is None:
            raise TritonModelException(
                "Inference Response object must be provided when the response flags is set to zero."
            )
        final = bool(flags)
        channel = self._count(response, final=final)
        self._ended = final
        if response is not None:
            response._prune(self._requested_output_names)
        channel.respond(response, final=final)

    @pybind.method("bool")
    def is_cancelled(self) -> bool:
        """True if the client has cancelled the request; the final response is still due.

        TritonModelException for a request that was answered: the server dies of the question.
        """
        if self._cancelled:
            return True
        if self._channel is None:
            raise TritonModelException(
                deviations.OWN_REQUEST.text(
                    "is_cancelled() of a request that the model has made itself",
                    "Ask a request that execute was given.",
                )
            )
        if self._closed:
            raise TritonModelException(
                deviations.CANCELLED_AFTER_END.text(
                    "is_cancelled() of a request that is answered already",
                    "Ask before the final response.",
                )
            )
        self._cancelled = self._channel.is_cancelled()
        return self._cancelled

    def _count(self, response: InferenceResponse | None, *, final: bool) -> ResponseChannel:
        """Check whether this may be sent now, and take it as sent."""
        channel = self._channel
        if channel is None:
            raise TritonModelException(
                "Unable to send response. Response sender has no reference to the decoupled "
                "state of the model."
            )
        with _sending:
            if not channel.decoupled:
                if response is not None and self._sent:
                    raise TritonModelException(
                        "Unable to send response. Non-decoupled model cannot send more than one "
                        "response."
                    )
                if response is None and final and not self._sent:
                    raise TritonModelException(
                        "Unable to send response. Non-decoupled model cannot send complete final "
                        "before sending a response."
                    )
            if self._closed:
                raise TritonModelException(
                    "Unable to send response. Response sender has been closed."
                )
            self._closed = final
            self._sent += 1
        return channel

    @property
    def _is_open(self) -> bool:
        """True after a response without the final flag."""
        return self._sent > 0 and not self._closed

    def _keep(self) -> None:
        """The model has asked for this sender."""
        if self._channel is not None:
            self._channel.keep()

    def _fail(self, text: str) -> None:
        """Answer with an error, unless the final response was sent."""
        if self._channel is not None and not self._closed:
            self._closed = True
            self._channel.respond(InferenceResponse(error=TritonError(text)), final=True)

    def _drop(self, instead: str) -> None:
        """The server has let go of the request; say what to tell if the model does, too."""
        self._instead = instead

    def _close(self) -> None:
        """Let nothing more be sent: the request is answered in another way."""
        self._closed = True

    def __del__(self) -> None:
        # The server drops the request silently then, and its client waits for ever. One that a
        # model has tried to make has no channel at all.
        channel = getattr(self, "_channel", None)
        if channel is not None and not self._closed:
            self._closed = True
            channel.abandon(self._sent, self._instead)
