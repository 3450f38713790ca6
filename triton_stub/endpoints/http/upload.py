"""A request's large body, which is read from the socket to where it stays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping

    #: Gets a request's scope, and how large its body may be at most.
    Begin = Callable[[MutableMapping[str, Any], int], "Upload | None"]

#: In the state of a request: how its upload is begun. None comes back if its body is small, of
#: unknown size, larger than it may be, or there already.
BEGIN = "triton_stub.begin_upload"


class Upload:
    """Memory for a body of ``size`` bytes, of which the first are ``head``."""

    def __init__(self, size: int, head: bytes) -> None:
        # Not a bytearray, which begins with zeros: they cost as much as a copy, and a client that
        # announces 2 GB would have them.
        self._memory = np.empty(size, np.uint8).data
        self._memory[: len(head)] = head
        self._filled = len(head)

    @property
    def body(self) -> memoryview:
        """The whole, for reading."""
        return self._memory.toreadonly()

    def rest(self) -> memoryview:
        """Where the next bytes go; empty when all are there."""
        return self._memory[self._filled :]

    def add(self, size: int) -> bool:
        """So many bytes have come; True if these were the last."""
        self._filled += size
        return self._filled == len(self._memory)
