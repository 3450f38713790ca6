"""Inputs that are, for the model, in the memory of a GPU that is not there."""

from __future__ import annotations

from typing import Any

import numpy as np

from triton_stub.core.tensor import OnGpu


def on_gpu(array: Any) -> OnGpu:
    """Pretend that an input is in GPU memory: ``server.model("m")(IN=on_gpu(array))``.

    So a model's branch for such tensors is tested on a machine without a GPU. A model gets them, as
    on the server, only if its configuration has the parameter FORCE_CPU_ONLY_INPUT_TENSORS "no";
    any other gets the array in CPU memory. There ``is_cpu()`` is False, and ``as_numpy()`` raises
    the server's TritonModelException. What is not real: DLPack shows CPU memory, ``(1, 0)``, so
    that every framework can read it. A tensor that the model makes of it with
    ``Tensor.from_dlpack`` is on the pretended GPU as well, also in a response and in a request of
    the model's own; a client gets values as always.

    Only models of the stub that are asked in this process take it: others are a TypeError.
    """
    return OnGpu(np.asarray(array))
