"""Fetch the wheels that a lock names, for the Python of an image, which need not be this one.

python ci/wheels.py ci/requirements-cpu.txt 3.11 FOLDER
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from packaging.requirements import Requirement


def chosen(lock: str, python: str) -> str:
    """Return what of a lock is for Linux on x86_64 with ``python``, without markers.

    ``pip download --python-version`` does not do it: it evaluates markers for its own Python.
    """
    target = {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "platform_machine": "x86_64",
    }
    kept = []
    for line in lock.replace("\\\n", " ").splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            named, *hashes = line.split(" --hash=")
            requirement = Requirement(named)
            if requirement.marker is None or requirement.marker.evaluate(target):
                requirement.marker = None
                kept.append(" --hash=".join([str(requirement), *map(str.strip, hashes)]))
    return "".join(f"{line}\n" for line in kept)


def main() -> int:
    """Fetch the wheels into the folder; return the exit status."""
    parser = argparse.ArgumentParser(description="Fetch the wheels that a lock names.")
    parser.add_argument("lock", type=Path)
    parser.add_argument("python", help='version of the image\'s Python: "3.11"')
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    # Every wheel for this C library (Debian 12's 2.36) or an older one.
    platforms = [f"manylinux_2_{minor}_x86_64" for minor in range(5, 37)] + ["manylinux2014_x86_64"]
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as requirements:
        requirements.write(chosen(given.lock.read_text(), given.python))
        requirements.flush()
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--require-hashes", "--only-binary=:all:", "--python-version", given.python]
        command += [f"--platform={platform}" for platform in platforms]
        command += ["--requirement", requirements.name, "--dest", str(given.folder)]
        return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
