"""What a model is told of a request, and what becomes of the response that it makes."""

from __future__ import annotations

import json
import urllib.request
from typing import Any
from urllib.error import HTTPError

import numpy as np
import pytest
from comparing import Engines
from hypothesis import given
from hypothesis import strategies as st
from probing import examples, probe, probe_sent

from triton_stub.engines.engine import Engine

X = np.arange(3, dtype=np.float32)
FIELDS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "a request id": {"request_id": "ä b"},
    "a parameter of each type": {"parameters": {"i": -3, "t": 'ü "', "b": False, "n": 2**40}},
    "one output": {"outputs": ["TOLD"]},
}
TOLD = (
    "request.request_id(), request.correlation_id(), request.flags(), request.timeout(), "
    "request.parameters(), sorted(request.requested_output_names())"
)
# As they go over the wire: tritonclient would not send all of them.
BODIES: dict[str, dict[str, Any]] = {
    "doubles": {"parameters": {str(n): n for n in (1.5, -2.0, 0.0, 1e-5, 1e-6, 1e-7, 1.25e-7)}},
    "large doubles": {"parameters": {str(n): n for n in (1e16, 1e20, 1e21, 1.5e22, -1e300)}},
    "characters": {"parameters": {"\t": '\x01\x1f\x7f/\\"', "ü": "☃\u2028"}},
    "no value": {"parameters": {"none": None}},
    "a list": {"parameters": {"list": [1]}},
    "an object": {"parameters": {"object": {}}},
    "what is the server's": {
        "parameters": {
            "sequence_id": 7,
            "sequence_start": True,
            "sequence_end": True,
            "priority": 3,
            "timeout": 11,
            "binary_data_output": False,
            "own": 1,
        }
    },
    "a sequence with a name": {"parameters": {"sequence_id": "seven"}},
    "a reserved beginning": {"parameters": {"triton_own": 1}},
}
# Texts that the server hands on as those of C, and how long a sequence's may be.
NAMES: dict[str, dict[str, str]] = {
    "a zero": {"request_id": "a\0b", "sequence_id": "c\0d"},
    "a zero first": {"request_id": "\0b", "sequence_id": "\0d"},
    "long": {"request_id": "r" * 1000, "sequence_id": "s" * 128},
    "long up to a zero": {"sequence_id": "s" * 128 + "\0s"},
    "too long": {"sequence_id": "s" * 129},
    "too many bytes": {"sequence_id": "ü" * 65},
}  # fmt: skip
DTYPES = ["?", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8", "S3", "O"]
KEPT = "self.kept['a'] = by_name(request, 'X').as_numpy(), request.parameters(), request"
LATER = (
    "a, p, r = self.kept['a']; a, p, [t.name() for t in r.inputs()], r.request_id(), "
    "r.requested_output_names() == request.requested_output_names()"
)


def asked(engine: Engine, body: dict[str, Any], expression: str = TOLD) -> Any:
    """Status and body of a request to the probe."""
    code = {"name": "CODE", "datatype": "BYTES", "shape": [1], "data": [expression]}
    request = urllib.request.Request(
        f"http://{engine.http_url}/v2/models/probe/infer",
        json.dumps({"inputs": [code], **body}).encode(),
        {"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, json.loads(response.read())
    except HTTPError as error:
        return error.code, json.loads(error.read())


@pytest.mark.rule("2.5-request-id", "2.5-parameters", "2.5-requested-names")
@pytest.mark.parametrize("fields", FIELDS.values(), ids=FIELDS)
def test_what_a_client_sends(engines: Engines, fields: dict[str, Any]) -> None:
    engines.same(lambda engine: probe(engine, TOLD, X=X, **fields))


@pytest.mark.rule("2.5-parameter-types", "2.5-reserved-parameters", "2.5-flags", "2.5-timeout")
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_parameters_as_they_go_over_the_wire(engines: Engines, body: dict[str, Any]) -> None:
    engines.same(lambda engine: asked(engine, body))


@pytest.mark.rule("4.6-text-id")
@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
def test_names_of_requests_and_sequences(engines: Engines, names: dict[str, str]) -> None:
    engines.same(lambda engine: probe(engine, TOLD, **names))
    own = {"id": names.get("request_id", ""), "parameters": {"sequence_id": names["sequence_id"]}}
    engines.same(lambda engine: asked(engine, own))


values = st.one_of(
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(codec="utf-8")),
)
names = st.text(st.characters(codec="utf-8"), min_size=1).filter(
    lambda name: not name.startswith("triton_")
)


@pytest.mark.rule("2.5-parameters")
@examples(300)
@given(
    # The server takes names for C's texts, and two of them for one.
    parameters=st.dictionaries(names, values, max_size=6).filter(
        lambda drawn: len({name.partition("\0")[0] for name in drawn}) == len(drawn)
    )
)
def test_any_parameters(engines: Engines, parameters: dict[str, Any]) -> None:
    # The server's writer finds the double, but not always the digits that are nearest to it.
    parsed = "json.loads(request.parameters())"
    engines.same(lambda engine: asked(engine, {"parameters": parameters}, parsed))


@pytest.mark.rule("2.5-retained")
def test_what_is_left_of_a_request_that_is_kept(engines: Engines) -> None:
    def kept(engine: Engine) -> str:
        probe(engine, KEPT, X=X, request_id="first", parameters={"p": 1})
        return probe(engine, LATER, X=X + 1, request_id="second")

    engines.same(kept)


@pytest.mark.rule("2.6-error-wins", "2.7-status")
@pytest.mark.parametrize(
    "code",
    ["UNKNOWN", "INTERNAL", "NOT_FOUND", "INVALID_ARG", "UNAVAILABLE", "UNSUPPORTED",
     "ALREADY_EXISTS", "CANCELLED"],
)  # fmt: skip
@pytest.mark.parametrize("text", ["a text", "", "ü\n"], ids=["text", "nothing", "letters"])
def test_the_status_of_an_error(engines: Engines, code: str, text: str) -> None:
    # The answer of the probe itself comes too late: the sender has sent.
    sends = (
        f"r = R([T('OUT', np.zeros(1))], error=E({text!r}, E.{code}))\n"
        "request.get_response_sender().send(r, 1)"
    )
    engines.same(lambda engine: probe(engine, sends))


@pytest.mark.rule("2.6-parameters-accessor", "2.6-parameters")
@pytest.mark.newer("25.02", "python_backend src/pb_stub.cc")
@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("None", "'{}'"),
        ("{}", "'{}'"),
        ("{'a': 1, 'b': True, 'c': 'ü'}", "'{\"a\": 1, \"b\": true, \"c\": \"\\\\u00fc\"}'"),
        ("3", "c_python_backend_utils.TritonModelException: Expect N8pybind114dictE, got "
              "<class 'int'>"),
        ("{1: 2}", "c_python_backend_utils.TritonModelException: Expect parameters keys to have "
                   "type str, found type <class 'int'>"),
        ("{'a': 1.5}", "c_python_backend_utils.TritonModelException: Expect parameters values to "
                       "have type bool/int/str, found type <class 'float'>"),
    ],
)  # fmt: skip
def test_parameters_of_a_response(stub: Engine, given: str, told: str) -> None:
    assert probe(stub, f"R([], parameters={given}).parameters()") == told


@pytest.mark.rule("2.6-wrong-outputs", "2.6-unknown-outputs")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", ["()", "(0,)", "(3,)", "(2, 1, 2)"])
def test_outputs_of_any_type_and_shape(engines: Engines, dtype: str, shape: str) -> None:
    array = f"np.ones({shape}, {dtype!r})"
    engines.same(lambda engine: probe_sent(engine, f"sent.append(T('OUT', {array}))"))
