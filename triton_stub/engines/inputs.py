"""Arrays as input tensors of a real client, over HTTP or gRPC."""

from __future__ import annotations

from typing import Any

import numpy as np
from tritonclient.utils import np_to_triton_dtype


def to_input(kind: type[Any], name: str, array: np.ndarray) -> Any:
    """Make a ``kind``, the ``InferInput`` of one of the clients; TypeError for a wrong dtype."""
    array = np.asarray(array)
    if array.dtype.kind == "U":
        array = array.astype(object)  # BYTES on the wire; the client encodes each as UTF-8.
    datatype = np_to_triton_dtype(array.dtype)
    if datatype is None:
        raise TypeError(
            f"input {name!r} has dtype {array.dtype}, which Triton has no datatype for; expected "
            "bool, an integer, float16, float32, float64, ml_dtypes.bfloat16, or bytes"
        )
    return kind(name, list(array.shape), datatype).set_data_from_numpy(array)
