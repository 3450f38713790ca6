"""Compressed requests and answers over HTTP, byte for byte to both servers."""

from __future__ import annotations

import gzip
import json
import struct
import zlib
from collections.abc import Iterator

import pytest
from raw_http import Reply, chunked, exchange, head, one, post
from test_http_errors import GOOD, LENGTH, ROW, TWO_BLOBS

from triton_stub.endpoints.http.endpoint import HttpEndpoint
from triton_stub.engines.stub import StubEngine

INFER = "/v2/models/add/infer"
PACK = {"gzip": gzip.compress, "deflate": zlib.compress}
ENCODINGS = tuple(PACK)
BINARY = json.dumps({**json.loads(GOOD), "parameters": {"binary_data_output": True}}).encode()
FLOATS = "types"  # takes one input of any size as it is


def encoded(encoding: str) -> str:
    return f"Content-Encoding: {encoding}"


def accepting(encoding: str) -> str:
    return f"Accept-Encoding: {encoding}"


@pytest.mark.rule("5.1-compressed-requests")
@pytest.mark.parametrize("encoding", ENCODINGS)
class TestRequests:
    def test_json(self, both_urls: tuple[str, str], encoding: str) -> None:
        body = PACK[encoding](GOOD)
        assert one(both_urls, post(INFER, body, encoded(encoding))).status == 200

    def test_binary_tensors(self, both_urls: tuple[str, str], encoding: str) -> None:
        body = PACK[encoding](TWO_BLOBS + ROW + ROW)
        header = f"{LENGTH}: {len(TWO_BLOBS)}"
        assert one(both_urls, post(INFER, body, encoded(encoding), header)).status == 200

    def test_the_other_format(self, both_urls: tuple[str, str], encoding: str) -> None:
        (other,) = set(ENCODINGS) - {encoding}
        assert one(both_urls, post(INFER, PACK[other](GOOD), encoded(encoding))).status == 200

    def test_the_lowest_and_the_highest_level(
        self, both_urls: tuple[str, str], encoding: str
    ) -> None:
        for level in (0, 9):
            body = PACK[encoding](GOOD, level)
            assert one(both_urls, post(INFER, body, encoded(encoding))).status == 200

    def test_in_chunks(self, both_urls: tuple[str, str], encoding: str) -> None:
        body = PACK[encoding](GOOD)
        request = chunked(INFER, body[:7], body[7:8], body[8:], headers=[encoded(encoding)])
        assert one(both_urls, request).status == 200

    @pytest.mark.parametrize("size", ["all", "packed", "one more", "0", "-1"])
    def test_the_size_of_the_json_is_that_before_compression(
        self, both_urls: tuple[str, str], encoding: str, size: str
    ) -> None:
        body = PACK[encoding](GOOD)
        sizes = {"all": len(GOOD), "packed": len(body), "one more": len(GOOD) + 1}
        header = f"{LENGTH}: {sizes.get(size, size)}"
        reply = one(both_urls, post(INFER, body, encoded(encoding), header))
        assert (reply.status == 200) == (size == "all")

    def test_an_input_without_json(self, both_urls: tuple[str, str], encoding: str) -> None:
        body = PACK[encoding](struct.pack("<2e", 1, 2))
        one(both_urls, post("/v2/models/facts/infer", body, encoded(encoding), f"{LENGTH}: 0"))

    def test_a_megabyte(self, both_urls: tuple[str, str], encoding: str) -> None:
        text = json.dumps(
            {
                "inputs": [
                    {
                        "name": "UINT8",
                        "datatype": "UINT8",
                        "shape": [1 << 20],
                        "parameters": {"binary_data_size": 1 << 20},
                    }
                ],
                "parameters": {"binary_data_output": True},
            }
        ).encode()
        body = PACK[encoding](text + bytes(range(256)) * 4096)
        reply = one(
            both_urls,
            post(
                f"/v2/models/{FLOATS}/infer",
                body,
                *(encoded(encoding), f"{LENGTH}: {len(text)}", accepting(encoding)),
            ),
        )
        assert reply.status == 200
        assert reply.headers["content-encoding"] == encoding

    def test_only_requests_to_models_are(self, both_urls: tuple[str, str], encoding: str) -> None:
        for path in ("/v2/repository/index", "/v2/trace/setting", "/v2/logging"):
            reply = one(both_urls, post(path, PACK[encoding](b"{}"), encoded(encoding)))
            assert reply.status == 500
        assert one(both_urls, post("/v2/repository/index", b"{}", encoded(encoding))).status == 200

    def test_an_unknown_model_comes_first(self, both_urls: tuple[str, str], encoding: str) -> None:
        body = PACK[encoding](GOOD)[:3]
        assert one(both_urls, post("/v2/models/nope/infer", body, encoded(encoding))).status == 404


BROKEN = {
    "nothing": lambda _: b"",
    "nothing inside": lambda pack: pack(b""),
    "not compressed": lambda _: GOOD,
    "cut off": lambda pack: pack(GOOD)[:-20],
    "cut off in the middle": lambda pack: pack(GOOD)[:30],
    "only a header": lambda pack: pack(GOOD)[:2],
    "no check sum": lambda pack: pack(GOOD)[:-3],
    "a wrong check sum": lambda pack: pack(GOOD)[:-3] + b"???",
    "something behind": lambda pack: pack(GOOD) + b"something",
    "twice": lambda pack: pack(GOOD) + pack(GOOD),
    "compressed twice": lambda pack: pack(pack(GOOD)),
    "without a header": lambda _: zlib.compress(GOOD)[2:-4],
    **{f"byte {n} is wrong": lambda pack, n=n: _flip(pack(GOOD), n) for n in range(1, 60, 4)},
}


def _flip(body: bytes, place: int) -> bytes:
    return body[:place] + bytes([body[place] ^ 0xFF]) + body[place + 1 :]


@pytest.mark.rule("5.1-broken-compression")
@pytest.mark.parametrize("body", BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_broken_body_counts_as_far_as_it_can_be_read(
    both_urls: tuple[str, str], encoding: str, body: object
) -> None:
    assert callable(body)
    one(both_urls, post(INFER, body(PACK[encoding]), encoded(encoding)))


@pytest.mark.rule("5.1-compressed-requests")
@pytest.mark.parametrize(
    "name",
    ["", "GZIP", "x-gzip", "br", "zstd", "Identity", "gzip, deflate", "*", "gzip;q=1"],
)
def test_another_compression_is_refused(both_urls: tuple[str, str], name: str) -> None:
    reply = one(both_urls, post(INFER, gzip.compress(GOOD), encoded(name)))
    assert reply.status == 501
    assert reply.headers["accept-encoding"] == "gzip, deflate"


@pytest.mark.rule("5.1-compressed-requests")
@pytest.mark.parametrize("first", ["gzip", "identity"])
def test_of_two_headers_the_first_counts(both_urls: tuple[str, str], first: str) -> None:
    (other,) = {"gzip", "identity"} - {first}
    request = post(INFER, gzip.compress(GOOD), encoded(first), encoded(other))
    assert one(both_urls, request).status == (200 if first == "gzip" else 500)


ACCEPTED = {
    "gzip": "gzip",
    "deflate": "deflate",
    "gzip, deflate": "gzip",
    "deflate, gzip": "deflate",
    "deflate,gzip": "deflate",
    "gzip;q=0.5, deflate": "deflate",
    "gzip;q=0.5, deflate;q=0.8": "deflate",
    "identity;q=0.4, gzip;q=0.5": "gzip",
    "br, gzip": "gzip",
    "gzip, deflate, br, zstd": "gzip",
    "gzip,": "gzip",
    ", gzip": "gzip",
    "gzip;q= 0.5": "gzip",
    "gzip;q=0.5junk, deflate;q=0.4": "gzip",
    "gzip;q=0x1p-1, deflate;q=0.6": "deflate",
    "gzip;q=inf, deflate;q=2": "gzip",
    "gzip;q=0.0001": "gzip",
    "gzip;q=1_0, deflate;q=5": "deflate",
    ";q=1, gzip": "gzip",
    **dict.fromkeys(
        ["", ",", "br", "*", "GZIP", "identity", "identity, gzip", "gzip;q=0", "gzip;q=-1",
         "gzip;q=x", "gzip;q=", "gzip;q=nan", "gzip ;q=1", "gzip;Q=1", "gzip;level=1;q=0.3",
         "identity;q=0.5, gzip;q=0.5"],
    ),
}  # fmt: skip


@pytest.mark.rule("5.1-accept-encoding", "5.1-compressed-answers")
@pytest.mark.parametrize(("header", "encoding"), ACCEPTED.items(), ids=map(repr, ACCEPTED))
def test_what_the_client_likes_best(
    both_urls: tuple[str, str], header: str, encoding: str | None
) -> None:
    reply = one(both_urls, post(INFER, GOOD, accepting(header)))
    assert reply.status == 200
    assert reply.headers.get("content-encoding") == encoding


@pytest.mark.rule("5.1-accept-encoding")
@pytest.mark.newer("26.05", "server src/http_server.cc, CompressionTypeUsed: std::out_of_range")
@pytest.mark.parametrize("weight", ["1e400", "1e-400"])
def test_a_weight_that_no_double_holds(stub: StubEngine, weight: str) -> None:
    """Older servers die of it."""
    header = accepting(f"gzip;q={weight}, deflate;q=0.1")
    (reply,) = exchange(stub.http_url, post(INFER, GOOD, header))
    assert isinstance(reply, Reply)
    assert reply.headers["content-encoding"] == "deflate"


@pytest.mark.rule("5.1-accept-encoding")
@pytest.mark.parametrize("first", ["gzip", "identity"])
def test_of_two_wishes_the_first_counts(both_urls: tuple[str, str], first: str) -> None:
    (other,) = {"gzip", "identity"} - {first}
    reply = one(both_urls, post(INFER, GOOD, accepting(first), accepting(other)))
    assert ("content-encoding" in reply.headers) == (first == "gzip")


@pytest.mark.rule("5.1-compressed-answers")
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_binary_outputs_and_their_header(both_urls: tuple[str, str], encoding: str) -> None:
    reply = one(both_urls, post(INFER, BINARY, accepting(encoding)))
    assert reply.headers["content-encoding"] == encoding
    assert reply.headers["content-type"] == "application/octet-stream"
    assert len(reply.blobs) == len(ROW)


@pytest.mark.rule("5.1-compressed-answers")
def test_each_way_its_own(both_urls: tuple[str, str]) -> None:
    request = post(INFER, gzip.compress(BINARY), encoded("gzip"), accepting("deflate"))
    assert one(both_urls, request).headers["content-encoding"] == "deflate"


@pytest.mark.rule("5.1-compressed-answers")
@pytest.mark.parametrize(
    "request_",
    [
        post(INFER, b"{", accepting("gzip")),
        post("/v2/models/nope/infer", GOOD, accepting("gzip")),
        post("/v2/repository/index", b"", accepting("gzip")),
        head("GET", "/v2/models/add", accepting("gzip")),
        head("GET", "/v2/models/add/config", accepting("gzip")),
        head("GET", "/v2/health/live", accepting("gzip")),
        head("GET", "/nowhere", accepting("gzip")),
    ],
    ids=["error", "unknown model", "index", "metadata", "config", "health", "nowhere"],
)
def test_nothing_else_is_compressed(both_urls: tuple[str, str], request_: bytes) -> None:
    assert "content-encoding" not in one(both_urls, request_).headers


LIMIT = 1000
ADVICE = "Use --http-max-input-size to increase the limit."


@pytest.fixture(scope="module")
def limited(stub: StubEngine) -> Iterator[str]:
    """A port of the stub's that takes but little."""
    with HttpEndpoint(stub.server, max_input_size=LIMIT) as endpoint:
        yield endpoint.http_url


def refusal(url: str, request: bytes) -> tuple[int, str]:
    (reply,) = exchange(url, request)
    assert isinstance(reply, Reply)
    return reply.status, reply.document


@pytest.mark.rule("5.1-size-limit")
@pytest.mark.newer("26.01", "server src/data_compressor.h, DecompressData")
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_bomb(limited: str, encoding: str) -> None:
    body = PACK[encoding](GOOD + b" " * 10_000_000)
    text = f"Decompressed data size exceeds the maximum allowed value of {LIMIT} bytes. {ADVICE}"
    assert refusal(limited, post(INFER, body, encoded(encoding))) == (400, repr({"error": text}))


@pytest.mark.rule("5.1-size-limit")
@pytest.mark.newer("26.04", "server src/http_server.cc, EVBufferToJson")
@pytest.mark.parametrize("path", [INFER, "/v2/repository/index", "/v2/logging"])
def test_long_json(limited: str, path: str) -> None:
    text = (
        f"request JSON size of {LIMIT + 1} bytes exceeds the maximum allowed input size of "
        f"{LIMIT} bytes. {ADVICE}"
    )
    body = GOOD.ljust(LIMIT + 1)
    assert refusal(limited, post(path, body)) == (400, repr({"error": text}))
    assert refusal(limited, chunked(path, body[:500], body[500:])) == (400, repr({"error": text}))
    assert refusal(limited, post(path, body[:-1]))[0] == 200


@pytest.mark.rule("5.1-size-limit")
@pytest.mark.newer("25.06", "server src/http_server.cc, EVBufferToRawInput")
def test_a_long_input_without_json(limited: str) -> None:
    text = (
        f"Raw input has a byte_size ({LIMIT + 2} bytes) that exceeds the maximum allowed value of "
        f"{LIMIT} bytes. {ADVICE}"
    )
    request = post("/v2/models/facts/infer", bytes(LIMIT + 2), f"{LENGTH}: 0")
    assert refusal(limited, request) == (400, repr({"error": text}))


@pytest.mark.rule("5.1-size-limit")
@pytest.mark.newer("25.06", "server src/http_server.cc, ParseJsonTritonIO: max_input_size_")
def test_an_input_that_is_longer_than_its_json(limited: str) -> None:
    size = LIMIT // 8 + 1
    entry = {"name": "FP64", "datatype": "FP64", "shape": [size], "data": [1] * size}
    text = (
        f"JSON input 'FP64' has a byte_size ({8 * size} bytes) that exceeds the maximum allowed "
        f"value of {LIMIT} bytes. {ADVICE}"
    )
    body = json.dumps({"inputs": [entry]}).encode()
    request = post("/v2/models/types/infer", body)
    assert refusal(limited, request) == (400, repr({"error": text}))


@pytest.mark.rule("5.1-size-limit")
def test_binary_tensors_may_be_longer(stub: StubEngine, limited: str) -> None:
    count = LIMIT * 10
    text = json.dumps(
        {
            "inputs": [
                {
                    "name": "UINT8",
                    "datatype": "UINT8",
                    "shape": [count],
                    "parameters": {"binary_data_size": count},
                }
            ]
        }
    ).encode()
    request = post("/v2/models/types/infer", text + bytes(count), f"{LENGTH}: {len(text)}")
    assert exchange(limited, request) == exchange(stub.http_url, request)
    assert refusal(limited, request)[0] == 200
