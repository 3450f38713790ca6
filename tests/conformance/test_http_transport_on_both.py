"""What HTTP is made of: paths, methods, headers, lengths and connections, byte for byte."""

from __future__ import annotations

import socket

import pytest
from raw_http import CLOSED, Reply, chunked, connected, exchange, head, one, post, replies, same
from test_http_errors import GOOD, LENGTH, document, tensor

from triton_stub.engines.engine import Engine

INFER = "/v2/models/add/infer"
OTHER = document(tensor(data=[5, 6, 7, 8]), tensor("B"))

PATHS = [
    "/v2/models/%61dd", "/v2/models/add/", "//v2/models/add", "/v2//models/add", "/v2/", "/",
    "/v2/models/add?x=1", "/v2/models/add?x=%41&y", "/v2/models/add??", "/v2/models/add#fragment",
    "/v2/models/add/ready?x", "/v2/models/add/versions", "/v2/models/add/versions/",
    "/v2/models/add/versions/1/", "/v2/models/../v2", "/../v2/models/add", "/v2/models/%2e%2e/add",
    "/v2/models/%00", "/v2/models/%zz", "/v2/models/a%2Fb", "/v2/models/a;b", "/v2/models/a+b",
    "/v2/models/%20", '/v2/models/"q"', "/v2/models/{a}", r"/v2/models/a\b", "/v2/models/~",
    "/v2/models/a|b", "/v2/models/<b>", "/v2/models/a'b", "/v2/models//ready", "/V2/models/add",
    "/v2/models", "/v2/models/", "/v2/models/ ", "/v2/models/stats/", "/v2/models/stats/ready",
    "/v2/health", "/v2/health/", "/v2/health/ready/", "/v2/health/alive", "/v2/repository/index/",
    "/v2/repository/a/b/index", "/v2/models/" + "a" * 2000, "http://elsewhere/v2/models/add",
    "http://elsewhere:1/v2/health/live?x",
]  # fmt: skip


@pytest.mark.rule("5.1-paths")
@pytest.mark.parametrize("path", PATHS, ids=lambda path: path[:40])
def test_a_path_is_taken_as_it_comes(both_urls: tuple[str, str], path: str) -> None:
    one(both_urls, head("GET", path))


@pytest.mark.rule("5.1-paths")
@pytest.mark.parametrize("path", ["v2", "", "/v2/models/" + "a" * 100_000])
def test_what_is_no_path(both_urls: tuple[str, str], path: str) -> None:
    assert same(both_urls, head("GET", path)) == [CLOSED]


METHODS = ["PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "PROPFIND", "LOCK", "COPY", "PURGE"]


@pytest.mark.rule("5.1-methods")
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "path",
    ["/v2", "/v2/health/live", "/v2/models/add", "/v2/models/add/ready", "/v2/models/stats", INFER,
     "/v2/repository/index", "/v2/repository/models/add/load", "/v2/logging", "/v2/trace/setting"],
)  # fmt: skip
def test_a_method_that_a_path_has_not(both_urls: tuple[str, str], method: str, path: str) -> None:
    assert one(both_urls, head(method, path)).status == 405


@pytest.mark.rule("5.1-methods")
@pytest.mark.parametrize("method", METHODS)
def test_where_nothing_is_every_method_is_the_same(both_urls: tuple[str, str], method: str) -> None:
    assert one(both_urls, head(method, "/nowhere")).status == 404


@pytest.mark.rule("5.1-framing")
@pytest.mark.parametrize(
    "data",
    {
        "in one chunk": chunked(INFER, GOOD),
        "in chunks": chunked(INFER, GOOD[:9], GOOD[9:10], GOOD[10:]),
        "byte by byte": chunked(INFER, *(GOOD[n : n + 1] for n in range(len(GOOD)))),
        "trailer": chunked(INFER, GOOD)[:-2] + b"X: y\r\n\r\n",
        "index in chunks": chunked("/v2/repository/index", b'{"ready":', b"true}"),
        "no length": head("POST", INFER),
        "index without length": head("POST", "/v2/repository/index"),
        "length 0": post(INFER, b""),
        "GET with a body": head("GET", "/v2/models/add", "Content-Length: 3") + b"abc",
        "no Host": b"GET /v2/models/add HTTP/1.1\r\n\r\n",
        "many headers": head("GET", "/v2/models/add", *(f"X-{n}: y" for n in range(1000))),
        "no ASCII in a header": head("GET", "/v2/models/add", "X: \xe9\xff"),
        "HTTP/1.0": head("POST", INFER, f"Content-Length: {len(GOOD)}", version="1.0") + GOOD,
        "upgrade": head("GET", "/v2/models/add", "Connection: Upgrade", "Upgrade: h2c"),
        "upgrade with a body": post(INFER, GOOD, "Connection: Upgrade", "Upgrade: h2c"),
        "upgrade in chunks": chunked(
            INFER, GOOD[:9], GOOD[9:], headers=("Connection: Upgrade", "Upgrade: h2c")
        ),
    }.items(),
    ids=lambda item: item[0],
)
def test_a_request_in_any_form(both_urls: tuple[str, str], data: tuple[str, bytes]) -> None:
    one(both_urls, data[1])


@pytest.mark.rule("5.1-framing")
@pytest.mark.parametrize(
    "data",
    {
        **{
            f"length {text!r}": head("POST", INFER, f"Content-Length: {text}") + GOOD
            for text in ("x", "-1", "+5", "0x10", "1 2", "1.5", "5junk", "9" * 20)
        },
        "length too long": head("POST", INFER, f"Content-Length: {len(GOOD) + 1}") + GOOD,
        **{
            f"chunk of {text!r}": head("POST", INFER, "Transfer-Encoding: chunked")
            + text.encode()
            + b"\r\nabc\r\n0\r\n\r\n"
            for text in ("zz", "-1", "f" * 17)
        },
        "chunk cut off": head("POST", INFER, "Transfer-Encoding: chunked") + b"99\r\n" + GOOD[:9],
        "header cut off": head("POST", INFER, "Content-Length: 3")[:-2],
        "header without a colon": head("GET", "/v2", "none"),
        "header in two lines": head("GET", "/v2", "a: b", " c"),
        "line feeds": b"GET /v2 HTTP/1.1\nHost: x\n\n",
        "version x": head("GET", "/v2", version="x"),
        "lower case": head("get", "/v2"),
        "words": b"hello world\r\n\r\n",
        "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "nothing": b"",
    }.items(),
    ids=lambda item: item[0],
)
def test_what_is_no_request_closes_the_connection(
    both_urls: tuple[str, str], data: tuple[str, bytes]
) -> None:
    assert same(both_urls, data[1], hang_up=True) == [CLOSED]


@pytest.mark.rule("5.1-framing")
@pytest.mark.parametrize("cut", [0, len(GOOD) - 5])
def test_what_is_behind_a_request_does_not_spoil_its_answer(
    both_urls: tuple[str, str], cut: int
) -> None:
    data = head("POST", INFER, f"Content-Length: {cut}") + GOOD
    answer, end = same(both_urls, data, 2)
    assert isinstance(answer, Reply)
    assert end == CLOSED


@pytest.mark.deviation("odd-http")
@pytest.mark.parametrize(
    ("data", "is_answered"),
    [
        (head("POST", INFER, *(f"Content-Length: {len(GOOD)}",) * 2) + GOOD, True),
        (chunked(INFER, GOOD, headers=[f"Content-Length: {len(GOOD)}"]), True),
        (post(INFER, GOOD, "Transfer-Encoding: gzip"), True),
        (head("FOO", "/v2/models/add"), True),
        (head("GET", "/v2/models/\xc3\xa9"), True),
        (head("GET", "/v2/models/a\x01b"), True),
        (head("GET", "/v2/models/add", "a b: c"), True),
        (head("GET", "/v2/models/add", "a: b\0c"), True),
        (head("GET", "/v2/models/add", version="1.2"), True),
        (head("POST", INFER, "Content-Length: ") + GOOD, True),
    ],
    ids=["two lengths", "length of chunks", "unknown transfer", "unknown method", "no ASCII",
         "control character", "blank in a name", "zero in a value", "HTTP/1.2", "empty length"],
)  # fmt: skip
def test_odd_http(both_urls: tuple[str, str], data: bytes, *, is_answered: bool) -> None:
    stub, native = (exchange(url, data) for url in both_urls)
    assert stub == [CLOSED]
    assert (native != [CLOSED]) == is_answered


@pytest.mark.rule("5.1-expect")
@pytest.mark.parametrize("expected", ["100-continue", "100-Continue", "something-else"])
def test_a_client_that_asks_before_it_sends(both_urls: tuple[str, str], expected: str) -> None:
    begun = []
    for url in both_urls:
        with connected(url) as connection:
            headers = f"Content-Length: {len(GOOD)}", f"Expect: {expected}"
            connection.sendall(head("POST", INFER, *headers))
            begun.append(connection.recv(len(b"HTTP/1.1 100 Continue\r\n\r\n"), socket.MSG_WAITALL))
            connection.sendall(GOOD)
            (answer,) = replies(connection)
            assert isinstance(answer, Reply)
            assert answer.status == 200
    assert begun == [b"HTTP/1.1 100 Continue\r\n\r\n"] * 2


@pytest.mark.rule("5.1-content-type")
@pytest.mark.parametrize(
    "media_type",
    ["", "text/plain", "application/json; charset=latin-1", "application/octet-stream", "nonsense",
     "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"],
)  # fmt: skip
def test_the_type_of_a_body_does_not_matter(both_urls: tuple[str, str], media_type: str) -> None:
    assert one(both_urls, post(INFER, GOOD, f"Content-Type: {media_type}")).status == 200


@pytest.mark.rule("5.1-header-length")
@pytest.mark.parametrize(
    "value",
    [f"+{len(GOOD)}", f"0{len(GOOD)}", f"{len(GOOD)}.5", f"{len(GOOD)},5", "1e9", "2147483648",
     "-99999999999", "0x10"],
)  # fmt: skip
def test_how_the_size_of_the_json_is_read(both_urls: tuple[str, str], value: str) -> None:
    one(both_urls, post(INFER, GOOD, f"{LENGTH}: {value}"))


@pytest.mark.rule("5.1-header-length")
def test_of_two_sizes_the_first_counts(both_urls: tuple[str, str]) -> None:
    headers = f"{LENGTH.lower()}: {len(GOOD)}", f"{LENGTH}: 5"
    assert one(both_urls, post(INFER, GOOD, *headers)).status == 200


@pytest.mark.rule("5.1-header-length")
@pytest.mark.newer("26.06", "server src/http_server.cc, GetInferenceHeaderLength: std::stoi")
@pytest.mark.parametrize("value", ["abc", "", "-", "x5"])
def test_a_size_that_is_no_number(stub: Engine, value: str) -> None:
    assert stub.http_url
    (answer,) = exchange(stub.http_url, post(INFER, GOOD, f"{LENGTH}: {value}"))
    text = repr({"error": f"Unable to parse {LENGTH}, got: {value}"})
    assert answer == Reply(400, {"content-type": "text/plain"}, text, b"")


@pytest.mark.rule("5.1-kept")
def test_a_connection_is_kept_whatever_is_answered(both_urls: tuple[str, str]) -> None:
    asked = [
        post(INFER, GOOD),
        post(INFER, b"{"),
        head("GET", "/nowhere"),
        head("PUT", INFER),
        chunked(INFER, GOOD),
        head("GET", "/v2/models/add", "Connection: Upgrade", "Upgrade: h2c"),
        post(INFER, OTHER, "Connection: Upgrade", "Upgrade: h2c"),
        post(INFER, GOOD),
    ]
    answers = []
    for url in both_urls:
        with connected(url) as connection:
            told: list[Reply | str] = []
            for data in asked:
                connection.sendall(data)
                told += replies(connection)
            answers.append(told)
    assert answers[0] == answers[1]
    assert CLOSED not in answers[0]


@pytest.mark.rule("5.1-kept")
def test_a_client_that_wants_it_closed(both_urls: tuple[str, str]) -> None:
    answer, end = same(both_urls, post(INFER, GOOD, "Connection: close"), 2)
    assert isinstance(answer, Reply)
    assert end == CLOSED


@pytest.mark.rule("5.1-pipelined")
@pytest.mark.parametrize("second", [post(INFER, OTHER), head("GET", "/v2/models/add")])
def test_requests_to_models_at_once(both_urls: tuple[str, str], second: bytes) -> None:
    first, then = same(both_urls, post(INFER, GOOD) + second, 2)
    assert isinstance(first, Reply)
    assert isinstance(then, Reply)
    assert first.document != then.document


@pytest.mark.deviation("pipelined")
def test_other_requests_at_once(both_urls: tuple[str, str]) -> None:
    asked = [head("GET", "/v2/models/add"), post(INFER, GOOD), head("GET", "/nowhere")]
    stub, native = both_urls
    assert exchange(stub, b"".join(asked), 3) == [exchange(native, data)[0] for data in asked]


@pytest.mark.deviation("answer-to-head")
def test_head(both_urls: tuple[str, str]) -> None:
    behind = []
    for url in both_urls:
        with connected(url) as connection, connection.makefile("rb") as stream:
            connection.sendall(head("HEAD", "/v2/models/add"))
            assert stream.readline().split()[1] == b"405"
            while stream.readline() != b"\r\n":
                pass
            connection.sendall(head("GET", "/v2/models/add"))
            behind.append(stream.readline())
    stub, native = behind
    assert stub == b"HTTP/1.1 200 OK\r\n"
    assert native.startswith(b'{"error":"Method Not Allowed"}')


@pytest.mark.rule("5.1-ids")
@pytest.mark.parametrize(
    "identifier",
    [b"\xc3\xa9\xe4\xb8\xad", b"\xff\xfe", b"a\\u0000b", b"\\ud83d\\ude00", b"%41", b"\\\\"],
)
def test_an_id_of_any_bytes(both_urls: tuple[str, str], identifier: bytes) -> None:
    body = GOOD[:-1] + b',"id":"' + identifier + b'"}'
    assert one(both_urls, post(INFER, body)).status == 200
