"""The classification extension: an output as the classes that it finds likeliest.

Source: server ``src/classification.cc``, and what both its ports do around it. Newer than 2.51: a
limit (26.02), and an error for BYTES (25.07), of which older ones die.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from triton_stub import datatypes
from triton_stub.core.tensor import Tensor
from triton_stub.datatypes import BYTES
from triton_stub.endpoints.ranking import descending
from triton_stub.errors import InferenceError, StatusCode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from triton_stub.core.model import ServedModel
    from triton_stub.datatypes import Array

_NOT_CLASSIFIED = {BYTES, *map(datatypes.from_name, ("BOOL", "FP16", "BF16"))}
_MOST_ELEMENTS = 1_000_000


def classify(tensor: Tensor, count: int, model: ServedModel) -> Tensor:
    """The ``count`` greatest values of each row as ``value:index:label``, as BYTES.

    Without a label there is no second colon. InferenceError in the server's words for a datatype
    without an order, or too many classes.
    """
    if tensor.datatype in _NOT_CLASSIFIED:
        raise InferenceError(
            f"class result not available for output due to unsupported type "
            f"'{tensor.datatype.name}'",
            StatusCode.INVALID_ARG,
        )
    batch = tensor.shape[:1] if model.config.max_batch_size else ()
    rows = tensor.to_numpy().reshape(max(1, *batch, 1), -1)
    size = rows.shape[1]
    if size > _MOST_ELEMENTS:
        raise InferenceError("classification output tensor too large", StatusCode.INVALID_ARG)
    labels = model.labels.get(tensor.name, ())
    classes = [line for row in rows for line in _classes(row, min(count, size), labels)]
    shape = (*(size for size in batch if size), min(count, size))
    return Tensor(tensor.name, BYTES, shape, datatypes.encode_bytes(np.array(classes, np.object_)))


def _classes(row: Array, count: int, labels: Sequence[bytes]) -> list[bytes]:
    lines = []
    for index in descending(row, count):
        label = labels[index] if index < len(labels) else b""
        line = b"%s:%d" % (_text(row[index].item()).encode(), index)
        lines.append(b"%s:%s" % (line, label) if label else line)
    return lines


def _text(value: float) -> str:
    """``std::to_string``."""
    if isinstance(value, int):
        return str(value)
    sign = "-" if math.isnan(value) and math.copysign(1, value) < 0 else ""
    return f"{sign}{value:f}"
