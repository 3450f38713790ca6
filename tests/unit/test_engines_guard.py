"""No server outlives the process that started it; a Python program stands in for the server."""

import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from patience import wait_until

from triton_stub.engines import guard

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the guard is Linux's")

# Writes its own and its child's process id, in a process group of their own, and waits.
SERVER = """
import pathlib, signal, subprocess, sys, time
if "stubborn" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
folder = pathlib.Path(sys.argv[1])
(folder / "server").write_text(str(child.pid))
(folder / "ready").touch()
time.sleep(0 if "brief" in sys.argv else 600)
sys.exit(7)
"""
# Stands for the test run: starts the guard, tells its process id, and waits.
OWNER = """
import subprocess, sys, time
guard = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE, start_new_session=True)
print(guard.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "engine"
    path.mkdir()
    return path


@pytest.fixture
def region():
    region = Path(f"/dev/shm/triton_stub_test_{uuid.uuid4().hex}_region")
    region.touch()
    yield region
    region.unlink(missing_ok=True)


def command(folder, region, *words):
    prefix = region.name.removesuffix("region")
    server = [sys.executable, "-c", SERVER, str(folder), *words]
    return [sys.executable, "-I", "-S", guard.__file__, prefix, str(folder), *server]


def start(folder, region, *words):
    return subprocess.Popen(
        command(folder, region, *words), stdin=subprocess.PIPE, start_new_session=True
    )


def lives(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def child(folder):
    wait_until((folder / "ready").exists)
    return int((folder / "server").read_text())


def test_stop_ends_the_server_and_its_children(folder, region):
    with start(folder, region) as process:
        pid = child(folder)
        process.communicate(b"stop")
    assert process.returncode == 128 + signal.SIGTERM
    wait_until(lambda: not lives(pid))
    assert not region.exists()
    assert folder.exists()  # the log is in it, and the owner reads it


def test_server_that_ignores_sigterm_is_killed(folder, region):
    script = Path(guard.__file__).read_text().replace("_GRACE = 40.0", "_GRACE = 0.2")
    (folder / "guard.py").write_text(script)
    words = command(folder, region, "stubborn")
    words[words.index(guard.__file__)] = str(folder / "guard.py")
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        pid = child(folder)
        output, _ = process.communicate(b"stop")
    assert output == b"guard: no end 0.2 s after SIGTERM; killing it\n"
    assert process.returncode == 128 + signal.SIGKILL
    wait_until(lambda: not lives(pid))


def test_server_that_ends_by_itself_leaves_its_status_and_no_children(folder, region):
    with start(folder, region, "brief") as process:
        pid = child(folder)
        assert process.wait() == 7
    wait_until(lambda: not lives(pid))
    assert not region.exists()
    assert folder.exists()


def test_nothing_is_left_when_the_owner_is_killed(folder, region):
    words = [sys.executable, "-c", OWNER, *command(folder, region, "stubborn")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as owner:
        guarding = int(owner.stdout.readline())
        pid = child(folder)
        assert lives(guarding)
        owner.kill()
        wait_until(lambda: not lives(guarding))
    wait_until(lambda: not lives(pid))
    assert not region.exists()
    assert not folder.exists()


def test_owner_is_missed_although_its_pipe_is_held_open(folder, region):
    reader, writer = os.pipe()  # this process holds the writing end, as a forked child would
    script = OWNER.replace("subprocess.PIPE", str(reader))
    words = [sys.executable, "-c", script, *command(folder, region)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, pass_fds=[reader]) as owner:
        guarding = int(owner.stdout.readline())
        pid = child(folder)
        owner.kill()
        wait_until(lambda: not lives(guarding))
    os.close(reader)
    os.close(writer)
    wait_until(lambda: not lives(pid))
    assert not region.exists()


def test_server_dies_with_a_killed_guard(folder, region):
    with start(folder, region, "stubborn") as process:
        pid = child(folder)
        server = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        process.kill()
        wait_until(lambda: not lives(server))
        os.kill(pid, signal.SIGKILL)  # Triton's stubs watch their server; this stand-in does not
