"""Runs one server and lets nothing of it outlive the process that asked for it.

    python -I guard.py SHM_PREFIX FOLDER COMMAND...

It stands between a test run and its server, in a session of its own, and reads its standard input:
``stop`` ends the server in good order; end of file, which the kernel delivers however the test run
died (SIGKILL too), ends it at once. Then it kills what the server started and removes the server's
shared memory, and after an end of file ``FOLDER`` as well. It exits with the server's status.

While the server runs, its process id is in ``FOLDER/pid``.

Only the standard library, run as a file: it must start in milliseconds and import none of us.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1
# Triton itself waits up to 30 s for requests in flight before it unloads (--exit-timeout-secs).
_GRACE = 40.0
_TICK = 0.1
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108, the kernel's place for it


def main(shm_prefix: str, folder: str, *command: str) -> int:
    """Run ``command`` until it ends, is told to end, or nobody is left who wants it."""
    parent = os.getppid()
    libc = ctypes.CDLL(None, use_errno=True)

    def die_with_guard() -> None:
        # Should somebody SIGKILL the guard itself. Only this thread ever starts anything, so the
        # signal cannot come early: it is sent when the *thread* that forked dies.
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    server = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        process_group=0,
        preexec_fn=die_with_guard,  # noqa: PLW1509, there is one thread
    )
    Path(folder, "pid").write_text(str(server.pid))
    order = b""
    while server.poll() is None:
        # A forked child of the test run may hold the pipe open: so look at the parent, too.
        if os.getppid() != parent:
            break
        if select.select([0], [], [], _TICK)[0]:
            order = os.read(0, 16)
            break
    # Without an order but with the server alive, the test run is gone.
    orphaned = not order and server.poll() is None
    if order:
        server.terminate()
        try:
            server.wait(_GRACE)
        except subprocess.TimeoutExpired:
            print(f"guard: no end {_GRACE:g} s after SIGTERM; killing it", flush=True)
    with contextlib.suppress(ProcessLookupError):
        # The Python backend's stubs share the server's process group.
        os.killpg(server.pid, signal.SIGKILL)
    status = server.wait()
    for region in _SHARED_MEMORY.glob(f"{shm_prefix}*"):
        region.unlink(missing_ok=True)
    if orphaned or os.getppid() != parent:
        shutil.rmtree(folder, ignore_errors=True)
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
