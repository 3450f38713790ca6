"""A request against a model's configuration: the core's checks, in its order, in its words.

Source: core ``src/infer_request.cc``, ``InferenceRequest::Normalize`` and what it calls.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from triton_stub import datatypes, deviations
from triton_stub.core.hash_order import visited
from triton_stub.core.scheduling.sequence_controls import correlation_id_rule
from triton_stub.datatypes import BYTES, format_shape
from triton_stub.errors import InferenceError, StatusCode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from triton_stub.core.request import InferenceRequest
    from triton_stub.core.tensor import Tensor

_BATCH_NOTE = (
    "NOTE: Setting a non-zero max_batch_size in the model config requires a batch dimension to be "
    "prepended to each input shape. If you want to specify the full shape including the batch dim "
    "in your input dims config, try setting max_batch_size to zero. See the model configuration "
    "docs for more info on max_batch_size."
)
_LENGTH_SIZE = 4
_UINT32 = 2**32
_INT64_MAX = 2**63 - 1
_KEPT = 1024  # kinds of requests that a model remembers


class BackendRefusedError(InferenceError):
    """What the backend complains of: the core has let the request pass, and counts a failure."""


@dataclass(slots=True)
class ValidatedRequest:
    """What the checks found out: tensors in the shape the model sees, and the batch size.

    ``batch_size`` is 0 on a model without batching, as in the core.
    """

    batch_size: int
    inputs: Sequence[Tensor]
    requested_outputs: frozenset[str]


class Validator:
    """The checks for one model; made once, because reading a protobuf for each request is slow.

    ``backend`` is whether there is one that checks, too: an ensemble leaves that to its steps.
    """

    def __init__(self, config: Any, *, backend: bool = True) -> None:
        self._has_backend = backend
        self._model_name: str = config.name
        self._max_batch_size: int = config.max_batch_size
        self._inputs = {entry.name: _InputRule(entry) for entry in config.input}
        # Duplicate names are legal in a configuration, and the core counts entries, not names.
        self._input_names = [entry.name for entry in config.input]
        self._required = [entry.name for entry in config.input if not entry.optional]
        self._outputs = frozenset(entry.name for entry in config.output)
        self._correlation_id = correlation_id_rule(config)
        # Requests that have names, datatypes and shapes of their inputs in common pass alike, save
        # for the size of the data. Shared by threads: the worst that happens is to check twice.
        self._passed: dict[object, _Passed] = {}

    def validate(self, request: InferenceRequest) -> ValidatedRequest:
        """Check one request; InferenceError with the server's text if it is refused.

        It is a BackendRefusedError if the backend refuses what the core has let pass.
        """
        key = (
            tuple([(each.name, each.datatype.number, each.shape) for each in request.inputs]),
            tuple(request.requested_outputs),
        )
        passed = self._passed.get(key)
        if passed is None:
            validated = self._validate(request)
            if len(self._passed) >= _KEPT:
                self._passed.clear()
            self._passed[key] = _Passed.of(request, validated)
            return validated
        tensors = request.inputs
        for index, shape, size in passed.checks:
            tensor = tensors[index]
            if type(tensor.data) is not np.ndarray or tensor.data.nbytes != size:
                self._check_size(request, tensor, shape)
        inputs = [
            tensors[index] if shape is None else tensors[index].with_shape(shape)
            for index, shape in passed.inputs
        ]
        if self._correlation_id is not None:
            self._correlation_id.check(request)
        if passed.has_texts and self._has_backend:
            check_last_texts(inputs)
        return ValidatedRequest(passed.batch_size, inputs, passed.requested_outputs)

    def _validate(self, request: InferenceRequest) -> ValidatedRequest:
        validated = self.check(request)
        # What the core lets pass, the backend looks at.
        if self._has_backend:
            if self._max_batch_size and validated.batch_size == 0:
                self._refuse_empty_batch(request)
            check_last_texts(validated.inputs)
        return validated

    def check(self, request: InferenceRequest) -> ValidatedRequest:
        """The core's part of the checks: what a request has to pass that no client has sent."""
        self._check_no_duplicates(request)
        for name in sorted(request.requested_outputs):
            if name not in self._outputs:
                _refuse(f"unexpected inference output '{name}' for model '{self._model_name}'")
        tensors = _in_order(request.inputs)
        self._check_input_count(request, tensors)
        batch_size = self._batch_size(request, tensors)
        # From one map into another: what the model sees has been through the hash table twice.
        inputs = _in_order([self._check_input(request, each, batch_size) for each in tensors])
        if self._correlation_id is not None:
            self._correlation_id.check(request)
        return ValidatedRequest(
            batch_size, inputs, frozenset(request.requested_outputs) or self._outputs
        )

    def _check_no_duplicates(self, request: InferenceRequest) -> None:
        for what, names in (
            ("input", [tensor.name for tensor in request.inputs]),
            # Since r26.05 (AddOriginalRequestedOutput); 2.51 merges duplicate outputs silently.
            ("output", request.requested_outputs),
        ):
            seen: set[str] = set()
            for name in names:
                if name in seen:
                    _refuse(f"{request.log_prefix}{what} '{name}' already exists in request")
                seen.add(name)

    def _check_input_count(self, request: InferenceRequest, tensors: Sequence[Tensor]) -> None:
        # Only counted: a missing required input passes if an optional one makes up the number.
        count = len(tensors)
        if len(self._required) <= count <= len(self._input_names):
            return
        given = [tensor.name for tensor in tensors]
        missing = [name for name in self._required if name not in given]
        if len(self._required) == len(self._input_names):
            expected = f"expected {len(self._input_names)} inputs"
        else:
            expected = (
                f"expected number of inputs between {len(self._required)} and "
                f"{len(self._input_names)}"
            )
        # The core cuts the last character of the list even when that is its bracket.
        missing_text = _quoted(missing) if missing else "]"
        _refuse(
            f"{request.log_prefix}{expected} but got {count} inputs for model "
            f"'{self._model_name}'. Got input(s) {_quoted(given)}, but missing required input(s) "
            f"{missing_text}. Please provide all required input(s)."
        )

    def _rule(self, tensor: Tensor) -> _InputRule:
        rule = self._inputs.get(tensor.name)
        if rule is None:
            _refuse(f"unexpected inference input '{tensor.name}' for model '{self._model_name}'")
        return rule

    def _batch_size(self, request: InferenceRequest, tensors: Sequence[Tensor]) -> int:
        """Rows of the request; also where an unknown input is found out."""
        batch_size = 0
        for tensor in tensors:
            self._rule(tensor)
            if self._max_batch_size == 0:
                continue
            what = f"{request.log_prefix}input '{tensor.name}'"
            if not tensor.shape:
                _refuse(
                    f"{what} has no shape but model requires batch dimension for "
                    f"'{self._model_name}'"
                )
            if batch_size == 0:
                batch_size = tensor.shape[0] % _UINT32  # as the core keeps it
            elif tensor.shape[0] != batch_size:
                _refuse(f"{what} batch size does not match other inputs for '{self._model_name}'")
        if batch_size > self._max_batch_size:
            _refuse(
                f"{request.log_prefix}inference request batch-size must be <= "
                f"{self._max_batch_size} for '{self._model_name}'"
            )
        return batch_size

    def _refuse_empty_batch(self, request: InferenceRequest) -> NoReturn:
        # The backend refuses the first, and never answers the second: its client waits for ever.
        if not request.inputs:
            raise BackendRefusedError(
                f"{request.log_prefix}out of bounds index 0: request has 0 inputs",
                StatusCode.INVALID_ARG,
            )
        _refuse(
            request.log_prefix
            + deviations.EMPTY_BATCH.text(
                "the batch size is 0", f"Send at least one row to '{self._model_name}'"
            )
        )

    def _check_input(self, request: InferenceRequest, tensor: Tensor, batch_size: int) -> Tensor:
        rule = self._rule(tensor)
        prefix, model = request.log_prefix, self._model_name
        if tensor.datatype is not rule.datatype:
            _refuse(
                f"{prefix}inference input '{tensor.name}' data-type is '{tensor.datatype.name}', "
                f"but model '{model}' expects '{rule.datatype.name}'"
            )
        batching = self._max_batch_size > 0
        shape = tensor.shape[1:] if batching else tensor.shape
        fault = _first_fault(shape, rule.dims)
        if fault == -1:
            _refuse(
                f"{prefix}All input dimensions should be specified for input '{tensor.name}' for "
                f"model '{model}', got {format_shape(tensor.shape)}"
            )
        if fault is not None:
            expected = format_shape([-1, *rule.dims] if batching else rule.dims)
            _refuse(
                f"{prefix}unexpected shape for input '{tensor.name}' for model '{model}'. "
                f"Expected {expected}, got {format_shape(tensor.shape)}. "
                + (_BATCH_NOTE if batching else "")
            )
        model_shape = rule.reshaped(shape)
        if batch_size:
            model_shape = (batch_size, *model_shape)
        _check_countable(tensor, model_shape)
        self._check_size(request, tensor, model_shape)
        return tensor if model_shape == tensor.shape else tensor.with_shape(model_shape)

    def _check_size(
        self, request: InferenceRequest, tensor: Tensor, shape: tuple[int, ...]
    ) -> None:
        count = _count(shape)
        if tensor.datatype is not BYTES:
            expected = count * tensor.datatype.itemsize
            if tensor.byte_size != expected:
                _refuse(
                    f"{request.log_prefix}input byte size mismatch for input '{tensor.name}' for "
                    f"model '{self._model_name}'. Expected {expected}, got {tensor.byte_size}"
                )
        elif isinstance(tensor.data, np.ndarray):
            if tensor.data.size != count:
                _refuse(
                    f"{request.log_prefix}expected {count} string elements for inference input "
                    f"'{tensor.name}' for model '{self._model_name}', got {tensor.data.size}"
                )
        else:
            _check_framing(request, tensor.name, tensor.data, count, self._model_name)


class _InputRule:
    """One ``input`` of the configuration, ready for use."""

    def __init__(self, entry: Any) -> None:
        self.datatype = datatypes.from_number(entry.data_type)
        self.dims = tuple(entry.dims)
        self.reshape = tuple(entry.reshape.shape) if entry.HasField("reshape") else None

    def reshaped(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape that the model sees: wildcards of ``reshape`` filled from those of ``dims``."""
        if self.reshape is None:
            return shape
        wild = iter([size for size, dim in zip(shape, self.dims, strict=True) if dim == -1])
        return tuple([next(wild) if dim == -1 else dim for dim in self.reshape])


@dataclass(frozen=True, slots=True)
class _Passed:
    """What is known of a request that passed.

    ``checks`` are the place of each input in the request, its shape for the model, and the bytes
    that an array of it has, -1 if they tell nothing; in the order of the checks. ``inputs`` are
    the place and the shape, None if that is its own, in the order in which the model sees them.
    """

    batch_size: int
    checks: Sequence[tuple[int, tuple[int, ...], int]]
    inputs: Sequence[tuple[int, tuple[int, ...] | None]]
    has_texts: bool
    requested_outputs: frozenset[str]

    @classmethod
    def of(cls, request: InferenceRequest, validated: ValidatedRequest) -> _Passed:
        places = {tensor.name: index for index, tensor in enumerate(request.inputs)}
        seen = {tensor.name: tensor for tensor in validated.inputs}
        checks, inputs = [], []
        for name in [tensor.name for tensor in _in_order(request.inputs)]:
            shape, datatype = seen[name].shape, seen[name].datatype
            size = -1 if datatype is BYTES else _count(shape) * datatype.itemsize
            checks.append((places[name], shape, size))
        for name, tensor in seen.items():
            is_own = tensor.shape == request.inputs[places[name]].shape
            inputs.append((places[name], None if is_own else tensor.shape))
        has_texts = any(tensor.datatype is BYTES for tensor in validated.inputs)
        outputs = validated.requested_outputs
        return cls(validated.batch_size, checks, inputs, has_texts, outputs)


def _count(shape: tuple[int, ...]) -> int:
    return math.prod(shape) if shape else 0


def _in_order(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [tensors[index] for index in visited(tuple([tensor.name for tensor in tensors]))]


def _first_fault(shape: tuple[int, ...], dims: tuple[int, ...]) -> int | None:
    """The first size that does not fit, the number of sizes if that does not; None if all do."""
    if len(shape) != len(dims):
        return len(shape)
    for size, dim in zip(shape, dims, strict=True):
        if size == -1 or dim not in (-1, size):
            return size
    return None


def _check_countable(tensor: Tensor, shape: tuple[int, ...]) -> None:
    # Since r26.03 (GetElementCount and GetByteSize); 2.51 counts on beyond 64 bits and below 0.
    if any(size < 0 for size in shape):
        where = "" if tensor.datatype is not BYTES else " in shape"
        _refuse(
            f"tensor '{tensor.name}' contains an invalid dimension{where} {format_shape(shape)}"
        )
    count = shape[0] if shape else 0
    for size in shape[1:]:
        count *= size
        if count > _INT64_MAX:
            break
    if count * tensor.datatype.itemsize > _INT64_MAX or count > _INT64_MAX:
        what = "element count" if tensor.datatype is BYTES else "byte size"
        _refuse(f"{what} for tensor '{tensor.name}' exceeds maximum size of {_INT64_MAX}")


def _check_framing(
    request: InferenceRequest, name: str, data: bytes | memoryview, expected: int, model: str
) -> None:
    what = f"for inference input '{name}' for model '{model}'"
    prefix, offset, found = request.log_prefix, 0, 0
    while offset < len(data):
        left = len(data) - offset
        if left < _LENGTH_SIZE:
            _refuse(
                f"{prefix}incomplete string length indicator {what}, expecting {_LENGTH_SIZE} "
                f"bytes but only {left} bytes available. Please make sure the string length "
                "indicator is in one buffer."
            )
        found += 1
        if found > expected:
            _refuse(
                f"{prefix}unexpected number of string elements {found} {what}, expecting {expected}"
            )
        offset += _LENGTH_SIZE + _length_at(data, offset)
    if found != expected:
        _refuse(f"{prefix}expected {expected} string elements {what}, got {found}")


def check_last_texts(tensors: Sequence[Tensor]) -> None:
    """What the backend finds out about texts: BackendRefusedError."""
    for tensor in tensors:
        if tensor.datatype is BYTES and not isinstance(tensor.data, np.ndarray):
            _check_last_text(tensor.name, tensor.data)


def _check_last_text(name: str, data: bytes | memoryview) -> None:
    """The text that ends behind the end of the data, which to the core is as good as any."""
    offset = 0
    while offset < len(data):
        length, left = _length_at(data, offset), len(data) - offset - _LENGTH_SIZE
        if length > left:
            raise BackendRefusedError(
                f"incomplete string data for inference input '{name}', expecting string of length "
                f"{length} but only {left} bytes available",
                StatusCode.INVALID_ARG,
            )
        offset += _LENGTH_SIZE + length


def _length_at(data: bytes | memoryview, offset: int) -> int:
    return int.from_bytes(data[offset : offset + _LENGTH_SIZE], "little")


def _quoted(names: Sequence[str]) -> str:
    return "[" + ",".join(f"'{name}'" for name in names) + "]"


def _refuse(message: str) -> NoReturn:
    raise InferenceError(message, StatusCode.INVALID_ARG)
