"""``InferenceRequest``: what ``execute`` gets, and what a model sends to other models (BLS)."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, ClassVar, Self

from triton_stub.pb_utils import pybind
from triton_stub.pb_utils.compact_json import compact
from triton_stub.pb_utils.errors import TritonModelException
from triton_stub.pb_utils.iterator import ResponseIterator
from triton_stub.pb_utils.memory import PreferredMemory
from triton_stub.pb_utils.response import checked_parameters
from triton_stub.pb_utils.sender import InferenceResponseSender
from triton_stub.pb_utils.tensor import Tensor
from triton_stub.pb_utils.trace import InferenceTrace

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from triton_stub.pb_utils.host import Host
    from triton_stub.pb_utils.response import InferenceResponse
    from triton_stub.pb_utils.sender import ResponseChannel

RELEASE_RESCHEDULE = 2
_UINT32 = (0, 2**32 - 1)
_UINT64 = (0, 2**64 - 1)
_INT64 = (-(2**63), 2**63 - 1)
_NAMES = (
    "request_id",
    "correlation_id",
    "inputs",
    "requested_output_names",
    "model_name",
    "model_version",
    "flags",
    "timeout",
    "preferred_memory",
    "trace",
    "parameters",
)
_SIGNATURE = (
    "c_python_backend_utils.InferenceRequest(request_id: str = '', correlation_id: object = 0, "
    "inputs: list[triton::backend::python::PbTensor], requested_output_names: list[str], "
    "model_name: str, model_version: int = -1, flags: int = 0, timeout: int = 0, "
    "preferred_memory: c_python_backend_utils.PreferredMemory = "
    "<c_python_backend_utils.PreferredMemory object at 0x{default_memory:x}>, "
    "trace: c_python_backend_utils.InferenceTrace = "
    "<c_python_backend_utils.InferenceTrace object at 0x{default_trace:x}>, "
    "parameters: object = None)"
)


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

    # The server around the model; each instance has a class of its own (see ``for_host``).
    _host: ClassVar[Host | None] = None

    _correlation_id: int | str
    _flags: int
    _inputs: list[Tensor]
    _model_name: str
    _model_version: int
    _parameters: dict[str, Any]
    _parameters_text: str
    _preferred_memory: PreferredMemory | None
    _release_flags: int
    _request_id: str
    _requested_output_names: frozenset[str]
    _sender: InferenceResponseSender
    _timeout: int
    _trace: InferenceTrace

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        given = _converted(args, kwargs)
        if given is None:
            signature = _SIGNATURE.format(default_memory=id(_SIGNATURE), default_trace=id(_NAMES))
            raise pybind.signature_error("__init__", signature, args, kwargs, kind="constructor")
        # From here on in the order of the server's own checks (pb_stub.cc, infer_request.cc).
        parameters = checked_parameters(given["parameters"])
        self._correlation_id = _correlation_id(given["correlation_id"])
        self._request_id = given["request_id"]
        self._model_name = given["model_name"]
        if any(tensor is None for tensor in given["inputs"]):
            raise TritonModelException(
                f"Input tensor for request with id '{self._request_id}' and model name "
                f"'{self._model_name}' should not be empty."
            )
        if "" in given["requested_output_names"]:
            raise TritonModelException(
                f"Requested output name for request with id '{self._request_id}' and model name "
                f"'{self._model_name}' should not be empty."
            )
        self._inputs = given["inputs"]
        self._requested_output_names = frozenset(given["requested_output_names"])
        self._model_version = given["model_version"]
        self._flags = given["flags"]
        self._timeout = given["timeout"]
        self._preferred_memory = given["preferred_memory"]
        self._trace = given["trace"]
        self._parameters = parameters
        self._parameters_text = json.dumps(parameters)
        self._release_flags = 1
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
        request = cls.__new__(cls)
        request._inputs = list(inputs)
        request._requested_output_names = frozenset(requested_output_names)
        request._model_name = model_name
        request._model_version = model_version
        request._request_id = request_id
        request._correlation_id = correlation_id
        request._flags = flags
        request._timeout = timeout
        request._parameters = dict(parameters)
        request._parameters_text = ""
        request._preferred_memory = None
        request._release_flags = 1
        request._sender = InferenceResponseSender._of(channel, request._requested_output_names)
        return request

    @classmethod
    def for_host(cls, host: Host) -> type[Self]:
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
            },
        )

    def inputs(self) -> list[Tensor]:
        """A new list of the same tensors; an optional input that was not sent is missing.

        The order promises nothing: the server's own is that of a hash table.
        """
        return list(self._inputs)

    def requested_output_names(self) -> set[str]:
        """What the client asked for; all outputs of the configuration if it asked for none."""
        return set(self._requested_output_names)

    def request_id(self) -> str:
        """The client's id of the request, or an empty string."""
        return self._request_id

    def correlation_id(self) -> int | str:
        """The sequence that the request belongs to; 0 if none."""
        return self._correlation_id

    def flags(self) -> int:
        """Bit 1: start of a sequence, bit 2: its end."""
        return self._flags

    def set_flags(self, *args: Any, **kwargs: Any) -> None:
        """Set what ``flags`` returns; positional only."""
        self._flags = self._one_uint32("set_flags", args, kwargs)

    def timeout(self) -> int:
        """Microseconds; 0 if the client set none."""
        return self._timeout

    def parameters(self) -> str:
        """The parameters as JSON text: without blanks if the server sent the request."""
        if not self._parameters_text:
            self._parameters_text = compact(self._parameters)
        return self._parameters_text

    def trace(self) -> InferenceTrace:
        """The request's trace, to be handed to requests that are sent because of this one."""
        try:
            return self._trace
        except AttributeError:
            self._trace = InferenceTrace()
            return self._trace

    def get_response_sender(self) -> InferenceResponseSender:
        """The sender that answers this request: the same object at every call."""
        return self._sender

    def is_cancelled(self) -> bool:
        """True if the client has cancelled the request; it still has to be answered."""
        return self._sender.is_cancelled()

    def set_release_flags(self, *args: Any, **kwargs: Any) -> None:
        """With 2 (RESCHEDULE), and None in the list that ``execute`` returns, come back later."""
        self._release_flags = self._one_uint32("set_release_flags", args, kwargs)

    def exec(self, *args: Any, **kwargs: Any) -> InferenceResponse | ResponseIterator:
        """Send this request and wait for the response, or iterate over them if ``decoupled``.

        What goes wrong with the request is a response with an error. TritonModelException before
        the end of ``initialize`` and after the start of ``finalize``.
        """
        return self._send(self._decoupled("exec", args, kwargs))

    def async_exec(self, *args: Any, **kwargs: Any) -> asyncio.Future[Any]:
        """The same in an event loop; RuntimeError if none runs."""
        decoupled = self._decoupled("async_exec", args, kwargs)
        loop = asyncio.get_running_loop()
        return loop.run_in_executor(None, self._send, decoupled)

    def _send(self, decoupled: bool) -> InferenceResponse | ResponseIterator:  # noqa: FBT001
        if self._host is None:
            raise TritonModelException("BLS is only supported during the 'execute' function.")
        responses = self._host.infer(self, decoupled=decoupled)
        if decoupled:
            return ResponseIterator._of(responses)
        response, _ = next(responses)
        return response

    def _decoupled(self, function: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        bound = pybind.bind(("decoupled",), {"decoupled": False}, args, kwargs)
        if bound is None or not isinstance(bound["decoupled"], bool | int):
            raise pybind.signature_error(
                function,
                "(self: c_python_backend_utils.InferenceRequest, decoupled: bool = False) -> "
                "object",
                (self, *args),
                kwargs,
            )
        return bool(bound["decoupled"])

    def _one_uint32(self, function: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
        number = pybind.to_int(args[0], *_UINT32) if len(args) == 1 and not kwargs else None
        if number is None:
            raise pybind.signature_error(
                function,
                "(self: c_python_backend_utils.InferenceRequest, arg0: int) -> None",
                (self, *args),
                kwargs,
            )
        return number


def _converted(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any] | None:
    """The constructor's arguments as C++ would get them; None if one does not fit."""
    defaults: dict[str, Any] = {
        "request_id": "",
        "correlation_id": 0,
        "model_version": -1,
        "flags": 0,
        "timeout": 0,
        "preferred_memory": PreferredMemory.__new__(PreferredMemory),
        "trace": InferenceTrace(),
        "parameters": None,
    }
    bound = pybind.bind(_NAMES, defaults, args, kwargs)
    if bound is None:
        return None
    given = dict(bound)
    inputs, names = pybind.to_list(bound["inputs"]), pybind.to_list(bound["requested_output_names"])
    if inputs is None or not all(item is None or isinstance(item, Tensor) for item in inputs):
        return None
    given["inputs"] = inputs
    given["requested_output_names"] = None if names is None else list(map(pybind.to_str, names))
    if names is None or None in given["requested_output_names"]:
        return None
    given["request_id"] = pybind.to_str(bound["request_id"])
    given["model_name"] = pybind.to_str(bound["model_name"])
    for name, bounds in (("model_version", _INT64), ("flags", _UINT32), ("timeout", _UINT64)):
        given[name] = pybind.to_int(bound[name], *bounds)
    missing = any(given[name] is None for name in _NAMES if name != "parameters")
    fits = isinstance(bound["preferred_memory"], PreferredMemory) and isinstance(
        bound["trace"], InferenceTrace
    )
    return given if fits and not missing else None


def _correlation_id(value: Any) -> int | str:
    if isinstance(value, str):
        return value
    if not isinstance(value, int):
        raise TritonModelException("Correlation ID must be integer or string")
    number = pybind.to_int(value, *_UINT64)
    if number is None:
        raise RuntimeError(
            "Unable to cast Python instance of type <class 'int'> to C++ type '?' (#define "
            "PYBIND11_DETAILED_ERROR_MESSAGES or compile in debug mode for details)"
        )
    return number
