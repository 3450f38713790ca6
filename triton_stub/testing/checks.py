"""``check_outputs``: does an answer fit the configuration? No server ever looks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from triton_stub import datatypes
from triton_stub.core.request import InferenceResponse
from triton_stub.datatypes import Datatype, format_shape
from triton_stub.testing.configs import read_config

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from triton_stub.core.result import Result
    from triton_stub.datatypes import Array
    from triton_stub.testing.configs import ConfigLike


def check_outputs(
    config: ConfigLike,
    result: Result | InferenceResponse | Mapping[str, Array],
    *,
    batch_size: int | None = None,
    outputs: Collection[str] | None = None,
) -> None:
    """Check names, datatypes and shapes of an answer against the model's configuration.

    Triton sends whatever a Python model returns: a missing output, float64 where FP32 is promised
    or a forgotten batch dimension is the client's surprise.

    Args:
        config: as for ``from_config``.
        result: what ``triton.infer`` or ``model(...)`` returned, or a dict of arrays. Only an
            ``InferenceResponse``, from ``model.infer``, can show that an output was sent twice.
        batch_size: rows that were asked for. Unless given, outputs must agree with each other.
        outputs: names that were asked for; all of the configuration unless given.

    Raises:
        AssertionError: something does not fit; the text lists everything that does not.
    """
    __tracebackhide__ = True
    model = read_config(config)
    if batch_size is not None and not model.max_batch_size:
        raise ValueError(
            f"batch_size={batch_size}, but model '{model.name}' does not batch (max_batch_size: 0)"
        )
    sent = _sent(result)
    found = [*_name_problems(model, [each.name for each in sent], outputs)]
    promised = {entry.name: entry for entry in model.output}
    for each in sent:
        if each.name in promised:
            found += _datatype_problems(each, promised[each.name])
            found += _shape_problems(each, promised[each.name], model.max_batch_size)
    if model.max_batch_size:
        found += _batch_problems(sent, batch_size)
    if found:
        lines = "".join(f"\n  - {problem}" for problem in found)
        raise AssertionError(f"the answer of model '{model.name}' breaks its configuration:{lines}")


@dataclass(frozen=True, slots=True)
class _Sent:
    """What is looked at of an output tensor; ``datatype`` is None if Triton has none for it."""

    name: str
    datatype: Datatype | None
    dtype: str
    shape: tuple[int, ...]


def _sent(result: Result | InferenceResponse | Mapping[str, Array]) -> list[_Sent]:
    if isinstance(result, InferenceResponse):
        if result.error is not None:
            raise result.error
        return [
            _Sent(tensor.name, tensor.datatype, str(tensor.datatype.numpy), tensor.shape)
            for tensor in result.tensors
        ]
    arrays = {name: np.asarray(result[name]) for name in result}
    return [
        _Sent(name, datatypes.from_dtype(array.dtype), str(array.dtype), array.shape)
        for name, array in arrays.items()
    ]


def _name_problems(model: Any, names: list[str], outputs: Collection[str] | None) -> Iterator[str]:
    promised = [entry.name for entry in model.output]
    for name in promised if outputs is None else outputs:
        if name not in names:
            yield (
                f"output '{name}' is missing; the answer has {names}: return a Tensor of that name "
                "in the InferenceResponse (Triton drops names that are not in the configuration)"
            )
    for name in dict.fromkeys(names):
        if name not in promised:
            yield f"output '{name}' is not in the configuration, which has {promised}"
        if names.count(name) > 1:
            yield f"output '{name}' is there {names.count(name)} times: return it once"


def _datatype_problems(sent: _Sent, entry: Any) -> Iterator[str]:
    expected = datatypes.from_number(entry.data_type)
    if sent.datatype is not expected:
        yield (
            f"output '{sent.name}' has dtype {sent.dtype}, the configuration says "
            f"{expected.config_name}: return an array of dtype {expected.numpy}, or correct "
            "data_type"
        )


def _shape_problems(sent: _Sent, entry: Any, max_batch_size: int) -> Iterator[str]:
    promised = [-1, *entry.dims] if max_batch_size else [*entry.dims]
    if len(sent.shape) == len(promised) and all(
        dim in (-1, size) for dim, size in zip(promised, sent.shape, strict=True)
    ):
        return
    note = " (the first is the batch dimension, which dims leave out)" if max_batch_size else ""
    yield (
        f"output '{sent.name}' has shape {format_shape(sent.shape)}, the configuration says "
        f"{format_shape(promised)}{note}: reshape the array, or correct dims"
    )


def _batch_problems(sent: list[_Sent], batch_size: int | None) -> Iterator[str]:
    rows = {each.name: each.shape[0] for each in sent if each.shape}
    if batch_size is None:
        if len(set(rows.values())) > 1:
            yield f"outputs have different batch sizes, {rows}: return a row for each of the input"
        return
    for name, found in rows.items():
        if found != batch_size:
            yield (
                f"output '{name}' has {found} rows, but {batch_size} were asked for: return a row "
                "for each of the input"
            )
