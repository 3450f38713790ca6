"""Two objects of shared memory, which both servers may register, one after the other."""

from __future__ import annotations

import struct
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import tritonclient.utils.shared_memory as shm
from tritonclient.utils import InferenceServerException

SIZE = 8192
#: The real server must not be told of one object twice (see ``test_one_object_twice``).
KEY, OTHER = (f"/triton_stub_{uuid.uuid4().hex[:12]}" for _ in range(2))
#: At the beginning of the object ``KEY``.
VALUES = struct.pack("<4f", 1, 2, 3, 4)
REGION, BYTE_SIZE, OFFSET = (f"shared_memory_{name}" for name in ("region", "byte_size", "offset"))


@contextmanager
def shared_objects() -> Iterator[Any]:
    """Both, and tritonclient's handle of ``KEY``: there are ``VALUES``, then zeros."""
    handle, other = (shm.create_shared_memory_region(key, key, SIZE) for key in (KEY, OTHER))
    try:
        write(handle)
        yield handle
    finally:
        shm.destroy_shared_memory_region(handle)
        shm.destroy_shared_memory_region(other)


def write(handle: Any, data: bytes = VALUES) -> None:
    """Data, and zeros behind it."""
    whole = np.frombuffer(data.ljust(SIZE, b"\0"), np.uint8)
    shm.set_shared_memory_region(handle, [whole])


def read(handle: Any, size: int = 64) -> bytes:
    """The first bytes of an object."""
    return bytes(shm.get_contents_as_numpy(handle, np.uint8, [size]).tobytes())


def forgotten(unregister: Callable[[], Any]) -> bool:
    """Unregister; False as long as a request has a region in use, which may be after its answer."""
    try:
        unregister()
    except InferenceServerException:
        return False
    return True
