"""Who is connected to a port, beneath ASGI, and how they leave when it closes."""

from __future__ import annotations

import asyncio

from uvicorn.server import ServerState

_SCRATCH_BYTES = 1 << 16


class Visitors(ServerState):
    """The connections of a port, and what is done for them; used in its event loop alone."""

    def __init__(self) -> None:
        super().__init__()
        #: True once the port closes; whoever comes now, comes too late.
        self.leaving = False
        #: Where connections read to, all of them: each read is made use of before the next one.
        self.scratch = memoryview(bytearray(_SCRATCH_BYTES))
        self._fewer = asyncio.Event()

    def dismiss(self) -> None:
        """Close every connection, but those with a request under way when that is answered."""
        self.leaving = True
        for connection in tuple(self.connections):
            connection.shutdown()

    def expel(self) -> None:
        """Close every connection at once, whatever its client has still to read."""
        for connection in tuple(self.connections):
            connection.transport.abort()

    def one_left(self) -> None:
        """Tell ``gone`` that a connection is closed."""
        self._fewer.set()

    async def gone(self) -> None:
        """Wait until nobody is connected, and nothing is done any more."""
        own = asyncio.current_task()
        # Not the tasks of requests alone: asyncio may be about to make a connection.
        while self.connections or asyncio.all_tasks() - {own}:
            self._fewer.clear()
            if others := asyncio.all_tasks() - {own}:
                await asyncio.wait(others)
            else:
                await self._fewer.wait()
