"""The generate extension, with raw requests: the same answers, event by event."""

from __future__ import annotations

import http.client
import json
import re
import socket
from ast import literal_eval
from collections.abc import Iterator
from typing import Any

import pytest
from comparing import Engines
from generate_cases import BODIES, REFUSED, RETURNED, ROWS, SENT, cases
from generate_models import Answer, ask, both_with_models
from probing import wait_for_log

from triton_stub.engines.engine import Engine

PATHS = ("generate", "generate_stream")
NAMED = "named_metrics"
GOOD = {"CODE": "return [response(1)]"}


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    with both_with_models(tmp_path_factory.mktemp("generate")) as both:
        yield both


def same(engines: Engines, path: str, body: Any, **request: Any) -> Answer:
    stub, native = (ask(engine.http_url, path, body, **request) for engine in engines)
    assert stub == native
    return native


@pytest.mark.parametrize("body", cases(BODIES))
@pytest.mark.parametrize("model", ["echo", "batched"])
def test_a_request(engines: Engines, model: str, body: Any) -> None:
    answer = same(engines, f"{model}/generate", body)
    # With batches, the backend refuses a request without inputs.
    without = model == "batched" and "request has 0 inputs" in answer.events
    assert answer.status == (400 if without else 200), answer.events


@pytest.mark.parametrize("body", cases(REFUSED))
@pytest.mark.parametrize("model", ["echo", "batched"])
def test_a_request_with_a_fault(engines: Engines, model: str, body: Any) -> None:
    for path in PATHS:
        answer = same(engines, f"{model}/{path}", body)
        assert (answer.status == 200) == (model == "batched" and body in ROWS.values())


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


@pytest.mark.rule("5.6-load-metrics")
@pytest.mark.newer("25.03", "server src/orca_http.cc, SetEndpointLoadMetricsHeader")
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("form", "told"),
    [
        ("text", f"TEXT {NAMED}.kv_cache_utilization=0.375000, {NAMED}.max_token_capacity=512"),
        ("json", f'JSON {{"{NAMED}":{{"kv_cache_utilization":0.375,"max_token_capacity":512}}}}'),
        ("yaml", None),
    ],
)
def test_how_full_the_cache_is(engines: Engines, path: str, form: str, told: str | None) -> None:
    connection = http.client.HTTPConnection(engines.stub.http_url, timeout=60)
    try:
        headers = {"endpoint-load-metrics-format": form}
        connection.request("POST", f"/v2/models/cached/{path}", b'{"one": 1}', headers)
        response = connection.getresponse()
        assert response.status == 200
        response.read()
    finally:
        connection.close()
    assert response.headers["endpoint-load-metrics"] == told


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


@pytest.mark.rule("5.6-response", "5.6-stream")
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", SENT)
def test_an_ensemble(engines: Engines, path: str, name: str) -> None:
    """Its responses have parameters, which are told beside the outputs."""
    same(engines, f"ensemble_decoupled/{path}", {"CODE": SENT[name]})


@pytest.mark.rule("5.6-response")
def test_parameters_of_a_response(engines: Engines) -> None:
    answer = same(engines, "ensemble_plain/generate", {"CODE": RETURNED["one"], "id": "seven"})
    names = [name for name, _ in literal_eval(answer.events)[0]]
    assert names == [
        *("OUT", "id", "model_name", "model_version"),
        *("sequence_end", "sequence_id", "sequence_start"),
    ]


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
                part = connection.recv(1 << 16)
                assert part, "it has hung up"
                data += part
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


@pytest.mark.rule("5.6-cancel")
@pytest.mark.parametrize("path", PATHS)
def test_a_client_that_says_no_more_is_hung_up_on(engines: Engines, path: str) -> None:
    """In the middle: without the rest of the answer, or its end."""

    def body(engine: Engine) -> bytes:
        code = WAITS.format(f"{path} once more")
        with connect(engine, f"decoupled/{path}", {"CODE": code}) as connection:
            wait_for_log(engine, f'"begun {path} once more"')
            connection.shutdown(socket.SHUT_WR)
            with connection.makefile("rb") as file:
                return file.read().partition(b"\r\n\r\n")[2]

    assert not engines.same(body).endswith(b"0\r\n\r\n")


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
                part = connection.recv(1 << 16)
                assert part, "it has hung up"
                data += part
            assert b"second" not in data
            go = "self.kept['go'] = True; sender.send(response(1), flags=1)"
            ask(engine.http_url, "decoupled/generate", {"CODE": go})
            while not data.endswith(b"\r\n0\r\n\r\n"):
                part = connection.recv(1 << 16)
                assert part, "it has hung up"
                data += part
        return data.partition(b"\r\n\r\n")[2]

    engines.same(body)
