"""A short run of the fuzzer over HTTP; ``nox -s fuzz`` has long ones, and others each time."""

import subprocess
import sys
from pathlib import Path

FUZZ = Path(__file__).parents[1] / "bench" / "fuzz.py"


def test_malformed_http_requests():
    command = [sys.executable, str(FUZZ), "--http=500", "--grpc=0", "--seed=0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr
    assert "HTTP: 500 sent" in done.stdout
    assert done.stdout.endswith("\nnothing is wrong\n")
