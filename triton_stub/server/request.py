"""``InferenceRequest`` of the in-process API.

Source of rules and texts: core, ``python/tritonserver/_api/_request.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from triton_stub.core import request as core_request
from triton_stub.errors import InvalidArgumentError
from triton_stub.pb_utils.casters import c_string
from triton_stub.server.tensor import to_core

if TYPE_CHECKING:
    import asyncio
    import queue
    from collections.abc import Sequence

    from triton_stub.core.request import Parameter
    from triton_stub.server.memory import DeviceOrMemoryType
    from triton_stub.server.model import Model

_PARAMETERS = (str, int, float, bool)


@dataclass
class InferenceRequest:
    """One request to a model.

    ``inputs`` are NumPy arrays, lists, ``Tensor`` or anything with ``__dlpack__``, by name;
    ``timeout`` is in microseconds. Each response goes into ``response_queue``, too, if there is
    one: a ``queue.SimpleQueue`` for ``Model.infer``, an ``asyncio.Queue`` for
    ``Model.async_infer``. ``requested_outputs``, which NVIDIA's API has not, is empty for all.
    """

    model: Model
    request_id: str | None = None
    flags: int = 0
    correlation_id: int | str | None = None
    priority: int = 0
    timeout: int = 0
    inputs: dict[str, Any] = field(default_factory=dict)
    parameters: dict[str, Parameter] = field(default_factory=dict)
    output_memory_type: DeviceOrMemoryType | None = None
    response_queue: queue.SimpleQueue[Any] | asyncio.Queue[Any] | None = None
    requested_outputs: Sequence[str] = ()

    def to_core(self) -> core_request.InferenceRequest:
        """The request as it goes to the model, with memory of its own."""
        for name, value in self.parameters.items():
            if type(value) not in _PARAMETERS:
                raise InvalidArgumentError(
                    f"Unsupported Value. Can't convert {type(value)} to Request Parameter: {name!r}"
                )
        return core_request.InferenceRequest(
            model_name=self.model.name,
            model_version=self.model.version,
            request_id=c_string(self.request_id or ""),
            inputs=[to_core(name, value) for name, value in by_name(self.inputs).items()],
            requested_outputs=self.requested_outputs,
            parameters={
                name: core_request.own_parameter(name, value)
                for name, value in self.parameters.items()
            },
            correlation_id=core_request.own_correlation_id(self.correlation_id or 0),
            flags=self.flags,
            priority=self.priority,
            timeout=self.timeout,
        )


def by_name(inputs: Any) -> Mapping[str, Any]:
    """The same; TypeError unless these are arrays by the names of inputs."""
    if isinstance(inputs, (dict, Mapping)):  # a dict is known to be one at once
        return inputs
    raise TypeError(
        'inputs: expected arrays by the names of inputs, such as {"IN": array}; got '
        f"{type(inputs).__name__}"
    )
