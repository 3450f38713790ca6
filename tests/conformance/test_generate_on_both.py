"""The generate extension, with raw requests: the same answers, event by event."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from comparing import Engines
from generate_models import NUMBERS, Answer, ask, both_with_models
from probing import marked, wait_for_log

from triton_stub.engines.engine import Engine

PATHS = ("generate", "generate_stream")
GOOD = {"CODE": "return [response(1)]"}


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    with both_with_models(tmp_path_factory.mktemp("generate")) as both:
        yield both


def same(engines: Engines, path: str, body: Any, **request: Any) -> Answer:
    stub, native = (ask(engine.http_url, path, body, **request) for engine in engines)
    assert stub == native
    return native


BODIES: dict[str, Any] = {
    "a scalar": {"INT32": 1},
    "a list": {"INT32": [1, 2]},
    "a list of one": {"INT32": [1]},
    "nested deeply": {"INT32": [[[[1]]]]},
    "nested side by side": {"INT32": [[1], [2]]},
    "a text": {"text": "a"},
    "an empty text": {"text": ""},
    "texts": {"text": ["a", "", "é\n"]},
    "texts, nested": {"text": [["a"], ["b"]]},
    "a zero in a text": {"text": "a\0b"},
    "a text that is no UTF-8": b'{"text": "\xff"}',
    "a float": {"FP32": 1.5, "FP64": [0.1, 1]},
    "floats that are none": {"FP32": [float("nan"), float("inf")], "FP64": float("-inf")},
    "a float too large": {"FP32": 1e300},
    "true and false": {"BOOL": [True, False]},
    "the greatest integers": {name: [2**63 - 1, 127] for name in NUMBERS},
    "the least integers": dict.fromkeys(NUMBERS[4:], -(2**63)),
    "an unsigned integer": {"UINT64": 2**64 - 1},
    "several inputs": {"INT32": 1, "text": ["x", "y", "z"], "BOOL": True},
    "one element": {"one": 5},
    "one element in a list": {"one": [5], "one_text": ["x"]},
    "a fixed shape": {"matrix": [1, 2, 3, 4, 5, 6], "flat": [1, 2, 3, 4, 5, 6]},
    "a fixed shape twice": {"matrix": list(range(12))},
    "the last size is the rest": {"any_matrix": [1, 2, 3]},
    "the other size is the rest": {"rows": list(range(6)), "columns": list(range(6))},
    "nothing": {},
    "blanks": b' \n{ "INT32" : 1 }\n',
    "a byte order mark": b'\xef\xbb\xbf{"INT32": 1}',
    "parameters": {"x": 1, "y": "s", "z": 1.5, "w": True, "v": -(2**63), "u": ""},
    "parameters beyond 64 bits": {"x": 2**63, "y": 2**64, "z": -(2**63) - 1, "u": 10**30},
    "parameters that are no numbers": {"x": float("nan"), "y": float("-inf")},
    "an empty key": {"": 2},
    "inside parameters": {"parameters": {"INT32": 1, "a": 2, "id": "inner"}},
    "both inside and outside": {"x": 1, "parameters": {"x": 2}, "y": 3},
    "parameters in parameters": {"parameters": {"parameters": 4}},
    "empty parameters": {"parameters": {}},
    "reserved elsewhere": {
        "sequence_id": 5,
        "parameters": {"sequence_start": True, "priority": "x", "timeout": -1, "triton_x": 1},
    },
    "an id": {"id": "seven", "INT32": 1},
    "an empty id": {"id": ""},
    "an id with a zero": {"id": "a\0b"},
    "an id twice": b'{"id": "a", "id": 3}',
    "a parameter twice": b'{"x": 2, "x": 3}',
    "parameters twice": b'{"parameters": {"a": 1}, "parameters": {"a": 2}}',
}
BODY_RULES = {
    "5.6-shape": [name for name in BODIES if "nest" in name or "shape" in name or "size" in name]
    + ["a scalar", "a list", "a list of one", "one element", "one element in a list"],
    "5.6-values": [name for name in BODIES if "text" in name or "float" in name]
    + ["true and false", "the greatest integers", "the least integers", "an unsigned integer"],
    "5.6-parameters": [
        name
        for name in BODIES
        if name.startswith(("parameters", "inside", "both", "empty p", "reserved", "a parameter"))
    ]
    + ["an empty key"],
    "5.6-id": [name for name in BODIES if name.startswith("an") and "id" in name.split()],
    "5.6-request": ["several inputs", "nothing", "blanks", "a byte order mark"],
}


@pytest.mark.parametrize("name", marked(BODIES, BODY_RULES))
@pytest.mark.parametrize("model", ["echo", "batched"])
def test_a_request(engines: Engines, model: str, name: str) -> None:
    same(engines, f"{model}/generate", BODIES[name])


REFUSED: dict[str, Any] = {
    "null": {"INT32": None},
    "an object": {"INT32": {}},
    "a text for a number": {"INT32": "1"},
    "a truth value for a number": {"INT32": True},
    "a float for an integer": {"INT32": 1.0},
    "an integer beyond 64 bits": {"INT64": 2**63},
    "a negative one without a sign": {"UINT8": -1},
    "a number for a truth value": {"BOOL": 1},
    "a text for a float": {"FP32": ["1"]},
    "a number for a text": {"text": 5},
    "null for a text": {"text": None},
    "a number among texts": {"text": ["a", 1]},
    "FP16": {"FP16": 1},
    "BF16": {"BF16": [1]},
    "FP16 of a wrong shape": {"FP16": [[1, 2]]},
    "nested values too many": {"INT32": [[1, 2]]},
    "nested texts too many": {"text": [["a", "b"]]},
    "nested in a fixed shape": {"matrix": [[1, 2, 3], [4, 5, 6]]},
    "too few for a shape": {"matrix": [1, 2, 3, 4, 5]},
    "one for a shape": {"matrix": 1},
    "a wrong rest": {"rows": [1, 2, 3, 4]},
    "a text first, then the shape": {"one_text": ["a", 5, "c"]},
    "too many rows": {"one": [1, 2, 3, 4, 5]},
    "batches of two sizes": {"one": [1, 2], "INT32": [1, 2]},
    "a number for an id": {"id": 5},
    "null for an id": {"id": None},
    "an input twice": b'{"INT32": 1, "INT32": 2}',
    "an input twice, with an id": b'{"INT32": 1, "INT32": 2, "id": "x"}',
    "an input inside and outside": {"INT32": 1, "parameters": {"INT32": 2}},
    "an input that goes on after a zero": {"INT32\0x": 1},
    "a parameter that goes on after a zero": {"x\0y": 1},
    "parameters that go on after a zero": {"parameters\0x": {}},
    "null for a parameter": {"x": None},
    "a list for a parameter": {"x": [1]},
    "an object for a parameter": {"x": {}},
    "null inside parameters": {"parameters": {"x": None}},
    "an object inside parameters": {"parameters": {"parameters": {}}},
    "a bad input inside parameters": {"parameters": {"FP32": "x"}},
    "a list for parameters": {"parameters": []},
    "null for parameters": {"parameters": None},
    "the other protocol": {"inputs": []},
    "the first fault": {"x": None, "INT32": "x"},
    "no body": b"",
    "no JSON": b"hello",
    "a comma too many": b'{"INT32": 1,}',
    "something behind": b'{"INT32": 1} x',
    "half a surrogate pair": b'{"text": "\\ud800"}',
    "a list": b"[]",
    "a text alone": b'"id"',
    "null alone": b"null",
}
REFUSED_RULES = {
    "5.6-values": list(REFUSED)[:15],
    "5.6-shape": list(REFUSED)[15:24],
    "5.6-id": ["a number for an id", "null for an id"],
    "5.6-parameters": [name for name in REFUSED if "parameter" in name or "inside" in name],
    "5.6-refused": list(REFUSED)[26:30] + list(REFUSED)[40:],
}


@pytest.mark.parametrize("name", marked(REFUSED, REFUSED_RULES))
@pytest.mark.parametrize("model", ["echo", "batched"])
def test_a_request_that_may_be_refused(engines: Engines, model: str, name: str) -> None:
    for path in PATHS:
        answer = same(engines, f"{model}/{path}", REFUSED[name])
        # Only what depends on the batch dimension is taken by one of the two models.
        assert answer.status >= 400 or name in ("too many rows", "batches of two sizes")


@pytest.mark.rule("5.6-empty")
@pytest.mark.newer("26.04", "server src/http_server.cc, ExactMappingInput: zero-size input")
@pytest.mark.parametrize("value", [[], [[], []]])
@pytest.mark.parametrize("name", ["text", "FP16", "INT32"])
def test_an_input_without_elements_has_no_shape(engines: Engines, name: str, value: Any) -> None:
    if name != "text" and value:
        value = []
    stub = engines.stub.http_url
    complaint = f"unexpected shape for input '{name}' for model 'echo'. Expected [-1], got []. "
    assert complaint in ask(stub, "echo/generate", {name: value}).events
    complaint = f"input '{name}' has no shape but model requires batch dimension for 'batched'"
    assert complaint in ask(stub, "batched/generate", {name: value}).events


@pytest.mark.rule("5.6-parameters")
@pytest.mark.parametrize("body", [{"parameters": "x"}, {"parameters": {"parameters": "x"}}])
def test_an_input_that_is_named_parameters(engines: Engines, body: Any) -> None:
    assert same(engines, "clash/generate", body).status == 400


@pytest.mark.rule("5.6-parameters")
def test_there_are_no_sequences(engines: Engines) -> None:
    sequence = {"sequence_id": 5, "sequence_start": True}
    assert same(engines, "sequence/generate", {"one": 1, "parameters": sequence}).status == 400


@pytest.mark.rule("5.6-paths")
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("model", "status"),
    [
        ("plain/versions/1", 200),
        ("plain/versions/0", None),
        ("plain/versions/2", 404),
        ("plain/versions/99999999999999999999", 400),
        ("nope", 404),
    ],
)
def test_a_version(engines: Engines, path: str, model: str, status: int | None) -> None:
    answer = same(engines, f"{model}/{path}", GOOD)
    assert status in (None, answer.status)


@pytest.mark.rule("5.6-paths")
@pytest.mark.parametrize("path", ["plain/generate/", "/generate", "plain/versions/x/generate"])
def test_a_path_that_is_not_there(engines: Engines, path: str) -> None:
    assert same(engines, path, GOOD).status == 404


@pytest.mark.rule("5.6-paths")
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_another_method(engines: Engines, path: str, method: str) -> None:
    assert same(engines, f"plain/{path}", GOOD, method=method).status == 405


HEADERS = {
    "compressed": {"Content-Encoding": "gzip"},
    "compressed unheard of": {"Content-Encoding": "br"},
    "not compressed": {"Content-Encoding": "identity"},
    "a compressed answer": {"Accept-Encoding": "gzip"},
    "another answer": {"Accept": "application/json", "Content-Type": "text/plain"},
    "events": {"Accept": "text/event-stream"},
    "a header of the other protocol": {"Inference-Header-Content-Length": "5"},
}


@pytest.mark.rule("5.6-headers")
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", HEADERS)
def test_headers(engines: Engines, path: str, name: str) -> None:
    same(engines, f"plain/{path}", GOOD, headers=HEADERS[name])


@pytest.mark.rule("5.6-response")
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("body", [{"IN": 1}, {"IN": 1, "id": "seven"}], ids=["", "id"])
def test_names_and_sizes_of_outputs(engines: Engines, path: str, body: Any) -> None:
    assert same(engines, f"odd/{path}", body).status == 200


@pytest.mark.rule("5.6-response")
@pytest.mark.parametrize("path", PATHS)
def test_an_output_that_has_no_form_in_json(engines: Engines, path: str) -> None:
    answer = same(engines, f"half/{path}", {"IN": 1})
    assert answer.status == 400
    assert answer.chunked


RETURNED = {
    "one": "return [response(1)]",
    "several values": "return [response(1, 2)]",
    "no output": "return [pb_utils.InferenceResponse([])]",
    "an error": "return [error('bad')]",
    "sent": "sender.send(response(1), flags=1)",
    "sent, and ended later": "sender.send(response(1)); sender.send(flags=1)",
    **{
        f"an error, {code}": "return [pb_utils.InferenceResponse(error=pb_utils.TritonError("
        f"'text', pb_utils.TritonError.{code}))]"
        for code in (
            *("UNKNOWN", "INTERNAL", "NOT_FOUND", "INVALID_ARG"),
            *("UNAVAILABLE", "UNSUPPORTED", "ALREADY_EXISTS", "CANCELLED"),
        )
    },
}
SENT = {
    "none": "sender.send(flags=1)",
    "one": "sender.send(response(0), flags=1)",
    "one, and ended later": "sender.send(response(0)); sender.send(flags=1)",
    "three": "for i in range(3): sender.send(response(i))\nsender.send(flags=1)",
    "three, the last with the flag": "for i in range(3): sender.send(response(i), flags=i // 2)",
    "fifty": "for i in range(50): sender.send(response(i, 'x' * i))\nsender.send(flags=1)",
    "one without outputs": "sender.send(pb_utils.InferenceResponse([]), flags=1)",
    "an error": "sender.send(error('bad'), flags=1)",
    "an error, and ended later": "sender.send(error('bad')); sender.send(flags=1)",
    "an error first": "sender.send(error('bad')); sender.send(response(1), flags=1)",
    "an error in the middle": "sender.send(response(0)); sender.send(error('bad'))\n"
    "sender.send(response(1), flags=1)",
    "an error at the end": "sender.send(response(0)); sender.send(error('bad'), flags=1)",
    "lines in a text": "sender.send(response('a\\n\\ndata: b'), flags=1)",
    "values with an id": "sender.send(response(request.request_id()), flags=1)",
}


@pytest.mark.rule("5.6-single", "5.6-error-status")
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", RETURNED)
def test_a_model_that_answers_once(engines: Engines, path: str, name: str) -> None:
    answer = same(engines, f"plain/{path}", {"CODE": RETURNED[name]})
    assert answer.status == (400 if "error" in name else 200)


@pytest.mark.rule("5.6-single")
@pytest.mark.parametrize("code", ["return [response(1)]", ["return [response(1)]"]])
def test_a_batch_of_one(engines: Engines, code: Any) -> None:
    assert same(engines, "single/generate", {"CODE": code}).status == 200


@pytest.mark.rule("5.6-stream", "5.6-error-status", "5.6-not-one")
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", SENT)
@pytest.mark.parametrize("request_id", ["", "seven"])
def test_a_decoupled_model(engines: Engines, path: str, name: str, request_id: str) -> None:
    body = {"CODE": SENT[name], **({"id": request_id} if request_id else {})}
    same(engines, f"decoupled/{path}", body)


@pytest.mark.rule("5.6-stream")
def test_responses_from_a_thread_of_the_model(engines: Engines) -> None:
    code = (
        "def work():\n    for i in range(5): sender.send(response(i))\n    sender.send(flags=1)\n"
        "threading.Thread(target=work).start()"
    )
    assert same(engines, "decoupled/generate_stream", {"CODE": code}).events.count("OUT") == 5


@pytest.mark.rule("5.6-stream")
@pytest.mark.parametrize("path", PATHS)
def test_execute_fails_after_a_response(engines: Engines, path: str) -> None:
    def body(engine: Engine) -> Any:
        code = "sender.send(response(0)); raise ValueError('bad')"
        answer = ask(engine.http_url, f"decoupled/{path}", {"CODE": code})
        return re.sub(r"  \S*/(\w+/1/model.py)", r"  …/\1", repr(answer))

    engines.same(body)


def connect(engine: Engine, path: str, body: Any) -> socket.socket:
    """A request whose answer has yet to be read."""
    host, port = engine.http_url.split(":")
    connection = socket.create_connection((host, int(port)), timeout=60)
    data = json.dumps(body).encode()
    head = f"POST /v2/models/{path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n\r\n"
    connection.sendall(head.encode() + data)
    return connection


@pytest.mark.rule("5.6-framing")
@pytest.mark.parametrize("path", PATHS)
def test_chunks(engines: Engines, path: str) -> None:
    """A chunk for each event; an answer that is alone is one chunk, too."""

    def body(engine: Engine) -> bytes:
        code = SENT["three"] if path == "generate_stream" else SENT["one"]
        with connect(engine, f"decoupled/{path}", {"CODE": code}) as connection:
            data = b""
            while not data.endswith(b"\r\n0\r\n\r\n"):
                data += connection.recv(1 << 16)
        return data.partition(b"\r\n\r\n")[2]

    engines.same(body)


# Sends a response, and waits until the request is cancelled, or for long.
WAITS = """
sender.send(response(0))
pb_utils.Logger.log_info("begun {0}")
until = time.monotonic() + 60
while not request.is_cancelled() and time.monotonic() < until:
    time.sleep(0.01)
self.kept["seen"] = request.is_cancelled()
sender.send(response(1), flags=1)
"""


@pytest.mark.rule("5.6-cancel")
@pytest.mark.parametrize("path", PATHS)
def test_a_client_that_goes_away_cancels(engines: Engines, path: str) -> None:
    def body(engine: Engine) -> Any:
        with connect(engine, f"decoupled/{path}", {"CODE": WAITS.format(path)}):
            wait_for_log(engine, f'"begun {path}"')
        seen = "sender.send(response(self.kept.pop('seen')), flags=1)"
        return ask(engine.http_url, "decoupled/generate", {"CODE": seen})

    assert "True" in engines.same(body)[3]


@pytest.mark.rule("5.6-stream")
def test_a_response_leaves_before_the_next_one_is_there(engines: Engines) -> None:
    """The second one waits for a request that is sent when the first one has come."""
    wait = """
def work():
    sender.send(response("first"))
    while "go" not in self.kept:
        time.sleep(0.01)
    del self.kept["go"]
    sender.send(response("second"), flags=1)
threading.Thread(target=work).start()
"""

    def body(engine: Engine) -> bytes:
        with connect(engine, "decoupled/generate_stream", {"CODE": wait}) as connection:
            data = b""
            while b"first" not in data:
                data += connection.recv(1 << 16)
            assert b"second" not in data
            go = "self.kept['go'] = True; sender.send(response(1), flags=1)"
            ask(engine.http_url, "decoupled/generate", {"CODE": go})
            while not data.endswith(b"\r\n0\r\n\r\n"):
                data += connection.recv(1 << 16)
        return data.partition(b"\r\n\r\n")[2]

    engines.same(body)
