"""What an answer is written to: its head leaves together with what follows at once."""

from __future__ import annotations

import asyncio
from typing import Any

# Up to here bytes are joined, and then one call of the system is saved, which costs more.
_JOIN_BYTES = 1 << 16


class Outbox(asyncio.Transport):
    """Another transport, but for small writes: they wait for the next one.

    Not for long: whatever happens next in the event loop, or to the transport, is after them.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__()
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._waiting: bytes | bytearray | memoryview = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write, now or soon; nothing, once it is closed."""
        if self._transport.is_closing():
            return  # asyncio would warn of each write to a client that has gone
        if self._waiting:
            if len(data) <= _JOIN_BYTES:
                data = b"".join((self._waiting, data))
            else:
                self._transport.write(self._waiting)
            self._waiting = b""
            self._transport.write(data)
        elif len(data) <= _JOIN_BYTES:
            self._waiting = bytes(data)
            self._loop.call_soon(self._flush)
        else:
            self._transport.write(data)

    def is_closing(self) -> bool:
        """True once it is closed, or about to be."""
        return self._transport.is_closing()

    def close(self) -> None:
        """Close it, after what has been written."""
        self._flush()
        self._transport.close()

    def abort(self) -> None:
        """Close it at once, whatever has been written."""
        self._waiting = b""
        self._transport.abort()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """As asyncio has it."""
        return self._transport.get_extra_info(name, default)

    def pause_reading(self) -> None:
        """Read nothing for now."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read again."""
        self._transport.resume_reading()

    def _flush(self) -> None:
        if self._waiting:
            waiting, self._waiting = self._waiting, b""
            self._transport.write(waiting)
