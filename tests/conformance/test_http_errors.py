"""Raw HTTP: the same bytes to the stub and to the real server, the same status and body back."""

from __future__ import annotations

import http.client
import json
import struct
from typing import Any, NamedTuple

import pytest
from patience import wait_until

LENGTH = "Inference-Header-Content-Length"
ROW = struct.pack("<4f", 1, 2, 3, 4)


class Answer(NamedTuple):
    """What two servers must agree on; how a number is written is the server's own business."""

    status: int
    media_type: str | None
    document: str
    blobs: bytes


def ask(
    url: str, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
) -> Answer:
    connection = http.client.HTTPConnection(url, timeout=30)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        content = response.read()
    finally:
        connection.close()
    size = int(response.headers.get(LENGTH, len(content)))
    document = content[:size].decode(errors="surrogateescape")
    return Answer(
        response.status,
        response.headers["Content-Type"],
        # repr, because NaN is not equal to itself.
        repr(json.loads(document)) if document else "",
        content[size:],
    )


def same(urls: tuple[str, str], *request: Any) -> Answer:
    stub, native = (ask(url, *request) for url in urls)
    assert stub == native
    return native


def infer(
    urls: tuple[str, str], body: bytes, headers: dict[str, str] | None = None, model: str = "add"
) -> Answer:
    return same(urls, "POST", f"/v2/models/{model}/infer", body, headers)


def tensor(name: str = "A", **fields: Any) -> dict[str, Any]:
    """An input of model ``add``; a field that is ``...`` is left out."""
    entry = {"name": name, "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4], **fields}
    return {key: value for key, value in entry.items() if value is not ...}


def blob(name: str = "A", size: Any = 16, **fields: Any) -> dict[str, Any]:
    return tensor(name, data=..., parameters={"binary_data_size": size}, **fields)


def document(*inputs: Any, **fields: Any) -> bytes:
    return json.dumps({"inputs": list(inputs or (tensor(), tensor("B"))), **fields}).encode()


def with_blobs(json_text: bytes, *blobs: bytes) -> tuple[bytes, dict[str, str]]:
    return b"".join((json_text, *blobs)), {LENGTH: str(len(json_text))}


B = tensor("B")
GOOD = document()

REFUSED_INPUTS = {
    "missing input": [tensor()],
    "unknown input": [tensor(), tensor("C")],
    "duplicate input": [tensor(), tensor()],
    "duplicate input beside a good one": [tensor(), B, tensor()],
    "wrong datatype": [tensor(datatype="INT32"), B],
    "wrong datatype, text": [tensor(datatype="BYTES", data=["a", "b", "c", "d"]), B],
    "wrong shape": [tensor(shape=[1, 3], data=[1, 2, 3]), tensor("B", shape=[1, 4])],
    "wrong rank": [tensor(shape=[1, 2, 2]), tensor("B", shape=[1, 2, 2])],
    "batch too large": [tensor(name, shape=[9, 4], data=[0] * 36) for name in "AB"],
    "no shape": [tensor(shape=...), B],
    "empty shape": [tensor(shape=[]), B],
    "shape is a number": [tensor(shape=4), B],
    "negative size": [tensor(shape=[-1, 4]), B],
    "size is a float": [tensor(shape=[1.0, 4]), B],
    "size is text": [tensor(shape=["1", 4]), B],
    "size is a bool": [tensor(shape=[True, 4]), B],
    "size beyond 64 bits": [tensor(shape=[2**64, 4]), B],
    "size that becomes -1": [tensor(shape=[1, 2**64 - 1], data=...,
                                    parameters={"binary_data_size": 0}), B],
    "no name": [tensor(name=...), B],
    "name is a number": [tensor(name=3), B],
    "no datatype": [tensor(datatype=...), B],
    "datatype is a number": [tensor(datatype=1), B],
    "unknown datatype": [tensor(datatype="FOO"), B],
    "datatype in lower case": [tensor(datatype="fp32"), B],
    "no data": [tensor(data=...), B],
    "data is null": [tensor(data=None), B],
    "data is a number": [tensor(data=4), B],
    "data is text": [tensor(data="1234"), B],
    "data is an object": [tensor(data={}), B],
    "too many values": [tensor(data=[1, 2, 3, 4, 5]), B],
    "text among numbers": [tensor(data=[1, "2", 3, 4]), B],
    "null among numbers": [tensor(data=[1, None, 3, 4]), B],
    "bool among numbers": [tensor(data=[1, True, 3, 4]), B],
    "object among numbers": [tensor(data=[1, {}, 3, 4]), B],
    "bad value after too many": [tensor(data=[1, 2, 3, 4, "x"]), B],
    "bad value among too few": [tensor(data=[1, "x"]), B],
    "FP16 in JSON": [tensor(datatype="FP16"), B],
    "BF16 in JSON": [tensor(datatype="BF16"), B],
    "data twice": [tensor(parameters={"binary_data_size": 16}), B],
    "three sources": [tensor(parameters={"binary_data_size": 16, "shared_memory_region": "r"}), B],
    "input is a number": [5],
    "input is null": [None],
    "input is a list": [[]],
}  # fmt: skip


@pytest.mark.rule("4.2-order")
@pytest.mark.parametrize("inputs", REFUSED_INPUTS.values(), ids=REFUSED_INPUTS)
def test_refused_inputs(both_urls: tuple[str, str], inputs: list[Any]) -> None:
    assert infer(both_urls, document(*inputs)).status >= 400


REFUSED_FIELDS = {
    "no inputs": {"inputs": []},
    "inputs is an object": {"inputs": {}},
    "inputs is null": {"inputs": None},
    "id is a number": {"id": 4},
    "id is null": {"id": None},
    "unknown output": {"outputs": [{"name": "NOPE"}]},
    "outputs is null": {"outputs": None},
    "outputs is an object": {"outputs": {}},
    "output is a number": {"outputs": [3]},
    "output without name": {"outputs": [{}]},
    "binary_data is a number": {"outputs": [{"name": "SUM", "parameters": {"binary_data": 1}}]},
    "classification is text": {"outputs": [{"name": "SUM", "parameters": {"classification": "1"}}]},
    "shared memory and classification": {
        "outputs": [
            {"name": "SUM", "parameters": {"shared_memory_region": "x", "classification": 0}}
        ]
    },
    "shared memory and binary data": {
        "outputs": [
            {"name": "SUM", "parameters": {"shared_memory_region": "x", "binary_data": True}}
        ]
    },
    "parameters is null": {"parameters": None},
    "parameters is a list": {"parameters": []},
    "reserved key": {"parameters": {"triton_x": 1}},
    "list as parameter": {"parameters": {"x": [1]}},
    "null as parameter": {"parameters": {"x": None}},
    "binary_data_output is a number": {"parameters": {"binary_data_output": 1}},
    **{
        f"{key} is {value!r}": {"parameters": {key: value}}
        for key, values in {
            "sequence_id": [-1, True, 1.5, None],
            "sequence_start": [1, "true", None],
            "sequence_end": [0, [], 2**64],
            "priority": [-1, "high", True, 1.5],
            "timeout": [-1, "1 s", None, 2**64],
        }.items()
        for value in values
    },
}


@pytest.mark.rule("4.14-parameters")
@pytest.mark.parametrize("fields", REFUSED_FIELDS.values(), ids=REFUSED_FIELDS)
def test_refused_fields(both_urls: tuple[str, str], fields: dict[str, Any]) -> None:
    assert infer(both_urls, document(**fields)).status >= 400


REFUSED_TEXTS = {
    "no JSON": b"hello",
    "cut short": GOOD[:-5],
    "something behind": GOOD + b" x",
    "trailing comma": GOOD[:-1] + b",}",
    "single quotes": GOOD.replace(b'"', b"'"),
    "comment": b"/* x */" + GOOD,
    "UTF-16": GOOD.decode().encode("utf-16"),
    "control character": b'{"id":"a\nb",' + GOOD[1:],
    "NUL in a string": b'{"id":"a\0b",' + GOOD[1:],
    "half a surrogate pair": b'{"id":"\\ud800",' + GOOD[1:],
    "bytes that are no UTF-8 behind": GOOD + b"\xff",
    "number too large": GOOD.replace(b"1, 2", b"1e400, 2"),
    "byte order mark, and no JSON": b"\xef\xbb\xbf{x",
    "list": b"[]",
    "text": b'"x"',
    "number": b"5",
    "null": b"null",
    "empty object": b"{}",
    "nested": b"[" * 50 + b"]" * 50,
    "nothing": b"",
    "the first of two equal keys counts": b'{"id":5,"id":"x",' + GOOD[1:],
}


@pytest.mark.parametrize("body", REFUSED_TEXTS.values(), ids=REFUSED_TEXTS)
def test_refused_texts(both_urls: tuple[str, str], body: bytes) -> None:
    assert infer(both_urls, body).status >= 400


TWO_BLOBS = document(blob(), blob("B"))
REFUSED_BLOBS = {
    "too few bytes": with_blobs(TWO_BLOBS, ROW, ROW[:7]),
    "no bytes": with_blobs(TWO_BLOBS),
    "too many bytes": with_blobs(TWO_BLOBS, ROW, ROW, b"x"),
    "bytes behind JSON tensors": with_blobs(GOOD, b"abc"),
    "fewer bytes than the shape": with_blobs(document(blob(size=12), blob("B")), ROW[:12], ROW),
    "more bytes than the shape": with_blobs(document(blob(size=20), blob("B")), ROW, ROW, b"1234"),
    "size 0": with_blobs(document(blob(size=0), blob("B")), ROW),
    "size is negative": with_blobs(document(blob(size=-1), blob("B")), ROW, ROW),
    "size is text": with_blobs(document(blob(size="16"), blob("B")), ROW, ROW),
    "size is a float": with_blobs(document(blob(size=16.0), blob("B")), ROW, ROW),
    "unknown datatype": with_blobs(document(blob(datatype="FOO"), blob("B")), ROW, ROW),
    "no header": (TWO_BLOBS + ROW + ROW, {}),
    "no header, no NUL behind the JSON": (TWO_BLOBS + b"\xff\xfe\xfd\x01" * 8, {}),
    "header without bytes": (TWO_BLOBS, {}),
    "header too short": (GOOD, {LENGTH: str(len(GOOD) - 1)}),
    **{
        f"header {value!r}": (TWO_BLOBS + ROW + ROW, {LENGTH: value})
        for value in ("0", "-1", "1", "99999", "12abc", " 5", "5.5", "+3", "0x5",
                      "4294967296", "99999999999999999999")
    },
}  # fmt: skip


@pytest.mark.parametrize(("body", "headers"), REFUSED_BLOBS.values(), ids=REFUSED_BLOBS)
def test_refused_blobs(both_urls: tuple[str, str], body: bytes, headers: dict[str, str]) -> None:
    assert infer(both_urls, body, headers).status >= 400


@pytest.mark.rule("4.14-status")
@pytest.mark.parametrize(
    "how",
    ["exception", "key", "silent", "exit", "chained", "triton_error", "model_exception", "tuple",
     "too_many", "text", "error:UNKNOWN", "error:INTERNAL", "error:NOT_FOUND",
     "error:INVALID_ARG", "error:UNAVAILABLE", "error:UNSUPPORTED", "error:ALREADY_EXISTS",
     "error:CANCELLED"],
)  # fmt: skip
def test_a_model_that_raises(both_urls: tuple[str, str], how: str) -> None:
    body = document(tensor("HOW", datatype="BYTES", shape=[1, 1], data=[how]))
    assert infer(both_urls, body, model="raises").status >= 400


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/health/live", 200),
        ("GET", "/v2/health/ready", 200),
        ("POST", "/v2/health/live", 405),
        ("GET", "/v2/health", 404),
        ("POST", "/v2", 405),
        ("DELETE", "/v2", 405),
        ("GET", "/v2/", 404),
        ("GET", "/", 404),
        ("GET", "/v3", 404),
        ("GET", "/v2/models", 404),
        ("GET", "/v2/models/add", 200),
        ("GET", "/v2/models/add?x=1", 200),
        ("GET", "/v2/models/add/", 404),
        ("GET", "/v2/models/%61dd", 404),
        ("POST", "/v2/models/add", 405),
        ("GET", "/v2/models/nope", 404),
        ("GET", "/v2/models/add/versions/1", 200),
        ("GET", "/v2/models/add/versions/01", 200),
        ("GET", "/v2/models/add/versions/0", 404),
        ("GET", "/v2/models/add/versions/9", 404),
        ("GET", "/v2/models/add/versions/x", 404),
        ("GET", "/v2/models/add/versions/99999999999999999999", 400),
        ("GET", "/v2/models/facts", 200),
        ("GET", "/v2/models/facts/versions/1", 200),
        ("GET", "/v2/models/facts/versions/2", 404),
        ("GET", "/v2/models/add/ready", 200),
        ("GET", "/v2/models/facts/versions/3/ready", 200),
        ("GET", "/v2/models/facts/versions/2/ready", 400),
        ("GET", "/v2/models/nope/ready", 400),
        ("GET", "/v2/models/add/versions/99999999999999999999/ready", 400),
        ("POST", "/v2/models/add/ready", 405),
        ("GET", "/v2/models/add/config", 200),
        ("GET", "/v2/models/types/config", 200),
        ("GET", "/v2/models/nope/config", 404),
        ("POST", "/v2/models/add/config", 405),
        ("GET", "/v2/models/nope/stats", 400),
        ("GET", "/v2/models/facts/versions/2/stats", 400),
        ("POST", "/v2/models/add/stats", 405),
        ("POST", "/v2/models/nope/infer", 404),
        ("POST", "/v2/models/add/versions/9/infer", 404),
        ("GET", "/v2/models/add/infer", 405),
        ("GET", "/v2/models/add/foo", 404),
        ("GET", "/v2/repository/index", 405),
        ("POST", "/v2/repository/index", 200),
        ("POST", "/v2/repository/models/index", 200),
    ],
)
def test_paths(both_urls: tuple[str, str], method: str, path: str, status: int) -> None:
    assert same(both_urls, method, path).status == status


@pytest.mark.parametrize(
    ("body", "status"),
    [(b'{"ready":true}', 200), (b'{"ready":false}', 200), (b"[]", 200), (b"{", 500)],
)  # fmt: skip
def test_the_index(both_urls: tuple[str, str], body: bytes, status: int) -> None:
    assert same(both_urls, "POST", "/v2/repository/index", body).status == status


ANSWERED = {
    "JSON": (GOOD, {}),
    "nested data": (document(tensor(data=[[1, 2], [[3], 4]]), B), {}),
    "request id": (document(id="my-id"), {}),
    "empty request id": (document(id=""), {}),
    "request id with everything in it": (document(id='é中"\\\n\x01\x7f/'), {}),
    "NaN and infinity": (document(tensor(data=[float("nan"), float("inf"), 1e-46, 1e39]), B), {}),
    "Inf": (GOOD.replace(b"1, 2", b"Inf, -Infinity"), {}),
    "large integers": (document(tensor(data=[2**64, 2**63, -(2**63) - 1, 10**30]), B), {}),
    "exponents": (GOOD.replace(b"1, 2", b"1e2, 2E-3"), {}),
    "NUL behind the JSON": (GOOD + b"\0x", {}),
    "byte order mark": (b"\xef\xbb\xbf" + GOOD, {}),
    "blanks": (b"\t\r\n " + GOOD + b" \n", {}),
    "header over all": (GOOD, {LENGTH: str(len(GOOD))}),
    "header with something behind": (GOOD, {LENGTH: f"{len(GOOD)}junk"}),
    "outputs": (document(outputs=[{"name": "SUM"}]), {}),
    "no outputs": (document(outputs=[]), {}),
    "binary output": (
        document(outputs=[{"name": "SUM", "parameters": {"binary_data": True}}]), {},
    ),
    "binary output denied": (
        document(
            outputs=[{"name": "SUM", "parameters": {"binary_data": False}}],
            parameters={"binary_data_output": True},
        ), {},
    ),
    "binary by default, output listed": (
        document(outputs=[{"name": "SUM"}], parameters={"binary_data_output": True}), {},
    ),
    "binary by default": (document(parameters={"binary_data_output": True}), {}),
    "classification of no classes": (
        document(outputs=[{"name": "SUM", "parameters": {"classification": 0}}]), {},
    ),
    "parameters of no use": (
        document(tensor(parameters={"x": 1}), tensor("B", parameters=None),
                 outputs=[{"name": "SUM", "parameters": []}]), {},
    ),
    "reserved parameters": (
        document(parameters={"sequence_id": 2**64 - 1, "sequence_start": True,
                             "sequence_end": False, "priority": 2**64 - 1,
                             "timeout": 2**64 - 1}), {},
    ),
    "binary inputs": with_blobs(TWO_BLOBS, ROW, ROW),
    "binary input, then JSON": with_blobs(document(blob(), B), ROW),
    "JSON input, then binary": with_blobs(document(tensor(), blob("B")), ROW),
    "uncompressed": (GOOD, {"Content-Encoding": "identity"}),
}  # fmt: skip


@pytest.mark.rule("4.14-id", "4.14-order")
@pytest.mark.parametrize(("body", "headers"), ANSWERED.values(), ids=ANSWERED)
def test_answers(both_urls: tuple[str, str], body: bytes, headers: dict[str, str]) -> None:
    assert infer(both_urls, body, headers).status == 200


INTEGERS = [f"{sign}INT{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)]
LOW_BITS = [0, 127, 128, 255, 256, 65535, 65536, 2**31, 2**32 - 1, 2**32, 2**40 + 5, 2**63 - 1]
HARD_FLOATS = [0.1, -0.0, 0.30000000000000004, 123456789.123456789, 2**53 + 1, 5e-324, 1e-320,
               2.2250738585072014e-308, 1.7976931348623157e308, 3.4028234e38, 3.4028235677973366e38,
               2**64, 10**25, 1e-46, float("nan"), float("inf"), -float("inf")]  # fmt: skip
VALUES = [
    *((name, LOW_BITS) for name in INTEGERS),
    *((name, [-1, -128, -129, -32769, -(2**31) - 1, -(2**63)]) for name in INTEGERS),
    *((name, [value])
      for name in INTEGERS
      for value in (2**63, 2**64 - 1, 2**64, -(2**63) - 1, 1.0, 1e2, True, "1", None)),
    *((name, HARD_FLOATS) for name in ("FP32", "FP64")),
    *((name, [value]) for name in ("FP32", "FP64") for value in (True, "1", None)),
    ("BOOL", [True, False]), ("BOOL", [1]), ("BOOL", ["true"]),
    ("BYTES", ["a", "", "é中", "a\0b", '"\\/\n\t\x01\x7f', "😀"]), ("BYTES", ["a", ["b"]]),
    ("BYTES", [1]), ("BYTES", [None]), ("BYTES", [{}]), ("BYTES", ["a", ["b", 5]]),
    ("FP16", [1]), ("BF16", [1]), ("FP16", []), ("INT32", []), ("BYTES", []),
]  # fmt: skip


@pytest.mark.rule("4.14-json")
@pytest.mark.parametrize(("datatype", "data"), VALUES, ids=repr)
def test_json_values(both_urls: tuple[str, str], datatype: str, data: list[Any]) -> None:
    entry = tensor(datatype, datatype=datatype, shape=[len(data)], data=data)
    infer(both_urls, document(entry), model="types")


TOO_FEW = "Failed to parse 'data' field: shape does not match true shape"
NO_TEXTS = "Failed to parse 'data' field: output buffer unavailable"


@pytest.mark.newer("26.04", "server src/http_server.cc, ReadDataFromJson")
@pytest.mark.parametrize(
    ("datatype", "data", "text"),
    [
        ("FP32", [], TOO_FEW),
        ("FP32", [1, [2, 3]], TOO_FEW),
        ("BYTES", [], NO_TEXTS),
        ("BYTES", [[], []], NO_TEXTS),
    ],
)
def test_too_few_values(
    both_urls: tuple[str, str], datatype: str, data: list[Any], text: str
) -> None:
    body = document(tensor(datatype, datatype=datatype, shape=[4], data=data))
    stub, native = (ask(url, "POST", "/v2/models/types/infer", body) for url in both_urls)
    assert (stub.status, stub.document) == (500, repr({"error": text}))
    assert native.status == (400 if datatype == "BYTES" else 500)


@pytest.mark.newer("26.05", "core src/infer_request.cc, AddOriginalRequestedOutput")
def test_output_twice(both_urls: tuple[str, str]) -> None:
    """Newer than the oracle: refused since r26.05, where 2.51 merges them.

    Source: core, ``src/infer_request.cc``, ``InferenceRequest::AddOriginalRequestedOutput``.
    """
    outputs = [{"name": "SUM"}, {"name": "SUM", "parameters": {"binary_data": True}}]
    body = document(outputs=outputs, id="my-id")
    stub, native = (ask(url, "POST", "/v2/models/add/infer", body) for url in both_urls)
    assert native == ask(
        both_urls[1], "POST", "/v2/models/add/infer", document(outputs=outputs[:1], id="my-id")
    )
    assert stub.status == 400
    refusal = {"error": "[request id: my-id] output 'SUM' already exists in request"}
    assert stub.document == repr(refusal)


@pytest.mark.parametrize("count", [1, 3])
def test_text_that_is_not_as_many_as_the_shape_says(both_urls: tuple[str, str], count: int) -> None:
    entry = tensor("BYTES", datatype="BYTES", shape=[2], data=["a"] * count)
    assert infer(both_urls, document(entry), model="types").status == 400


def framed(*items: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(item)) + item for item in items)


@pytest.mark.parametrize("binary_output", [False, True])
@pytest.mark.parametrize(
    ("datatype", "count", "data"),
    [
        ("BYTES", 3, framed(b"a", b"", b"xyz")),
        ("BYTES", 2, framed(b"\xff\x00\xfe", b"\xc3\xa9")),
        ("BYTES", 0, b""),
        ("BYTES", 1, b""),
        ("BYTES", 2, framed(b"a")),
        ("BYTES", 2, framed(b"a", b"b", b"c")),
        ("BYTES", 2, framed(b"a") + b"\1"),
        ("FP16", 2, struct.pack("<2e", 1, 2)),
        ("FP16", 0, b""),
        ("BF16", 2, b"\x80\x3f\x00\x40"),
        ("BOOL", 3, b"\2\0\1"),
        ("INT64", 2, bytes(16)),
        ("INT64", 2, bytes(12)),
        ("FP64", 3, struct.pack("<3d", 1, float("nan"), -0.0)),
        ("UINT8", 100_000, bytes(100_000)),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_binary_values(
    both_urls: tuple[str, str], datatype: str, count: int, data: bytes, *, binary_output: bool
) -> None:
    text = document(
        blob(datatype, len(data), datatype=datatype, shape=[count]),
        parameters={"binary_data_output": binary_output},
    )
    infer(both_urls, *with_blobs(text, data), model="types")


def test_bytes_that_are_no_utf_8(both_urls: tuple[str, str]) -> None:
    body = document(tensor("BYTES", datatype="BYTES", shape=[1], data=["@"])).replace(
        b"@", b"a\xff\xfeb"
    )
    assert infer(both_urls, body, model="types").status == 200


@pytest.mark.parametrize("model", ["add", "types", "slow", "facts", "raises"])
@pytest.mark.parametrize("size", [0, 1, 8, 20])
def test_raw_binary_requests(both_urls: tuple[str, str], model: str, size: int) -> None:
    """The whole body is the only input: with a header that says 0, and always when it is empty."""
    same(both_urls, "POST", f"/v2/models/{model}/infer", bytes(size), {LENGTH: "0"})


@pytest.mark.rule("4.14-parameters", "4.14-id")
def test_parameters_reach_the_model(both_urls: tuple[str, str]) -> None:
    text = document(
        blob("IN", 4, datatype="FP16", shape=[1, 1, 2]),
        id="seven",
        parameters={"a": 1, "b": "s", "c": True, "d": 1.5, "e": -3, "f": 2**63, "sequence_id": 5,
                    "sequence_start": True, "sequence_end": True, "timeout": 77, "priority": 0},
        outputs=[{"name": "JSON"}, {"name": "OUT", "parameters": {"binary_data": True}}],
    )  # fmt: skip
    assert infer(both_urls, *with_blobs(text, bytes(4)), model="facts").status == 200


def test_statistics_count_what_was_executed(both_urls: tuple[str, str]) -> None:
    """An execute that raises is a failure; a response that carries an error is a success."""

    def counts(url: str) -> Any:
        connection = http.client.HTTPConnection(url, timeout=30)
        connection.request("GET", "/v2/models/raises/stats")
        (stats,) = json.loads(connection.getresponse().read())["model_stats"]
        connection.close()
        return (
            stats["inference_count"],
            stats["execution_count"],
            {key: value["count"] for key, value in stats["inference_stats"].items()},
            [(row["batch_size"], row["compute_infer"]["count"]) for row in stats["batch_stats"]],
            sorted(stats),
        )

    for how in ("fine", "exception", "error:NOT_FOUND"):
        infer(
            both_urls,
            document(tensor("HOW", datatype="BYTES", shape=[1, 1], data=[how])),
            model="raises",
        )
    stub_url, native_url = both_urls
    expected = counts(stub_url)
    # The real server counts after it has answered.
    wait_until(lambda: counts(native_url) == expected)
