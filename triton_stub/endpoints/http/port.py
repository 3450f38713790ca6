"""One HTTP port: its socket, and the thread that answers there."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn

from triton_stub.endpoints import sockets
from triton_stub.endpoints.http.connection import Connection
from triton_stub.endpoints.http.visitors import Visitors
from triton_stub.errors import ServerError

if TYPE_CHECKING:
    from starlette.types import ASGIApp

#: A model that never returns must not keep the test run from ending.
GRACE_SECONDS: float | None = 30
# Clients keep connections in pools; one that is closed under them is an error to them.
_KEEP_ALIVE_SECONDS = 3600


class _Config(uvicorn.Config):
    """Leaves uvicorn's loggers alone: whoever has a uvicorn in this process has set them up."""

    def configure_logging(self) -> None:
        """Called by uvicorn."""


class Port:
    """One port, and the application that answers there, in a thread of its own.

    Connections are uvicorn's, its server is not: that looks for the end ten times a second, and
    for the end of its connections as often, so that each port would take 0.2 s to stop.
    """

    def __init__(self, app: ASGIApp, host: str, port: int) -> None:
        self._app = app
        self._host = host
        self._port = port
        self._listener: socket.socket | None = None
        self._runner: asyncio.Runner | None = None
        self._closing = asyncio.Event()
        self._thread: threading.Thread | None = None

    @property
    def is_open(self) -> bool:
        """True between ``start`` and ``stop``."""
        return self._thread is not None

    @property
    def url(self) -> str:
        """``"host:port"``."""
        return sockets.url(self._host, self._port)

    def check_not_started(self) -> None:
        """ServerError if it is open."""
        if self._thread is not None:
            raise ServerError(f"the HTTP endpoint at {self.url} was started before")

    def listen(self) -> None:
        """Take the port; whoever connects now, waits until it is started."""
        if self._listener is not None:
            return
        self._listener = sockets.listen("HTTP", self._host, self._port)
        if self._listener.family != socket.AF_UNIX:
            self._port = self._listener.getsockname()[1]
            # Inherited by each connection. asyncio sets it only on sockets whose protocol number
            # is IPPROTO_TCP, and without it every answer waits 40 ms for the client's next packet.
            self._listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def start(self) -> None:
        """Open the port; connections are accepted when this returns."""
        self.listen()
        assert self._listener is not None
        runner = asyncio.Runner(loop_factory=asyncio.SelectorEventLoop)
        loop = runner.get_loop()  # made here, so that ``close`` has it at once
        closing = asyncio.Event()
        thread = threading.Thread(
            target=_run,
            args=(runner, self._app, self._listener, closing),
            name=f"http {self.url}",
            daemon=True,
        )
        try:
            thread.start()
        except BaseException:
            loop.close()
            raise
        self._runner, self._closing, self._thread = runner, closing, thread

    def close(self) -> None:
        """Have the port closed soon, and wait for nobody."""
        if self._runner is not None:
            with contextlib.suppress(RuntimeError):  # its loop has ended
                self._runner.get_loop().call_soon_threadsafe(self._closing.set)

    def stop(self) -> None:
        """Close the port, and answer the requests that are under way."""
        self.close()
        if self._thread is not None:
            self._thread.join()
        if self._listener is not None:
            self._listener.close()
            if self._host.startswith(sockets.UNIX):
                # Or nobody can take this place again.
                Path(self._host.removeprefix(sockets.UNIX)).unlink(missing_ok=True)
        self._runner = self._thread = self._listener = None


def _run(
    runner: asyncio.Runner, app: ASGIApp, listener: socket.socket, closing: asyncio.Event
) -> None:
    with runner:
        runner.run(_serve(app, listener, closing))


async def _serve(app: ASGIApp, listener: socket.socket, closing: asyncio.Event) -> None:
    """Answer whoever connects, until the port is to close and all are answered."""
    config = _Config(
        app,
        http=Connection,
        ws="none",
        lifespan="off",
        interface="asgi3",
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
    )
    config.load()
    loop = asyncio.get_running_loop()
    visitors = Visitors()
    server = await loop.create_server(
        lambda: Connection(config, visitors, {}), sock=listener, backlog=sockets.BACKLOG
    )
    await closing.wait()
    # In this order: asyncio cannot make a connection any more of what it has accepted before.
    loop.remove_reader(listener)
    await asyncio.sleep(0)
    server.close()
    visitors.dismiss()
    try:
        async with asyncio.timeout(GRACE_SECONDS):
            await visitors.gone()
    except TimeoutError:
        visitors.expel()
        # First the connections are told that they are lost, then ends whatever writes to them.
        # What is still done after that, is cancelled at the end of the loop.
        for _ in range(2):
            await asyncio.sleep(0)
