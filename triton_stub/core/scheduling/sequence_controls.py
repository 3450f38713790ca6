"""What the sequence batcher adds to the inputs of a request: its controls and its state.

Source: core ``src/sequence_batch_scheduler/``, ``SetControlTensors`` and ``UpdateImplicitState``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from triton_stub import config as model_config
from triton_stub import datatypes
from triton_stub.core.hash_order import visited
from triton_stub.core.request import SEQUENCE_END, SEQUENCE_START
from triton_stub.core.tensor import Tensor
from triton_stub.datatypes import BYTES
from triton_stub.errors import InferenceError, StatusCode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from triton_stub.config import Control
    from triton_stub.core.request import InferenceRequest
    from triton_stub.core.scheduling.scheduler import Pending

_FIRST_AND_LAST = SEQUENCE_START | SEQUENCE_END


class Extras:
    """The tensors that a model with ``sequence_batching`` gets beside its inputs.

    ``states`` are those of ``sequence_states.initial``: a Python model has no way to write a
    state, and so it sees the first one at every request.
    """

    def __init__(self, config: Any) -> None:
        self.states: Sequence[Tensor] = ()
        controls = model_config.controls(config)
        self._shape = (1, 1) if config.max_batch_size else (1,)
        self._id = controls.pop("CORRID", None)
        self._signals = {
            kind: [self._tensor(control, value) for value in control.values]
            for kind, control in controls.items()
        }

    def add(self, pending: Pending) -> None:
        """Add the tensors to a request that is about to be executed, in place of older ones."""
        own, validated = pending.request.inputs, pending.validated
        extras = [*self._controls(pending), *self._states(pending)]
        if not extras:
            return
        names = [own[index].name for index in visited(tuple([tensor.name for tensor in own]))]
        by_name = {tensor.name: tensor for tensor in (*validated.inputs, *extras)}
        # From one map into another, which the extra ones come into last.
        all_names = tuple(dict.fromkeys([*names, *(tensor.name for tensor in extras)]))
        inputs = [by_name[all_names[index]] for index in visited(all_names)]
        pending.validated = replace(validated, inputs=inputs)

    def _controls(self, pending: Pending) -> list[Tensor]:
        flags = pending.flags & _FIRST_AND_LAST
        signals = {
            "START": bool(flags & SEQUENCE_START),
            "END": bool(flags & SEQUENCE_END),
            "READY": not pending.is_null,
        }
        tensors = [self._signals[kind][on] for kind, on in signals.items() if kind in self._signals]
        if self._id is not None:
            tensors.append(self._tensor(self._id, pending.correlation_id))
        return tensors

    def _states(self, pending: Pending) -> Sequence[Tensor]:
        if not pending.is_null:
            return self.states
        return [zeros(tensor.name, tensor.datatype, tensor.shape) for tensor in self.states]

    def _tensor(self, control: Control, value: float | str) -> Tensor:
        datatype = datatypes.from_number(control.data_type)
        if datatype is BYTES:
            array = np.array([str(value or "").encode()], np.object_)
        elif isinstance(value, int):
            # An id of 64 bits, of which a smaller or signed integer has the lower ones.
            raw = (value % 2**64).to_bytes(8, "little")[: datatype.itemsize]
            array = np.frombuffer(raw, datatype.numpy)
        else:
            array = np.array([value], datatype.numpy)
        return Tensor(control.name, datatype, self._shape, array.reshape(self._shape))


class CorrelationIdRule:
    """Which correlation ids fit the control tensor that is to hold them.

    Since Triton 24.12; before, the server writes behind its memory. Source: core
    ``src/infer_request.cc``, ``ValidateCorrelationId``.
    """

    def __init__(self, config: Any, control: Control) -> None:
        self._model_name: str = config.name
        self._control_name = control.name
        self._datatype = datatypes.from_number(control.data_type)

    def check(self, request: InferenceRequest) -> None:
        """InferenceError, with the server's text, if the request's id does not fit."""
        is_text = isinstance(request.correlation_id, str)
        if is_text == (self._datatype is BYTES):
            return
        _refuse(
            f"{request.log_prefix}sequence batching control '{self._control_name}' data-type is "
            f"'{'BYTES' if is_text else 'UINT64'}', but model '{self._model_name}' expects "
            f"'{self._datatype.name}'"
        )


def correlation_id_rule(config: Any) -> CorrelationIdRule | None:
    """The rule of a model whose configuration has such a control; None if it has none."""
    if not config.HasField("sequence_batching"):
        return None
    control = model_config.controls(config).get("CORRID")
    return None if control is None else CorrelationIdRule(config, control)


def zeros(name: str, datatype: datatypes.Datatype, shape: Sequence[int]) -> Tensor:
    """A tensor of zeros, or of empty texts."""
    fill: Any = b"" if datatype is BYTES else 0
    return Tensor(name, datatype, tuple(shape), np.full(tuple(shape), fill, datatype.numpy))


def _refuse(message: str) -> NoReturn:
    raise InferenceError(message, StatusCode.INVALID_ARG)
