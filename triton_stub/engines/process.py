"""One process of the real tritonserver: started, watched, ended, its log kept."""

from __future__ import annotations

import contextlib
import http.client
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from triton_stub.engines.server_log import reasons, tail
from triton_stub.errors import LoadError, StatusCode

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from triton_stub.engines.environment import NativeEnvironment

_GUARD = Path(__file__).with_name("guard.py")
_ATTEMPTS = 5
_LISTEN = "0A"  # a state in /proc/net/tcp
_ENDPOINTS = ("http", "grpc", "metrics")
_PORT_TAKEN = re.compile(r"failed to start \S+ service: Unavailable - Socket '.*' already in use")


@dataclass(frozen=True, slots=True)
class Ports:
    """TCP ports on 127.0.0.1."""

    http: int
    grpc: int
    metrics: int


class ServerProcess:
    """A running tritonserver on free ports of the loopback interface.

    The constructor returns when the server is ready. Nothing of it outlives this process, even one
    that is killed (see ``guard.py``).

    Raises:
        LoadError: the server did not start; the text is what the server says of the reason, and
            the end of its log is attached as a note.
    """

    def __init__(
        self,
        environment: NativeEnvironment,
        arguments: Sequence[str],
        *,
        env: Mapping[str, str],
        startup_timeout: float,
    ) -> None:
        self._final_log: str | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._folder = Path(tempfile.mkdtemp(prefix="triton-stub-native-"))
        deadline = time.monotonic() + startup_timeout
        try:
            backends = _link_backends(environment, self._folder)
            folders = (f"--backend-directory={backends}", f"--cache-directory={environment.caches}")
            command = [str(environment.server), *folders, *arguments]
            variables = environment.variables() | dict(env)
            for _ in range(_ATTEMPTS):
                self.ports = _free_ports()
                self._start(command, variables)
                if self._await_ready(arguments, deadline, startup_timeout):
                    return
            raise self._failure(f"tritonserver found its ports taken, {_ATTEMPTS} times in a row")
        except BaseException:
            self.stop()
            raise

    def log(self) -> str:
        """Return what the server and its models have printed; also after :meth:`stop`."""
        if self._final_log is not None:
            return self._final_log
        try:
            return self._log_file.read_text(errors="replace")
        except FileNotFoundError:
            return ""

    @property
    def status(self) -> int | None:
        """How the server ended by itself, as a shell tells it; None if it runs or was stopped."""
        return None if self._guard is None else self._guard.poll()

    def tail(self) -> str:
        """Return the end of the log under a heading, to be shown with an error."""
        return tail(self.log())

    def stop(self) -> None:
        """End the server (SIGTERM; SIGKILL if that is not enough) and all that it started."""
        if self._final_log is not None:
            return
        self._end()
        self._final_log = self.log()
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def _log_file(self) -> Path:
        return self._folder / "tritonserver.log"

    def _start(self, command: Sequence[str], variables: Mapping[str, str]) -> None:
        # Shared memory regions carry our name, so that what a killed server leaves in /dev/shm
        # can be told from what others use.
        prefix = f"triton_stub_{uuid.uuid4().hex[:12]}_"
        ours = [f"--backend-config=python,shm-region-prefix-name={prefix}"]
        for endpoint in _ENDPOINTS:
            port = getattr(self.ports, endpoint)
            ours += [f"--{endpoint}-address=127.0.0.1", f"--{endpoint}-port={port}"]
        # The libraries are the server's alone: the guard's Python has its own libpython.
        own = dict(variables)
        libraries = f"LD_LIBRARY_PATH={own.pop('LD_LIBRARY_PATH')}"
        guard = [sys.executable, "-I", "-S", "-B", str(_GUARD), prefix, str(self._folder)]
        with self._log_file.open("wb") as log:
            self._guard = subprocess.Popen(
                [*guard, "env", libraries, *command, *ours],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=own,
                # Ctrl-C is for the test run alone, which then stops this server in good order.
                start_new_session=True,
            )

    def _await_ready(self, arguments: Sequence[str], deadline: float, timeout: float) -> bool:
        """Wait until the server is ready; ``False`` if another process took one of its ports."""
        guard = self._guard
        assert guard is not None
        # --exit-on-error=false is the wish to serve what can be served.
        path = "live" if "--exit-on-error=false" in arguments else "ready"
        expected = {
            getattr(self.ports, endpoint)
            for endpoint in _ENDPOINTS
            if f"--allow-{endpoint}=false" not in arguments
        }
        while guard.poll() is None:
            # An answer alone could come from the process that took the port.
            if expected <= self._listening_ports() and _answers(self.ports.http, path):
                return True
            if time.monotonic() > deadline:
                raise self._failure(f"tritonserver was not ready within {timeout:g} s")
            time.sleep(0.05)
        log = self.log()
        if _PORT_TAKEN.search(log):
            self._end()
            return False
        ended = f"tritonserver ended with status {guard.returncode} before it was ready"
        said = "\n".join(reasons(log))
        if said and guard.returncode > 128:  # of a signal, so that what it said is not all
            raise self._failure(f"{ended}\n{said}")
        raise self._failure(said or ended)

    def _listening_ports(self) -> set[int]:
        """TCP ports that the server itself listens on, as the kernel knows it."""
        listening: set[int] = set()
        try:
            open_files = Path("/proc", (self._folder / "pid").read_text(), "fd")
            held = {str(file.readlink()) for file in open_files.iterdir()}
        except OSError:  # not started yet, or a file that was closed meanwhile
            return listening
        # gRPC opens even 127.0.0.1 as an IPv6 socket, where there is IPv6.
        for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
            for line in table.read_text().splitlines()[1:] if table.exists() else ():
                fields = line.split()
                if fields[3] == _LISTEN and f"socket:[{fields[9]}]" in held:
                    listening.add(int(fields[1].rpartition(":")[2], 16))
        return listening

    def _failure(self, text: str) -> LoadError:
        error = LoadError(text, StatusCode.UNAVAILABLE)
        error.add_note(self.tail())
        return error

    def _end(self) -> None:
        guard, self._guard = self._guard, None
        if guard is None:
            return
        assert guard.stdin is not None
        with contextlib.suppress(BrokenPipeError), guard.stdin as pipe:
            pipe.write(b"stop")
        # The guard's own time limits end this; it must live until it has cleaned up.
        guard.wait()


def _link_backends(environment: NativeEnvironment, folder: Path) -> Path:
    """Lay out a backend directory: the stub has to lie beside the backend, as in Triton's image."""
    backends = folder / "backends"
    python = backends / "python"
    python.mkdir(parents=True)
    for file in environment.backend_files:
        (python / file.name).symlink_to(file)
    return backends


def _free_ports() -> Ports:
    with contextlib.ExitStack() as stack:
        # All are held until the last is found, so that they differ.
        sockets = [stack.enter_context(socket.socket()) for _ in range(3)]
        for listener in sockets:
            listener.bind(("127.0.0.1", 0))
        return Ports(*(listener.getsockname()[1] for listener in sockets))


def _answers(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", f"/v2/health/{path}")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
