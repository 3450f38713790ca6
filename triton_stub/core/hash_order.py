"""The order in which the server visits a request's inputs.

The core keeps them in a ``std::unordered_map``. That order decides which of several faults is
told, and in which order a model finds its inputs; it looks random but is a function of the names
and of the order in which the client sent them. Source: libstdc++, ``hash_bytes.cc`` (the 64-bit
hash) and ``bits/hashtable.h`` (where a new node goes); checked against the real server.
"""

from __future__ import annotations

from bisect import bisect_left
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_MASK = 2**64 - 1
_MULTIPLIER = 0xC6A4A7935BD1E995
_SEED = 0xC70F6907
# Numbers of buckets that a map grows through as it is filled one by one.
_BUCKETS = (13, 29, 59, 127, 257, 541, 1109, 2357, 5087, 10273, 20753)


@lru_cache(maxsize=4096)
def visited(names: tuple[str, ...]) -> tuple[int, ...]:
    """Indices of ``names``, which were put into a map in this order, as an iteration meets them."""
    hashes = [_hash(name.encode()) for name in names]
    order: list[int] = []
    size = _BUCKETS[0]
    for index in range(len(names)):
        if len(order) == size:
            size = _BUCKETS[bisect_left(_BUCKETS, 2 * size)]
            order = _inserted(order, hashes, size)
        _insert(order, index, hashes, size)
    return tuple(order)


def _inserted(indices: Iterable[int], hashes: Sequence[int], size: int) -> list[int]:
    order: list[int] = []
    for index in indices:
        _insert(order, index, hashes, size)
    return order


def _insert(order: list[int], index: int, hashes: Sequence[int], size: int) -> None:
    """Put a node before the first one of its bucket, or first of all if the bucket is empty."""
    bucket = hashes[index] % size
    place = next((at for at, other in enumerate(order) if hashes[other] % size == bucket), 0)
    order.insert(place, index)


def _hash(data: bytes) -> int:
    """``std::hash<std::string>``: MurmurHash64A with libstdc++'s seed."""
    value = _SEED ^ (len(data) * _MULTIPLIER & _MASK)
    whole = len(data) & ~7
    for start in range(0, whole, 8):
        word = int.from_bytes(data[start : start + 8], "little")
        word = _mixed(word * _MULTIPLIER & _MASK) * _MULTIPLIER & _MASK
        value = (value ^ word) * _MULTIPLIER & _MASK
    if len(data) > whole:
        value = (value ^ int.from_bytes(data[whole:], "little")) * _MULTIPLIER & _MASK
    return _mixed(_mixed(value) * _MULTIPLIER & _MASK)


def _mixed(value: int) -> int:
    return value ^ (value >> 47)
