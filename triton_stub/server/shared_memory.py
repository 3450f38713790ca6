"""Regions of POSIX shared memory that clients register, and name in place of tensors' values.

Source: server ``src/shared_memory_manager.cc``. Newer than 2.51: keys are restricted and a
region's own offset counts (25.08), a region in use is unregistered after its last request (24.12),
an object may be registered more than once (26.05).
"""

from __future__ import annotations

import _posixshmem  # type: ignore[import-not-found]
import errno
import mmap
import os
import sys
import threading
from dataclasses import dataclass
from typing import NoReturn

from triton_stub import deviations
from triton_stub.errors import InferenceError, StatusCode

#: Bytes of a ``cudaIpcMemHandle_t``.
CUDA_HANDLE_SIZE = 64
# Of the shared memory objects of the server's own Python backend (server, common.h).
_RESERVED_PREFIX = "triton_python_backend_shm_region_"
_SIZE_MAX = 2**64 - 1


@dataclass(frozen=True, slots=True)
class Region:
    """``byte_size`` bytes of the object ``key``, from ``offset`` on."""

    name: str
    key: str
    offset: int
    byte_size: int


class SharedMemory:
    """The regions of a server, for any number of threads.

    Who has a view of a region is using it. A region that is unregistered meanwhile stays, and
    keeps its name, until the last view is gone.

    ``allowed`` is False for a server that takes no regions of clients, as Triton since 26.04
    unless it is started with ``--allow-client-shm=true``.
    """

    def __init__(self, *, allowed: bool = True) -> None:
        self._allowed = allowed
        self._lock = threading.Lock()
        self._mapped: dict[str, tuple[Region, mmap.mmap]] = {}
        self._leaving: set[str] = set()

    def register(self, name: str, key: str, offset: int, byte_size: int) -> None:
        """Map a part of the object ``key``; InferenceError in the server's words if it cannot."""
        self.check_allowed()
        _check_key(name, key)
        with self._lock:
            self._check_free(name)
            region = Region(name, key, offset, byte_size)
            self._mapped[name] = region, _map(region)

    def unregister(self, name: str = "") -> None:
        """Forget a region, or all; nothing happens if there is none."""
        self.check_allowed()
        with self._lock:
            self._leaving |= {name} if name else set(self._mapped)
            self._let_go()

    def status(self, name: str = "") -> list[Region]:
        """One region, or all, sorted by name; InferenceError if there is no such region."""
        with self._lock:
            self._let_go()
            if name and name not in self._mapped:
                raise _not_found(f"Unable to find system shared memory region: '{name}'")
            names = [name] if name else sorted(self._mapped, key=_in_bytes)
            return [self._mapped[each][0] for each in names]

    def view(self, name: str, offset: int, byte_size: int) -> memoryview:
        """A writable view of a part of a region; InferenceError if that is not inside of it."""
        with self._lock:
            self._let_go()
            if name not in self._mapped:
                raise _not_found(f"Unable to find shared memory region: '{name}'")
            region, memory = self._mapped[name]
            if offset >= region.byte_size:
                _refuse(f"Invalid offset for shared memory region: '{name}'")
            if byte_size > _SIZE_MAX - offset:
                _refuse(
                    f"Integer overflow detected: byte_size ({byte_size}) + offset ({offset}) "
                    f"exceeds maximum value ({_SIZE_MAX}) for region '{name}'"
                )
            if offset + byte_size > region.byte_size:
                _refuse(f"Invalid offset + byte size for shared memory region: '{name}'")
            _check_not_shrunk(region, memory)
            return memoryview(memory)[offset : offset + byte_size]

    def close(self) -> None:
        """Forget all regions, whoever uses them."""
        with self._lock:
            self._leaving |= set(self._mapped)
            self._let_go()
            self._mapped.clear()

    def register_cuda(self, name: str) -> None:
        """InferenceError: there is no GPU."""
        self.check_allowed()
        with self._lock:
            self._check_free(name)
        _refuse("failed to register shared memory region: invalid args")

    def unregister_cuda(self, name: str = "") -> None:  # noqa: ARG002
        """Nothing happens: there is no such region."""
        self.check_allowed()

    def status_cuda(self, name: str = "") -> list[Region]:
        """No regions; InferenceError if one is asked for."""
        with self._lock:
            self._let_go()
            if name in self._mapped:
                raise _not_found(
                    f"The region named '{name}' is registered as system shared memory, not CUDA "
                    "shared memory"
                )
        if name:
            raise _not_found(f"Unable to find cuda shared memory region: '{name}'")
        return []

    def check_allowed(self) -> None:
        """InferenceError if clients may not register regions."""
        if not self._allowed:
            raise InferenceError(
                "Client shared memory is disabled. Start the server with "
                "'--allow-client-shm=true' to enable.",
                StatusCode.UNSUPPORTED,
            )

    def _check_free(self, name: str) -> None:
        self._let_go()
        if name in self._mapped:
            raise InferenceError(
                f"shared memory region '{name}' already in manager", StatusCode.ALREADY_EXISTS
            )

    def _let_go(self) -> None:
        """Unmap what is unregistered, except where somebody has a view, which mmap knows."""
        for name in self._leaving & self._mapped.keys():
            try:
                self._mapped[name][1].close()
            except BufferError:
                continue
            del self._mapped[name]
        self._leaving &= self._mapped.keys()


def _in_bytes(name: str) -> bytes:
    return name.encode(errors="surrogateescape")


def _check_key(name: str, key: str) -> None:
    own = key.lstrip("/")
    if not own:
        _refuse(f"cannot register shared memory region '{name}' - invalid shm key '{key}'")
    if own.startswith(_RESERVED_PREFIX):
        _refuse(
            f"cannot register shared memory region '{name}' with key '{key}' as the key contains "
            f"the reserved prefix '{_RESERVED_PREFIX}'"
        )


def _map(region: Region) -> mmap.mmap:
    descriptor = _open(region.key)
    try:
        # As the server adds them: what is beyond 64 bits is lost.
        end = (region.offset + region.byte_size) & _SIZE_MAX
        if end > os.fstat(descriptor).st_size:
            _refuse(f"failed to register shared memory region '{region.name}': invalid args")
        # What Python's mmap takes in another way, or does not take at all.
        if region.byte_size == 0 or region.offset % mmap.ALLOCATIONGRANULARITY:
            _cannot_map(region, errno.EINVAL)
        if region.offset > sys.maxsize:
            _cannot_map(region, errno.EOVERFLOW)
        if region.byte_size > sys.maxsize:
            _cannot_map(region, errno.ENOMEM)
        try:
            return mmap.mmap(descriptor, region.byte_size, offset=region.offset)
        except OSError as error:
            _cannot_map(region, error.errno or errno.EINVAL)
    finally:
        os.close(descriptor)


def _open(key: str) -> int:
    """A descriptor of an object. Not by ``multiprocessing``, which would remove it in the end."""
    try:
        descriptor: int = _posixshmem.shm_open(key, os.O_RDWR, mode=0o600)
    except (OSError, ValueError):  # ValueError: no such name is possible
        raise InferenceError(
            f"Unable to open shared memory region: '{key}'", StatusCode.INTERNAL
        ) from None
    return descriptor


def _cannot_map(region: Region, number: int) -> NoReturn:
    _refuse(
        f"failed to register shared memory region '{region.name}': unable to process address "
        f"space{os.strerror(number)}"
    )


def _check_not_shrunk(region: Region, memory: mmap.mmap) -> None:
    size = memory.size()
    if region.offset + region.byte_size > size:
        text = deviations.SHRUNK_MEMORY.text(
            f"the object '{region.key}' of the shared memory region '{region.name}' has shrunk to "
            f"{size} bytes since it was registered",
            "Unregister a region before its object is made smaller.",
        )
        raise InferenceError(text, StatusCode.INVALID_ARG)


def _not_found(message: str) -> InferenceError:
    return InferenceError(message, StatusCode.NOT_FOUND)


def _refuse(message: str) -> NoReturn:
    raise InferenceError(message, StatusCode.INVALID_ARG)
