"""What to do about a server in a container that did not start, or that fails."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# What is looked for in the server's log and in texts of errors, and what it means.
_HINTS = [
    (
        r"use '--shm-size' flag|shared memory (pool|key|region)[^\n]*No space left on device"
        r"|ended with status 135\b",  # 128 + SIGBUS: a page of /dev/shm that is not there
        "the container's shared memory ({shm_size}) is full: every instance of a model takes 1 MB "
        "of it, and more as its tensors grow; raise shm_size (--triton-shm-size)",
    ),
    (
        r"_ARRAY_API not found|compiled using NumPy 1\.x cannot be run|numpy\.dtype size changed",
        "a package of the image was made for another NumPy; the Python backend of Triton 2.51 "
        'needs "numpy<2"',
    ),
    (
        r"invalid or unsupported gpu id|has kind KIND_GPU but no GPUs are available"
        r"|no CUDA-capable device|CUDA_ERROR_NO_DEVICE|Unable to initialize backend 'cuda'",
        "the model asks for a GPU, and the container has none: give it one with gpus "
        "(--triton-gpus=all), or say KIND_CPU or KIND_AUTO in config.pbtxt",
    ),
    (
        r"No module named '(?P<module>[\w.]+)'",
        "the Python of the image has no module {module}: build an image that has what the models "
        "import (see ci/Dockerfile of triton-stub)",
    ),
    (
        r"Permission denied[^\n]*/models|/models[^\n]*Permission denied"
        r"|failed to open [^\n]*/models",
        "the user of the container may be unable to read the model repository: let everybody read "
        "it (chmod -R a+rX), or name another user",
    ),
    (
        r"Read-only file system",
        "models are mounted read-only: let them write elsewhere, to a volume (volumes=) say",
    ),
    (
        r"exec: \"tritonserver\": executable file not found|tritonserver: (command )?not found",
        "the image has no tritonserver: name one that is made from NVIDIA's "
        "nvcr.io/nvidia/tritonserver:<yy.mm>-py3",
    ),
    (
        r"exec format error",
        "the image is for another processor than this engine's",
    ),
    (
        r"ran out of memory|ended with status 137\b",
        "something has killed the container, mostly because memory ran out",
    ),
    (
        r"\bryuk\b",
        "testcontainers wants to start a container of its own that cleans up; where its image "
        "cannot be had: export TESTCONTAINERS_RYUK_DISABLED=true",
    ),
]


def hints(text: str, *, shm_size: str) -> Iterator[str]:
    """Yield a line for each cause that ``text`` shows; ``shm_size`` is what the container has."""
    for pattern, hint in _HINTS:
        if found := re.search(pattern, text):
            yield "hint: " + hint.format(shm_size=shm_size, **_quoted(found.groupdict()))


def _quoted(names: dict[str, str | None]) -> dict[str, str]:
    return {name: value or "" for name, value in names.items()}
