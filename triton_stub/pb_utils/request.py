"""``InferenceRequest``: what ``execute`` gets, and what a model sends to other models (BLS).

Source of every rule: python_backend ``src/pb_stub.cc`` and ``src/infer_request.cc``.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, ClassVar, Self

from triton_stub import deviations
from triton_stub.pb_utils import pybind
from triton_stub.pb_utils.casters import (
    BOOL,
    INT64,
    OBJECT,
    REFUSED,
    STR,
    UINT32,
    UINT64,
    Caster,
    instance_of,
    list_of,
    returned,
)
from triton_stub.pb_utils.compact_json import compact
from triton_stub.pb_utils.errors import TritonModelException
from triton_stub.pb_utils.iterator import ResponseIterator
from triton_stub.pb_utils.memory import NO_PREFERENCE, PreferredMemory
from triton_stub.pb_utils.response import checked_parameters
from triton_stub.pb_utils.sender import InferenceResponseSender
from triton_stub.pb_utils.tensor import Tensor
from triton_stub.pb_utils.trace import InferenceTrace

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from triton_stub.pb_utils.host import Host
    from triton_stub.pb_utils.response import InferenceResponse
    from triton_stub.pb_utils.sender import ResponseChannel

RELEASE_ALL = 1
RELEASE_RESCHEDULE = 2
_INPUTS = list_of(instance_of(Tensor, text="triton::backend::python::PbTensor"))
_SOMETHING = Caster("object", lambda value: REFUSED if value is None else value)


class InferenceRequest(pybind.PybindObject):
    """A request: one of the list that ``execute`` gets, or one that the model makes and sends."""

    __slots__ = (
        "_correlation_id",
        "_flags",
        "_inputs",
        "_model_name",
        "_model_version",
        "_parameters",
        "_parameters_text",
        "_preferred_memory",
        "_release_flags",
        "_request_id",
        "_requested_output_names",
        "_sender",
        "_timeout",
        "_trace",
    )
    __module__ = "c_python_backend_utils"

    # The server around the model; each instance has a class of its own (see ``_for_host``).
    _host: ClassVar[Host | None] = None
    # The server keeps one iterator for all requests that it has refused: the last.
    _refused: ClassVar[list[ResponseIterator]]

    _correlation_id: int | str
    _flags: int
    _inputs: list[Tensor]
    _model_name: str
    _model_version: int
    _parameters: Mapping[str, Any]
    _parameters_text: str
    _preferred_memory: PreferredMemory
    _release_flags: int | None  # None until the server has seen the request
    _request_id: str
    _requested_output_names: frozenset[str]
    _sender: InferenceResponseSender
    _timeout: int
    # Of a request that the model makes: the trace that it is to be a part of.
    _trace: Any

    @pybind.constructor(
        request_id=(STR, ""),
        correlation_id=(_SOMETHING, 0),
        inputs=_INPUTS,
        requested_output_names=list_of(STR),
        model_name=STR,
        model_version=(INT64, -1),
        flags=(UINT32, 0),
        timeout=(UINT64, 0),
        preferred_memory=(instance_of(PreferredMemory, none=False), NO_PREFERENCE),
        trace=(
            instance_of(InferenceTrace, none=False),
            InferenceTrace._of(None),
        ),
        parameters=(OBJECT, None),
    )
    def __init__(  # noqa: PLR0917 - NVIDIA's signature
        self,
        request_id: str,
        correlation_id: Any,
        inputs: list[Tensor],
        requested_output_names: list[str],
        model_name: str,
        model_version: int,
        flags: int,
        timeout: int,
        preferred_memory: PreferredMemory,
        trace: InferenceTrace,
        parameters: Any,
    ) -> None:
        # In the order of the server's own checks.
        self._parameters = checked_parameters(parameters)
        self._parameters_text = json.dumps(self._parameters)
        self._correlation_id = _correlation_id(correlation_id)
        self._request_id = request_id
        self._model_name = model_name
        if None in inputs:
            raise TritonModelException(
                f"Input tensor for request with id '{request_id}' and model name "
                f"'{model_name}' should not be empty."
            )
        if "" in requested_output_names:
            raise TritonModelException(
                f"Requested output name for request with id '{request_id}' and model name "
                f"'{model_name}' should not be empty."
            )
        self._inputs = inputs
        self._requested_output_names = frozenset(requested_output_names)
        self._model_version = model_version
        self._flags = flags
        self._timeout = timeout
        self._trace = trace._source
        self._preferred_memory = preferred_memory
        self._release_flags = None
        self._sender = InferenceResponseSender._of(None, ())

    @classmethod
    def _received(
        cls,
        inputs: Iterable[Tensor],
        requested_output_names: Iterable[str],
        *,
        model_name: str = "",
        model_version: int = -1,
        request_id: str = "",
        correlation_id: int | str = 0,
        flags: int = 0,
        timeout: int = 0,
        parameters: Mapping[str, Any],
        channel: ResponseChannel | None = None,
    ) -> Self:
        # Made for every request of every client: nothing here that can be done later.
        request = cls.__new__(cls)
        request._inputs = list(inputs)
        request._requested_output_names = frozenset(requested_output_names)
        request._model_name = model_name
        request._model_version = model_version
        request._request_id = request_id
        request._correlation_id = correlation_id
        request._flags = flags
        request._timeout = timeout
        request._parameters = parameters
        request._parameters_text = ""
        request._preferred_memory = NO_PREFERENCE
        request._trace = None
        request._release_flags = RELEASE_ALL
        request._sender = InferenceResponseSender._of(channel, request._requested_output_names)
        return request

    @classmethod
    def _for_host(cls, host: Host) -> type[Self]:
        """The class of one model instance: requests that it makes go to its own server.

        A class for each, because models send from threads of their own: nothing else tells whose
        server is meant.
        """
        return type(
            cls.__name__,
            (cls,),
            {
                "__slots__": (),
                "__module__": cls.__module__,
                "__qualname__": cls.__qualname__,
                "__doc__": cls.__doc__,
                "_host": host,
                "_refused": [],
            },
        )

    @pybind.method("list[triton::backend::python::PbTensor]")
    def inputs(self) -> list[Tensor]:
        """A new list of the same tensors; an optional input that was not sent is missing.

        The order promises nothing: the server's own is that of a hash table.
        """
        return list(self._inputs)

    @pybind.method("set[str]")
    def requested_output_names(self) -> set[str]:
        """What the client asked for; all outputs of the configuration if it asked for none."""
        return set(map(returned, self._requested_output_names))

    @pybind.method("str")
    def request_id(self) -> str:
        """The client's id of the request, or an empty string."""
        return returned(self._request_id)

    @pybind.method("object")
    def correlation_id(self) -> int | str:
        """The sequence that the request belongs to; 0 if none."""
        return self._correlation_id

    @pybind.method("int")
    def flags(self) -> int:
        """Bit 1: start of a sequence, bit 2: its end."""
        return self._flags

    @pybind.method("None", UINT32)
    def set_flags(self, flags: int, /) -> None:
        """Set what ``flags`` returns; positional only."""
        self._flags = flags

    @pybind.method("int")
    def timeout(self) -> int:
        """Microseconds; 0 if the client set none."""
        return self._timeout

    @pybind.method("str")
    def parameters(self) -> str:
        """The parameters as JSON text: without blanks if the server sent the request."""
        if not self._parameters_text:
            text = compact(self._parameters)
            # UnicodeDecodeError for half of a surrogate pair, which another model may have sent.
            self._parameters_text = text.encode("utf-8", "surrogatepass").decode()
        return self._parameters_text

    @pybind.method("c_python_backend_utils.InferenceTrace")
    def trace(self) -> InferenceTrace:
        """The request's trace, to be handed to requests that are sent because of this one."""
        trace: InferenceTrace = InferenceTrace._of(self._linked())
        return trace

    def _linked(self) -> Any:
        """What the server knows the trace of this request by; None if it is not traced."""
        channel = self._sender._channel
        return self._trace if channel is None else channel.trace

    @pybind.method("triton::backend::python::ResponseSender")
    def get_response_sender(self) -> InferenceResponseSender:
        """The sender that answers this request: the same object at every call."""
        self._sender._keep()
        return self._sender

    @pybind.method("bool")
    def is_cancelled(self) -> bool:
        """True if the client has cancelled the request; it still has to be answered."""
        return self._sender.is_cancelled()

    @pybind.method("None", UINT32)
    def set_release_flags(self, flags: int, /) -> None:
        """With 2 (RESCHEDULE), and None in the list that ``execute`` returns, come back later."""
        if self._release_flags is None:
            raise TritonModelException(
                deviations.OWN_REQUEST.text(
                    "set_release_flags() of a request that the model has made itself",
                    "Set those of a request that execute was given.",
                )
            )
        self._release_flags = flags

    @pybind.method("object", decoupled=(BOOL, False))
    def exec(self, decoupled: bool) -> InferenceResponse | ResponseIterator:  # noqa: FBT001
        """Send this request and wait for the response, or iterate over them if ``decoupled``.

        What goes wrong with the request is a response with an error. TritonModelException before
        the end of ``initialize`` and after the start of ``finalize``.
        """
        return self._send(decoupled)

    @pybind.method("object", decoupled=(BOOL, False))
    def async_exec(self, decoupled: bool) -> asyncio.Future[Any]:  # noqa: FBT001
        """The same in an event loop; RuntimeError if none runs."""
        loop = asyncio.get_running_loop()
        return loop.run_in_executor(None, self._send, decoupled)

    def _send(self, decoupled: bool) -> InferenceResponse | ResponseIterator:  # noqa: FBT001
        if self._host is None:
            raise TritonModelException("BLS is only supported during the 'execute' function.")
        call = self._host.infer(self, decoupled=decoupled)
        if self._release_flags is None:
            self._release_flags = RELEASE_ALL
        # The first response is waited for in either case.
        response, final = call.response()
        if not decoupled:
            return response
        iterator = ResponseIterator._of(call, response, final=final)
        if not call.was_taken:
            for earlier in self._refused:
                earlier._lose()
            self._refused[:] = [iterator]
        return iterator


def _correlation_id(value: Any) -> int | str:
    caster = UINT64 if isinstance(value, int) else STR if isinstance(value, str) else None
    if caster is None:
        raise TritonModelException("Correlation ID must be integer or string")
    loaded: int | str = caster.load(value)
    if loaded is REFUSED:
        raise pybind.cast_error(value)
    return loaded
