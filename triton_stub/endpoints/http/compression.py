"""Compressed bodies: of requests to models, and of their answers.

Source: server ``src/http_server.cc`` (``DecompressBuffer``, ``CompressionTypeUsed``) and
``src/data_compressor.h`` (26.08).
"""

from __future__ import annotations

import math
import re
import sys
import zlib
from typing import TYPE_CHECKING

from triton_stub.errors import InferenceError, StatusCode

if TYPE_CHECKING:
    from collections.abc import Sequence

#: How much more than a body it may hold, at most.
GREATEST_RATIO = 1032
#: What requests may be compressed with, as a header says it.
ENCODINGS = "gzip, deflate"
# How zlib is told which format it writes; and that it finds out which one it reads.
_WINDOW_BITS = {"gzip": 31, "deflate": 15}
_EITHER = 47
_CHUNK_BYTES = 1 << 16
# ``std::stod``: what is behind the number does not matter.
_NUMBER = re.compile(
    r"[ \t\n\v\f\r]*([+-]?(?:0x(?:[0-9a-f]+\.?[0-9a-f]*|\.[0-9a-f]+)(?:p[+-]?[0-9]+)?"
    r"|(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]+)?|inf|nan))",
    re.IGNORECASE,
)


class UnknownEncodingError(InferenceError):
    """A request is compressed with what the server does not read."""


def requested(header: str | None) -> str:
    """What a ``Content-Encoding`` says: ``"gzip"``, ``"deflate"``, or ``""`` for neither.

    UnknownEncodingError if it says something else.
    """
    if header is None or header == "identity":
        return ""
    if header in _WINDOW_BITS:
        return header
    raise UnknownEncodingError("Unsupported compression type", StatusCode.UNSUPPORTED)


def accepted(header: str | None) -> str:
    """What an ``Accept-Encoding`` likes best: ``"gzip"``, ``"deflate"``, or ``""`` for neither.

    The first of those with the greatest weight, as the server reads it, which is less than HTTP
    allows: neither ``*`` nor blanks around a semicolon.
    """
    best, best_weight = "identity", 0.0
    for entry in (header or "").split(","):
        name, separator, text = entry.lstrip(" ").partition(";q=")
        weight = _weight(text) if separator else 1.0
        if name in ("identity", *_WINDOW_BITS) and weight > best_weight:
            best, best_weight = name, weight
    return "" if best == "identity" else best


def _weight(text: str) -> float:
    """A weight; 0 if it is none. Until 26.05 the server dies of one that no double holds."""
    found = _NUMBER.match(text)
    if found is None:
        return 0.0
    digits = found[1].lower()
    try:
        number = float.fromhex(digits) if "0x" in digits else float(digits)
    except OverflowError:
        return 0.0
    overflown = math.isinf(number) and "inf" not in digits
    underflown = abs(number) < sys.float_info.min
    return 0.0 if overflown or underflown else number


def compress(parts: Sequence[bytes | memoryview], encoding: str) -> bytes:
    """The parts in a row, compressed."""
    deflater = zlib.compressobj(wbits=_WINDOW_BITS[encoding])
    return b"".join((*(deflater.compress(part) for part in parts), deflater.flush()))


def decompress(body: bytes | memoryview, limit: int) -> bytes:
    """What a body holds, of either format, whatever it is said to be.

    The server does not mind a body that is cut off, broken or followed by something else: then it
    is what could be read until there. InferenceError if it is empty, or if more than ``limit``
    bytes come out, of which no more are kept in memory.
    """
    if not body:
        raise InferenceError("nothing to be decompressed", StatusCode.INVALID_ARG)
    inflater = _Inflater(limit)
    view = memoryview(body)
    for start in range(0, len(body), _CHUNK_BYTES):
        if not inflater.feed(view[start : start + _CHUNK_BYTES]):
            break
    return b"".join(inflater.pieces)


class _Inflater:
    """Decompresses up to a limit, and up to the first fault."""

    def __init__(self, limit: int) -> None:
        self.pieces: list[bytes] = []
        self._zlib = zlib.decompressobj(_EITHER)
        self._limit = limit
        self._room = limit

    def feed(self, data: memoryview) -> bool:
        """Go on; False if there is nothing to go on with."""
        before = self._zlib.copy()
        try:
            piece = self._zlib.decompress(data, self._room + 1)
        except zlib.error:
            # zlib has thrown away what it had read before the fault, so look where that is.
            self._zlib = before
            half = len(data) // 2
            if half:
                return self.feed(data[:half]) and self.feed(data[half:])
            self._feed_slowly(data)
            return False
        self._take(piece)
        return not self._zlib.eof

    def _feed_slowly(self, data: bytes | memoryview) -> None:
        try:
            while piece := self._zlib.decompress(data, 1):
                self._take(piece)
                data = self._zlib.unconsumed_tail
        except zlib.error:
            pass

    def _take(self, piece: bytes) -> None:
        self._room -= len(piece)
        if self._room < 0:
            raise InferenceError(
                f"Decompressed data size exceeds the maximum allowed value of {self._limit} "
                "bytes. Use --http-max-input-size to increase the limit.",
                StatusCode.INVALID_ARG,
            )
        self.pieces.append(piece)
