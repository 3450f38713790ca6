"""Requests that an instance executes before it is ready: ``model_warmup``.

Source: core ``src/backend_model_instance.cc``, ``GenerateWarmupData`` and ``WarmUp``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from triton_stub import datatypes
from triton_stub.core.request import InferenceRequest
from triton_stub.core.responses import Responses
from triton_stub.core.scheduling.scheduler import NOT_HANDLED, Pending
from triton_stub.core.tensor import Tensor
from triton_stub.core.validation import ValidatedRequest, Validator, check_last_texts
from triton_stub.datatypes import BYTES, Datatype
from triton_stub.errors import InferenceError, LoadError, StatusCode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from triton_stub.core.clock import Clock

_FOLDER = "warmup"
# Of what has no size of its own: texts, which are empty, and what has no datatype.
_ITEM_SIZE = 4
_NO_DATATYPE = Datatype("<invalid>", "TYPE_INVALID", 0, np.dtype("V4"), _ITEM_SIZE)


@dataclass(frozen=True, slots=True)
class Sample:
    """One ``model_warmup``: one request, so many times in a batch, so many batches."""

    name: str
    batch_size: int
    count: int
    request: InferenceRequest
    validated: ValidatedRequest


class Unscheduled:
    """In place of a queue, of which such requests have never been a part."""

    is_iterative = False

    def release(self, pending: Pending) -> None:
        """A request has been executed."""

    def reschedule(self, pending: Pending) -> str:  # noqa: ARG002 - as of every queue
        """Why a request is not executed again."""
        return NOT_HANDLED

    def instead(self, pending: Pending) -> str:  # noqa: ARG002 - as of every queue
        """What a request that would be is answered with."""
        return NOT_HANDLED


class WarmUp:
    """The samples of a model for one of its instances.

    LoadError, in the server's words, if one is no request to this model.
    """

    def __init__(self, config: Any, directory: Path, instance_name: str) -> None:
        self._config = config
        self._folder = directory / _FOLDER
        self._instance_name = instance_name
        self._validator = Validator(config)
        self._names = {entry.name for entry in config.input}
        try:
            self.samples = [
                self._sample(setting) for setting in config.model_warmup if setting.batch_size
            ]
        except InferenceError as error:
            raise LoadError(error.message, error.code) from error

    def run(self, execute: Callable[[list[Pending]], None], clock: Clock) -> None:
        """Execute the samples, one batch after the other; LoadError at the first that fails."""
        for sample in self.samples:
            for _ in range(max(1, sample.count)):
                batch = [
                    Pending(sample.request, sample.validated, clock.now(), Responses())
                    for _ in range(sample.batch_size)
                ]
                errors = self._errors(sample)
                if not errors:
                    execute(batch)
                    errors = [text for pending in batch for text in _errors(pending.answer)]
                if errors:
                    # Some real servers live on, some do not: deviations.FAILED_WARMUP.
                    raise LoadError(
                        f"failed to run warmup sample '{sample.name}': "
                        + "".join(f"{text}; " for text in errors),
                        StatusCode.INVALID_ARG,
                    )

    def _errors(self, sample: Sample) -> list[str]:
        """What the backend refuses of a batch that no scheduler has made."""
        allowed = self._config.max_batch_size
        text = ""
        if sample.batch_size > max(1, allowed):
            text = (
                f"batch size {sample.batch_size} for '{self._instance_name}', "
                f"max allowed is {allowed}"
            )
        elif allowed and not sample.validated.inputs:
            text = f"{sample.request.log_prefix}out of bounds index 0: request has 0 inputs"
        else:
            try:
                check_last_texts(sample.validated.inputs)
            except InferenceError as error:
                text = error.message
        return [text] * sample.batch_size if text else []

    def _sample(self, setting: Any) -> Sample:
        # The server's own order is that of a hash table with a seed of its own.
        entries = sorted(setting.inputs.items())
        for name, entry in entries:
            if -1 in entry.dims:
                raise LoadError(
                    "warmup setting expects all variable-size dimensions are specified for input "
                    f"'{name}'",
                    StatusCode.INVALID_ARG,
                )
        random = np.random.default_rng(0)
        tensors = [self._tensor(name, entry, random) for name, entry in entries]
        request = InferenceRequest(
            model_name=self._config.name,
            inputs=[tensor for tensor in tensors if tensor.name in self._names],
        )
        validated = self._validator.check(request)
        # What is no input of the configuration may be one that a scheduler would add.
        added = [tensor for tensor in tensors if tensor.name not in self._names]
        validated.inputs = [*validated.inputs, *added]
        return Sample(setting.name, setting.batch_size, setting.count, request, validated)

    def _tensor(self, name: str, entry: Any, random: np.random.Generator) -> Tensor:
        datatype = datatypes.from_number(entry.data_type) if entry.data_type else _NO_DATATYPE
        batch = [1] if self._config.max_batch_size else []
        count = math.prod(entry.dims) if entry.dims else 0
        size = max(0, count) * (datatype.itemsize or _ITEM_SIZE)
        return Tensor(
            name, datatype, (*batch, *entry.dims), self._data(name, entry, datatype, size, random)
        )

    def _data(
        self, name: str, entry: Any, datatype: Datatype, size: int, random: np.random.Generator
    ) -> bytes:
        kind = entry.WhichOneof("input_data_type")
        if kind == "input_data_file":
            return self._file(entry.input_data_file, size, datatype)
        if kind == "random_data" and datatype is not BYTES:
            return random.bytes(size)
        if kind is None:
            raise LoadError(
                f"[request id: <id_unknown>] warmup setting expects input '{name}' to have "
                "input_data_type set",
                StatusCode.INVALID_ARG,
            )
        return bytes(size)

    def _file(self, name: str, size: int, datatype: Datatype) -> bytes:
        path = self._folder / name
        try:
            data = path.read_bytes()
        except OSError:
            raise LoadError(
                f"failed to open text file for read {path}: No such file or directory"
            ) from None
        if datatype is BYTES:
            return data
        if len(data) < size:
            # The blank that is missing is the server's.
            raise LoadError(
                f"[request id: <id_unknown>] warmup setting expects {size} bytes, but the data "
                f"provided from {name}only has {len(data)} bytes",
                StatusCode.INVALID_ARG,
            )
        return data[:size]


def _errors(answer: Responses) -> Iterator[str]:
    while True:
        response = answer.get(None)
        if response.error is not None:
            yield response.error.message
        if response.final:
            return
