"""An answer of a model, for people and for programs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from triton_stub import datatypes
from triton_stub.cli.table import table
from triton_stub.datatypes import BYTES, format_shape

if TYPE_CHECKING:
    from triton_stub.core.result import Result
    from triton_stub.datatypes import Array

_FIRST = 4
_LONGEST = 40


def for_people(result: Result) -> str:
    """A table of outputs: what each is, and what is in it."""
    header = ("Output", "Datatype", "Shape", "Min", "Mean", "Max", "First values")
    rows = [
        (name, _datatype(array), format_shape(array.shape), *_extent(array), _first(array))
        for name, array in result.items()
    ]
    parameters = [f"parameter {name}: {value!r}" for name, value in result.parameters.items()]
    return "\n".join([*([table(header, rows)] if rows else ["(no outputs)"]), *parameters])


def for_programs(result: Result) -> str:
    """JSON in one line, as the server answers over HTTP."""
    answer: dict[str, Any] = {
        "model_name": result.model_name,
        "model_version": result.model_version,
    }
    if result.parameters:
        answer["parameters"] = dict(result.parameters)
    answer["outputs"] = [
        {
            "name": name,
            "datatype": _datatype(array),
            "shape": list(array.shape),
            "data": [_plain(item) for item in array.ravel().tolist()],
        }
        for name, array in result.items()
    ]
    return json.dumps(answer, ensure_ascii=False)


def _datatype(array: Array) -> str:
    row = datatypes.from_dtype(array.dtype)
    return str(array.dtype) if row is None else row.name


def _plain(item: Any) -> Any:
    return item.decode(errors="backslashreplace") if isinstance(item, bytes) else item


def _extent(array: Array) -> tuple[str, str, str]:
    if not array.size or datatypes.from_dtype(array.dtype) is BYTES:
        return "", "", ""
    wide = array.astype(np.float64)
    return f"{wide.min():.5g}", f"{wide.mean():.5g}", f"{wide.max():.5g}"


def _first(array: Array) -> str:
    shown = ", ".join(map(_short, array.ravel()[:_FIRST].tolist()))
    return f"{shown}, …" if array.size > _FIRST else shown


def _short(item: Any) -> str:
    if isinstance(item, bool | int):
        return str(item)
    if isinstance(item, float):
        return f"{item:.5g}"
    text = repr(_plain(item))
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
