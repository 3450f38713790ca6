"""A request's large body, which is read from the socket to where it stays."""

from __future__ import annotations

import numpy as np


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
