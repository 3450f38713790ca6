"""The answer to one inference request, as numpy arrays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


# Not compared: arrays have no plain equality.
@dataclass(slots=True, eq=False)
class Result(Mapping[str, "np.ndarray"]):
    """A mapping of output names to numpy arrays, in the order of the response.

    BYTES outputs are object arrays of ``bytes``, BF16 outputs ``ml_dtypes.bfloat16`` arrays.
    ``final`` is True for the last response to a request; that of a decoupled model may be empty.
    """

    outputs: Mapping[str, np.ndarray]
    model_name: str
    model_version: str
    request_id: str = ""
    parameters: Mapping[str, object] = field(default_factory=dict)
    final: bool = True

    def __getitem__(self, name: str) -> np.ndarray:
        try:
            return self.outputs[name]
        except KeyError:
            raise KeyError(
                f"model {self.model_name!r} sent no output {name!r}; it sent {list(self.outputs)}"
            ) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self.outputs)

    def __len__(self) -> int:
        return len(self.outputs)
