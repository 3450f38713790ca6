"""``InferenceRequest`` as the server hands it to ``execute``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Self

from triton_stub.errors import UnsupportedFeatureError
from triton_stub.pb_utils.pybind import PybindObject

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from triton_stub.pb_utils.tensor import Tensor


class InferenceRequest(PybindObject):
    """One request of the list that ``execute`` gets."""

    __slots__ = (
        "_correlation_id",
        "_flags",
        "_inputs",
        "_parameters",
        "_request_id",
        "_requested_output_names",
        "_timeout",
    )
    __module__ = "c_python_backend_utils"

    _correlation_id: int | str
    _flags: int
    _inputs: list[Tensor]
    _parameters: dict[str, Any]
    _request_id: str
    _requested_output_names: frozenset[str]
    _timeout: int

    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        raise UnsupportedFeatureError(
            "this release of triton_stub does not imitate requests from inside a model (BLS): "
            "test this model with --triton-engine=native"
        )

    @classmethod
    def _received(
        cls,
        inputs: Iterable[Tensor],
        requested_output_names: Iterable[str],
        *,
        request_id: str = "",
        correlation_id: int | str = 0,
        flags: int = 0,
        timeout: int = 0,
        parameters: Mapping[str, Any],
    ) -> Self:
        request = cls.__new__(cls)
        request._inputs = list(inputs)
        request._requested_output_names = frozenset(requested_output_names)
        request._request_id = request_id
        request._correlation_id = correlation_id
        request._flags = flags
        request._timeout = timeout
        request._parameters = dict(parameters)
        return request

    def inputs(self) -> list[Tensor]:
        """A new list of the same tensors; an optional input that was not sent is missing.

        The order promises nothing: the server's own is that of a hash table.
        """
        return list(self._inputs)

    def requested_output_names(self) -> set[str]:
        """What the client asked for; all outputs of the configuration if it asked for none."""
        return set(self._requested_output_names)

    def request_id(self) -> str:
        """The client's id of the request, or an empty string."""
        return self._request_id

    def correlation_id(self) -> int | str:
        """The sequence that the request belongs to; 0 if none."""
        return self._correlation_id

    def flags(self) -> int:
        """Bit 1: start of a sequence, bit 2: its end."""
        return self._flags

    def timeout(self) -> int:
        """Microseconds; 0 if the client set none."""
        return self._timeout

    def parameters(self) -> str:
        """The client's own parameters as JSON text without blanks."""
        return json.dumps(self._parameters, separators=(",", ":"), ensure_ascii=False)
