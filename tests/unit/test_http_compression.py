"""What is compressed, how the client says so, and how much comes out of it."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib

import pytest

from triton_stub.endpoints.http import compression
from triton_stub.errors import InferenceError, StatusCode

BODY = b'{"inputs": []}' + bytes(range(256)) * 40
LIMIT = 1 << 20
PACKED = {"gzip": gzip.compress(BODY), "deflate": zlib.compress(BODY)}


@pytest.mark.parametrize(
    ("header", "encoding"),
    [
        (None, ""),
        ("", ""),
        ("gzip", "gzip"),
        ("deflate", "deflate"),
        ("gzip, deflate", "gzip"),
        ("deflate,gzip", "deflate"),
        ("identity, gzip", ""),
        ("identity;q=0.4, gzip;q=0.5", "gzip"),
        ("gzip;q=0.5, deflate", "deflate"),
        ("gzip;q=0.5junk, deflate;q=0.4", "gzip"),
        ("gzip;q= +5e-1", "gzip"),
        ("gzip;q=0x1p-1, deflate;q=0.6", "deflate"),
        ("gzip;q=.5, deflate;q=0X.4", "gzip"),
        ("gzip;q=inf, deflate;q=2", "gzip"),
        ("gzip;q=nan", ""),
        ("gzip;q=", ""),
        ("gzip;q=0", ""),
        ("gzip;q=-1", ""),
        ("gzip;q=1e400", ""),
        ("gzip;q=1e-400", ""),
        ("gzip;q=0x1p99999", ""),
        ("gzip ;q=1", ""),
        ("gzip;Q=1", ""),
        ("gzip;level=1;q=0.3", ""),
        ("GZIP", ""),
        ("br, *", ""),
        (";q=1, ,gzip;q=0.1", "gzip"),
    ],
)
def test_what_a_client_accepts(header: str | None, encoding: str) -> None:
    assert compression.accepted(header) == encoding


@pytest.mark.parametrize("header", [None, "identity"])
def test_what_is_not_compressed(header: str | None) -> None:
    assert compression.requested(header) == ""


@pytest.mark.parametrize("header", ["gzip", "deflate"])
def test_what_is_compressed(header: str) -> None:
    assert compression.requested(header) == header


@pytest.mark.parametrize("header", ["", "GZIP", "br", "gzip, deflate"])
def test_what_nobody_reads(header: str) -> None:
    with pytest.raises(compression.UnknownEncodingError) as caught:
        compression.requested(header)
    assert caught.value.code is StatusCode.UNSUPPORTED


@pytest.mark.parametrize("encoding", PACKED)
def test_there_and_back(encoding: str) -> None:
    packed = compression.compress((BODY[:9], memoryview(BODY)[9:]), encoding)
    assert (gzip.decompress if encoding == "gzip" else zlib.decompress)(packed) == BODY
    assert compression.decompress(packed, len(BODY)) == BODY


@pytest.mark.parametrize("packed", PACKED.values(), ids=PACKED)
def test_a_body_that_is_cut_off_is_read_that_far(packed: bytes) -> None:
    for size in range(1, len(packed), 7):
        reader = zlib.decompressobj(47)
        assert compression.decompress(packed[:size], LIMIT) == reader.decompress(packed[:size])


@pytest.mark.parametrize("packed", PACKED.values(), ids=PACKED)
def test_a_broken_body_is_read_up_to_the_fault(packed: bytes) -> None:
    """As zlib does when it may put out but one byte at a time, which loses the last one, mostly."""

    def bytewise(body: bytes) -> bytes:
        reader, read = zlib.decompressobj(47), b""
        try:
            while piece := reader.decompress(body, 1):
                read += piece
                body = reader.unconsumed_tail
        except zlib.error:
            pass
        return read

    for place in range(0, len(packed), 3):
        broken = packed[:place] + bytes([packed[place] ^ 0xFF]) + packed[place + 1 :]
        read, expected = compression.decompress(broken, LIMIT), bytewise(broken)
        assert expected in (read, read[:-1])


@pytest.mark.parametrize("packed", PACKED.values(), ids=PACKED)
def test_what_follows_does_not_matter(packed: bytes) -> None:
    assert compression.decompress(packed + b"more", LIMIT) == BODY
    assert compression.decompress(packed + packed, LIMIT) == BODY
    assert compression.decompress(packed[:-1] + b"?", LIMIT) == BODY  # a wrong check sum


def test_nothing_is_no_compressed_body() -> None:
    with pytest.raises(InferenceError, match=r"^nothing to be decompressed$"):
        compression.decompress(b"", LIMIT)


def test_a_bomb_takes_no_more_memory_than_the_limit() -> None:
    bomb = zlib.compress(bytes(50 * LIMIT))
    assert len(bomb) * compression.GREATEST_RATIO >= 50 * LIMIT
    tracemalloc.start()
    try:
        with pytest.raises(InferenceError) as caught:
            compression.decompress(bomb, LIMIT)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert caught.value.code is StatusCode.INVALID_ARG
    assert caught.value.message == (
        f"Decompressed data size exceeds the maximum allowed value of {LIMIT} bytes. Use "
        "--http-max-input-size to increase the limit."
    )
    assert most < 4 * LIMIT


def test_the_limit_itself_is_allowed() -> None:
    assert compression.decompress(zlib.compress(bytes(LIMIT)), LIMIT) == bytes(LIMIT)
    with pytest.raises(InferenceError):
        compression.decompress(zlib.compress(bytes(LIMIT + 1)), LIMIT)
