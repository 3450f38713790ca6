"""``InferenceResponse``: what ``execute`` returns for a request."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Self

from triton_stub import deviations
from triton_stub.pb_utils import pybind
from triton_stub.pb_utils.casters import OBJECT, instance_of, list_of
from triton_stub.pb_utils.compact_json import compact
from triton_stub.pb_utils.errors import TritonError, TritonModelException
from triton_stub.pb_utils.tensor import Tensor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class InferenceResponse(pybind.PybindObject):
    """``InferenceResponse(output_tensors=[], error=None, parameters=None)``.

    With an error, only the error is sent. ``parameters`` (a dict of bool, int and str) came with
    Triton 25.02.
    """

    __slots__ = ("_error", "_output_tensors", "_parameters", "_parameters_text")
    __module__ = "c_python_backend_utils"

    _error: TritonError | None
    _output_tensors: list[Tensor]
    _parameters: Mapping[str, bool | int | str]
    _parameters_text: str

    @pybind.constructor(
        output_tensors=(list_of(instance_of(Tensor)), []),
        error=(instance_of(TritonError), None),
        parameters=(OBJECT, None),
    )
    def __init__(
        self,
        output_tensors: Sequence[Tensor] = (),
        error: TritonError | None = None,
        parameters: dict[str, bool | int | str] | None = None,
    ) -> None:
        self._parameters = given = checked_parameters(parameters)
        self._parameters_text = json.dumps(given) if given else "{}"
        if given and any(isinstance(value, int) and not _fits(value) for value in given.values()):
            raise TritonModelException(
                deviations.BIG_RESPONSE_PARAMETER.text(
                    f"a parameter of this response does not fit into 64 bits: {given}",
                    "Send it as text.",
                )
            )
        if None in output_tensors:
            raise TritonModelException("Output tensor for inference response should not be empty.")
        self._output_tensors = list(output_tensors)
        self._error = error

    @classmethod
    def _received(
        cls,
        tensors: list[Tensor],
        parameters: Mapping[str, Any] | None = None,
        error: TritonError | None = None,
    ) -> Self:
        """The response to a request that the model has sent itself.

        An error, and the bare end of a decoupled model's responses, come without parameters.
        """
        response = cls.__new__(cls)
        response._output_tensors = tensors
        response._error = error
        response._parameters = dict(parameters or {})
        response._parameters_text = "" if parameters is None else compact(parameters)
        return response

    @pybind.method("list[c_python_backend_utils.Tensor]")
    def output_tensors(self) -> list[Tensor]:
        """A new list; appending to it changes nothing."""
        return list(self._output_tensors)

    @pybind.method("bool")
    def has_error(self) -> bool:
        """True if the response carries an error."""
        return self._error is not None

    @pybind.method("c_python_backend_utils.TritonError")
    def error(self) -> TritonError | None:
        """The error, or None."""
        return self._error

    @pybind.method("str")
    def parameters(self) -> str:
        """The response's parameters as JSON text (Triton 25.02)."""
        return self._parameters_text

    def _prune(self, requested: frozenset[str]) -> None:
        """Drop the tensors nobody asked for, in place, as the backend does before it sends."""
        self._output_tensors = [t for t in self._output_tensors if t._name in requested]


def _fits(number: int) -> bool:
    return -(2**63) <= number < 2**63


def checked_parameters(parameters: Any) -> dict[str, bool | int | str]:
    """Parameters of a request or a response; TritonModelException if they are not allowed."""
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        # The mangled C++ type name is the server's own text.
        raise TritonModelException(f"Expect N8pybind114dictE, got {type(parameters)}")
    for key, value in parameters.items():
        if not isinstance(key, str):
            raise TritonModelException(
                f"Expect parameters keys to have type str, found type {type(key)}"
            )
        if not isinstance(value, bool | int | str):
            raise TritonModelException(
                f"Expect parameters values to have type bool/int/str, found type {type(value)}"
            )
    return dict(parameters)
