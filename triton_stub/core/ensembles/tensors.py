"""The tensors of one request to an ensemble, as they come from its steps.

Source: core ``src/ensemble_scheduler/ensemble_scheduler.cc``, ``TensorData`` and
``EnsembleContext::ConsumeResponse``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from triton_stub import deviations
from triton_stub.errors import InferenceError, StatusCode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from triton_stub.core.request import Parameter
    from triton_stub.core.tensor import Tensor

SEQUENCE_START, SEQUENCE_END = 1, 2
_FLAGS = {"sequence_start": SEQUENCE_START, "sequence_end": SEQUENCE_END}


class Origin(NamedTuple):
    """Sequence and flags that a tensor hands on to the steps that take it."""

    correlation_id: int | str
    flags: int


class Value:
    """One tensor, None if a step or the client left it out; ``left`` takers wait for it."""

    __slots__ = ("left", "origin", "tensor")

    def __init__(self, tensor: Tensor | None, left: int, origin: Origin | None) -> None:
        self.tensor = tensor
        self.left = left
        self.origin = origin


class Values:
    """What one tensor of the ensemble has been so far: of a decoupled step any number of times.

    Attributes:
        by_turn: those that somebody still waits for, by how many came before.
        batch_size: of the request that made them; 0 if that was without a batch.
    """

    __slots__ = ("_takers", "_turn", "batch_size", "by_turn")

    def __init__(self, takers: int) -> None:
        self.by_turn: dict[int, Value] = {}
        self.batch_size = 0
        self._takers = takers
        self._turn = 0

    def add(self, tensor: Tensor | None, origin: Origin | None = None) -> int:
        """Add the next one; its turn."""
        self.by_turn[self._turn] = Value(tensor, self._takers, origin)
        self._turn += 1
        return self._turn - 1

    def take(self, turn: int) -> None:
        """One of the takers has it; after the last one it is dropped."""
        value = self.by_turn[turn]
        value.left -= 1
        if value.left == 0:
            del self.by_turn[turn]


def origin_in(parameters: Mapping[str, Parameter], correlation_id: int | str) -> Origin | None:
    """The sequence that a step's response names by its parameters; None if it names none.

    InferenceError, in the server's words, if one of these is of another type.
    """
    found, flags = False, 0
    for name, value in parameters.items():
        if name == "sequence_id":
            if isinstance(value, bool) or not isinstance(value, int | str):
                raise InferenceError(
                    "expected parameter 'sequence_id' to be TRITONSERVER_PARAMETER_INT or "
                    "TRITONSERVER_PARAMETER_STRING",
                    StatusCode.INVALID_ARG,
                )
            if isinstance(value, str):
                raise InferenceError(
                    deviations.TEXT_SEQUENCE.text(
                        f"a step of an ensemble names its sequence by the text {value!r}",
                        "Number the sequences.",
                    ),
                    StatusCode.INVALID_ARG,
                )
            correlation_id = value % 2**64
        elif name in _FLAGS:
            if not isinstance(value, bool):
                raise InferenceError(
                    f"expect parameter '{name}' to be TRITONSERVER_PARAMETER_BOOL",
                    StatusCode.INVALID_ARG,
                )
            flags |= _FLAGS[name] if value else 0
        else:
            continue
        found = True
    return Origin(correlation_id, flags) if found else None


def parameters_of(origin: Origin, asked: int | str) -> dict[str, Parameter]:
    """An origin as the parameters of a response to a request of the sequence ``asked``."""
    correlation_id = origin.correlation_id
    if isinstance(asked, str):
        told: Parameter = correlation_id if isinstance(correlation_id, str) else ""
    else:
        number = correlation_id if isinstance(correlation_id, int) else 0
        told = number - 2**64 if number >= 2**63 else number
    return {
        "sequence_id": told,
        "sequence_start": bool(origin.flags & SEQUENCE_START),
        "sequence_end": bool(origin.flags & SEQUENCE_END),
    }
