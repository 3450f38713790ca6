"""An inference request and its response, as the core sees them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from triton_stub.core.result import Result
from triton_stub.errors import InferenceError, StatusCode
from triton_stub.pb_utils.casters import c_string

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from triton_stub.core.tensor import Tensor
    from triton_stub.core.trace import Trace

Parameter = bool | int | float | str


#: Of ``flags``: the first and the last request of a sequence.
SEQUENCE_START = 1
SEQUENCE_END = 2
_INT64 = range(-(2**63), 2**63)
#: Bytes (core, constants.h).
LONGEST_CORRELATION_ID = 128


def own_correlation_id(value: int | str) -> int | str:
    """A client's correlation id as the server keeps it; InferenceError if it is too long."""
    if not isinstance(value, str):
        return value
    value = c_string(value)
    if len(value.encode("utf-8", "surrogateescape")) > LONGEST_CORRELATION_ID:
        raise InferenceError(
            f"string correlation ID cannot be longer than {LONGEST_CORRELATION_ID} characters",
            StatusCode.UNSUPPORTED,
        )
    return value


def own_parameter(name: str, value: Any) -> Parameter:
    """A client's own parameter as the server keeps it; InferenceError if it takes no such value."""
    if type(value) is bytes:
        value = value.decode()
    if type(value) is str:
        return c_string(value)
    if type(value) is int and value not in _INT64:
        return float(value)
    if type(value) in (bool, int, float):
        own: Parameter = value
        return own
    raise InferenceError(
        f"parameter '{name}' has invalid type. It should be either 'int', 'bool', or 'string'.",
        StatusCode.INVALID_ARG,
    )


@dataclass(slots=True, kw_only=True)
class InferenceRequest:
    """One request, from whatever endpoint.

    ``requested_outputs`` empty means all outputs of the configuration. ``timeout`` is in
    microseconds. ``model_version`` -1 means the newest that is ready. ``trace`` is there if the
    request is traced.
    """

    model_name: str
    model_version: int = -1
    request_id: str = ""
    inputs: Sequence[Tensor] = ()
    requested_outputs: Sequence[str] = ()
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    correlation_id: int | str = 0
    flags: int = 0
    priority: int = 0
    timeout: int = 0
    trace: Trace | None = None

    @property
    def log_prefix(self) -> str:
        """What the server puts before most complaints (core, ``infer_request.h``)."""
        return f"[request id: {self.request_id or '<id_unknown>'}] "


# Never changed once made; to say so (frozen) would double the time to make one.
@dataclass(slots=True, kw_only=True)
class InferenceResponse:
    """One response: output tensors in the model's order, or an error.

    ``final`` is True for the last response to a request. Of a decoupled model it may come without
    any tensor, if the model told only afterwards that it was done: that is ``bare``.
    """

    model_name: str
    model_version: str
    request_id: str = ""
    tensors: Sequence[Tensor] = ()
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    error: InferenceError | None = None
    final: bool = True
    bare: bool = False

    @property
    def outputs(self) -> dict[str, Tensor]:
        """Output tensors by name; ``numpy.from_dlpack`` reads one."""
        return {tensor.name: tensor for tensor in self.tensors}

    def result(self) -> Result:
        """The outputs as numpy arrays; raises the response's error."""
        self.raise_error()
        return Result(
            outputs={tensor.name: tensor.to_own_numpy() for tensor in self.tensors},
            model_name=self.model_name,
            model_version=self.model_version,
            request_id=self.request_id,
            parameters=self.parameters,
            final=self.final,
        )

    def raise_error(self) -> None:
        """Raise the response's error, if it has one."""
        if self.error is not None:
            # A fresh exception for each raise: tracebacks pile up on a shared one.
            raise InferenceError(self.error.message, self.error.code) from self.error.__cause__
