"""The order in which the server visits what it keeps in a ``std::unordered_map``.

It looks random but is a function of the hashes and of the order in which they were put in. That
order decides which of several faults of a request is told, in which order a model finds its
inputs, and in which order the metrics of a family are printed. Source: libstdc++,
``hash_bytes.cc`` (the 64-bit hash) and ``bits/hashtable.h`` (where a new node goes); checked
against the real server.
"""

from __future__ import annotations

from bisect import bisect_left
from functools import lru_cache
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Key = TypeVar("Key")

_MASK = 2**64 - 1
_MULTIPLIER = 0xC6A4A7935BD1E995
_SEED = 0xC70F6907
# Numbers of buckets that a map grows through as it is filled one by one.
_BUCKETS = (
    *(13, 29, 59, 127, 257, 541, 1109, 2357, 5087, 10273, 20753, 42043, 85229, 172933, 351061),
    *(712697, 1447153, 2938679),
)
# Of a request to a model that there is; a request of nonsense may have any number of names.
_FEW = 256


def visited(names: tuple[str, ...]) -> tuple[int, ...]:
    """Indices of ``names``, which were put into a map in this order, as an iteration meets them."""
    return _remembered(names) if len(names) <= _FEW else _visited(names)


def _visited(names: tuple[str, ...]) -> tuple[int, ...]:
    order = HashOrder[int]()
    for index, name in enumerate(names):
        order.insert(index, string_hash(name))
    return tuple(order)


_remembered = lru_cache(maxsize=4096)(_visited)


class HashOrder(Generic[Key]):
    """Keys in the order in which an iteration over a ``std::unordered_map`` meets them."""

    def __init__(self) -> None:
        self._size = _BUCKETS[0]
        self._count = 0
        # The last bucket comes first, and in a bucket the last node.
        self._buckets: dict[int, list[tuple[Key, int]]] = {}

    def __iter__(self) -> Iterator[Key]:
        return (key for key, _ in self._nodes())

    def insert(self, key: Key, hashed: int) -> None:
        """Put in a key that is not there yet; ``hashed`` is what C++ makes of it."""
        if self._count == self._size < _BUCKETS[-1]:
            self._size = _BUCKETS[bisect_left(_BUCKETS, 2 * self._size)]
            nodes = list(self._nodes())
            self._buckets.clear()
            for node in nodes:
                self._insert(*node)
        self._insert(key, hashed)
        self._count += 1

    def remove(self, key: Key) -> None:
        """Take out a key; the others stay where they are, and the map stays as large."""
        node = next(node for node in self._nodes() if node[0] == key)
        bucket = node[1] % self._size
        self._buckets[bucket].remove(node)
        if not self._buckets[bucket]:
            del self._buckets[bucket]
        self._count -= 1

    def _insert(self, key: Key, hashed: int) -> None:
        self._buckets.setdefault(hashed % self._size, []).append((key, hashed))

    def _nodes(self) -> Iterator[tuple[Key, int]]:
        for bucket in reversed(self._buckets.values()):
            yield from reversed(bucket)


def string_hash(text: str) -> int:
    """``std::hash<std::string>``: MurmurHash64A with libstdc++'s seed."""
    data = text.encode("utf-8", "surrogatepass")
    value = _SEED ^ (len(data) * _MULTIPLIER & _MASK)
    whole = len(data) & ~7
    for start in range(0, whole, 8):
        word = int.from_bytes(data[start : start + 8], "little")
        word = _mixed(word * _MULTIPLIER & _MASK) * _MULTIPLIER & _MASK
        value = (value ^ word) * _MULTIPLIER & _MASK
    if len(data) > whole:
        value = (value ^ int.from_bytes(data[whole:], "little")) * _MULTIPLIER & _MASK
    return _mixed(_mixed(value) * _MULTIPLIER & _MASK)


def combined_hash(parts: Iterable[str]) -> int:
    """Hash of several strings, the way ``prometheus-cpp`` combines them (``detail/hash.h``)."""
    value = 0
    for part in parts:
        value ^= string_hash(part) + 0x9E3779B9 + (value << 6) + (value >> 2) & _MASK
    return value


def _mixed(value: int) -> int:
    return value ^ (value >> 47)
