"""Any calls of a response sender, in any order: what each comes to, and what the client gets."""

from __future__ import annotations

import ast
from typing import Any

import numpy as np
import pytest
from comparing import Engines
from hypothesis import given
from hypothesis import strategies as st
from probing import examples, marked, probe, probe_stream

from triton_stub.engines.engine import Engine

RESPONSE = "R([T('OUT', np.array([{}]))])"
CALLS = (
    RESPONSE, RESPONSE + ", 1", "flags=1", "", "flags=2", RESPONSE + ", 2", "None, True",
    "R(error=E('no {}'))", "R(error=E('last {}')), 1", "R([]), 1", "3", "response=R([]), flags=0",
)  # fmt: skip
SEQUENCES: dict[str, list[str]] = {
    "response_and_flag": [RESPONSE + ", 1"],
    "response_then_flag": [RESPONSE, "flags=1"],
    "two_responses": [RESPONSE, RESPONSE],
    "flag_first": ["flags=1"],
    "flag_twice": [RESPONSE + ", 1", "flags=1"],
    "response_after_the_end": [RESPONSE + ", 1", RESPONSE],
    "an_error_then_a_response": ["R(error=E('no'))", RESPONSE],
    "nothing": [""],
}
RULES = {
    "2.8-send-then-none": "response_and_flag",
    "2.8-send-then-final": "response_then_flag",
    "2.8-second-response": "two_responses",
    "2.8-final-first": "flag_first",
    "2.8-closed": "flag_twice",
    "2.8-order-of-checks": "response_after_the_end",
    "2.8-counter": "two_responses",
    "2.8-nothing": "nothing",
}
sequences = st.lists(st.sampled_from(CALLS), max_size=6)


def lines(calls: list[str], sender: str) -> str:
    """Code that makes the calls and keeps what each comes to."""
    made = [
        f"attempt(lambda: sender.send({call.format(number)}))" for number, call in enumerate(calls)
    ]
    return f"sender = {sender}\nself.kept['calls'] = [{', '.join(made)}]\nsilent = True\n"


def answered_once(engine: Engine, calls: list[str]) -> Any:
    # Whatever has happened, after these two the request is answered.
    ending = [*calls, "R([T('TOLD', np.array([b'the end'], object))]), 1", "flags=1"]
    client = answer(engine, lines(ending, "request.get_response_sender()"))
    told = probe(engine, "self.kept.pop('calls')")
    assert len(ast.literal_eval(told)) == len(ending)
    return client, told


def answer(engine: Engine, code: str) -> Any:
    try:
        result = engine.infer("probe", CODE=np.array([code.encode()], object))
    except Exception as error:  # noqa: BLE001 - whatever the client gets
        return str(error)
    return {name: result[name] for name in result}


def answered_often(engine: Engine, calls: list[str]) -> Any:
    client = probe_stream(engine, lines([*calls, "flags=1"], "sender"))
    # Told by another request of the same model.
    told = probe_stream(engine, "self.kept.pop('calls')")[0]["TOLD"]
    assert len(ast.literal_eval(told)) == len(calls) + 1
    return client, told


@pytest.mark.parametrize("name", marked(SEQUENCES, RULES))
def test_calls_of_a_model_that_is_not_decoupled(engines: Engines, name: str) -> None:
    engines.same(lambda engine: answered_once(engine, SEQUENCES[name]))


@pytest.mark.rule("2.8-decoupled-any", "2.8-errors-mid-stream")
@pytest.mark.parametrize("name", SEQUENCES)
def test_calls_of_a_decoupled_model(engines: Engines, name: str) -> None:
    engines.same(lambda engine: answered_often(engine, SEQUENCES[name]))


@pytest.mark.rule("2.8-flags", "2.8-types", "trap-21")
@examples(100)
@given(calls=sequences)
def test_any_calls_of_a_model_that_is_not_decoupled(engines: Engines, calls: list[str]) -> None:
    engines.same(lambda engine: answered_once(engine, calls))


@pytest.mark.rule("2.8-order-of-sends", "2.8-decoupled-any", "trap-22")
@examples(100)
@given(calls=sequences)
def test_any_calls_of_a_decoupled_model(engines: Engines, calls: list[str]) -> None:
    engines.same(lambda engine: answered_often(engine, calls))
