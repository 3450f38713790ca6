"""States of sequences, which a Python model sees and never writes, and what does not load."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from broken_models import reasons
from comparing import Engines
from sequence_models import answers, attempt, batching, both_with, corrid, signals

from triton_stub import deviations
from triton_stub.engines.engine import Engine

OLDEST = "oldest { max_candidate_sequences: 2 }"
FILES = {
    "three": np.array([1.5, -2, 3], np.float32).tobytes(),
    "four": np.array([1.5, -2, 3, 4], np.float32).tobytes(),
    "bytes": bytes(range(8)),
    "text": b"\x04\0\0\0abcd",
    "odd": b"\x03\0\0\0abc",
}


def state(
    name: str = "STATE",
    kind: str = "TYPE_FP32",
    dims: str = "3",
    start: str = "",
    *,
    output: str = "",
) -> str:
    """A state; ``start`` is in its ``initial_state``."""
    initial = f"initial_state {{ {start} }}" if start else ""
    return (
        f'state {{ input_name: "{name}" output_name: "{output or name + "_OUT"}" '
        f"data_type: {kind} dims: [ {dims} ] {initial} }}\n"
    )


def start(data: str, kind: str = "TYPE_FP32", dims: str = "3", name: str = "start") -> str:
    """What is in an ``initial_state``."""
    return f'name: "{name}" data_type: {kind} dims: [ {dims} ] {data}'


def file(name: str) -> str:
    """The field that names a file of a state."""
    return f'data_file: "{name}"'


ZERO = "zero_data: true"
STATES = {
    "numbers": state("UNSET")
    + state("VARIABLE", dims="-1, 2")
    + state("ZEROS", start=start(ZERO))
    + state("BOOLS", "TYPE_BOOL", "2", start(ZERO, "TYPE_BOOL", "2"))
    + state("DATA", start=start(file("three")))
    + state("MORE", start=start(file("four")))
    + state("SMALL", "TYPE_INT8", "5", start(file("bytes"), "TYPE_INT8", "5"))
    + state("SIZED", dims="-1", start=start(file("three"))),
    # Whatever the file says, texts are set to zeros.
    "texts": state("UNSET", "TYPE_STRING")
    + state("VARIABLE", "TYPE_STRING", "-1")
    + state("ZEROS", "TYPE_STRING", start=start(ZERO, "TYPE_STRING"))
    + state("TEXT", "TYPE_STRING", "2", start(file("text"), "TYPE_STRING", "2")),
    # What is no multiple of four bytes is left as it is, and so are the states behind it.
    "odd_text": state("A", "TYPE_STRING", "1", start(file("odd"), "TYPE_STRING", "1"), output="A")
    + state("B", start=start(ZERO), output="B"),
    "ordered": "".join(
        state(name, start=start(file("three")), output=output)
        for name, output in (("Z", "A"), ("A", "B"), ("M", "C"), ("B", "Z"))
    ),
    "same_input": state(start=start(file("three")), output="A") + state(output="B"),
    "same_output": state("A", start=start(file("three")), output="O")
    + state("B", start=start(ZERO), output="O"),
    "as_the_input": state("X", dims="1", start=start(ZERO, dims="1")),
}
SIGNAL = "control_input {{ name: '{}' control {{ kind: CONTROL_SEQUENCE_{} {} }} }}\n"
FP32 = "fp32_false_true: [ 0, 1 ]"
REFUSED_STATES = {
    "two_starts": state(start=start(ZERO)).replace(
        "initial_state", f"initial_state {{ {start(ZERO)} }} initial_state"
    ),
    "other_type": state(start=start(ZERO, "TYPE_INT32")),
    "no_name": state(start=start(ZERO, name="")),
    "twice": state(start=start(ZERO), output="A") + state(start=start(ZERO), output="B"),
    "other_rank": state(start=start(ZERO, dims="3, 1")),
    "wild_start": state(dims="-1", start=start(ZERO, dims="-1")),
    "other_dims": state(dims="4", start=start(ZERO)),
    "no_data": state(start=start("")),
    "no_file": state(start=start(file("nothing"))),
    "short_file": state(dims="5", start=start(file("four"), dims="5")),
}
REFUSED = {
    # Controls
    "nameless": SIGNAL.format("", "START", FP32),
    "same_name": SIGNAL.format("A", "START", FP32) + SIGNAL.format("A", "END", FP32),
    "two_starts_asked": SIGNAL.format("A", "START", FP32) + SIGNAL.format("B", "START", FP32),
    "two_ids": SIGNAL.format("A", "CORRID", "data_type: TYPE_UINT64")
    + SIGNAL.format("B", "CORRID", "data_type: TYPE_UINT64"),
    "no_values": SIGNAL.format("A", "READY", ""),
    "two_kinds": SIGNAL.format("A", "END", FP32 + " int32_false_true: [ 0, 1 ]"),
    "one_fp32": SIGNAL.format("A", "START", "fp32_false_true: [ 0 ]"),
    "three_int32": SIGNAL.format("A", "START", "int32_false_true: [ 0, 1, 2 ]"),
    "one_bool": SIGNAL.format("A", "START", "bool_false_true: [ true ]"),
    "id_with_values": SIGNAL.format("A", "CORRID", "data_type: TYPE_UINT64 " + FP32),
    "id_of_floats": corrid("TYPE_FP32"),
    "id_of_nothing": SIGNAL.format("A", "CORRID", ""),
    "two_controls_in_one": "control_input { name: 'A' control [ { kind: CONTROL_SEQUENCE_START "
    f"{FP32} }}, {{ kind: CONTROL_SEQUENCE_START {FP32} }} ] }}",
    # Strategies
    "preferred_zero": "oldest { preferred_batch_size: [ 0 ] }",
    "preferred_too_large": "oldest { preferred_batch_size: [ 4 ] }",
    "utilization_below": "direct { minimum_slot_utilization: -0.1 }",
    "utilization_above": "direct { minimum_slot_utilization: 1.1 }",
    "cached": "} response_cache { enable: true",
}
TAKEN = {
    # What looks as wrong, and loads.
    "two_kinds_in_one": "control_input { name: 'A' control [ { kind: CONTROL_SEQUENCE_START "
    f"{FP32} }}, {{ kind: CONTROL_SEQUENCE_END {FP32} }} ] }}",
    "no_controls": "control_input { name: 'A' }",
    "no_dims": state(dims=""),
}
ODD = {
    "text_variable": state(
        kind="TYPE_STRING", dims="-1", start=start(file("text"), "TYPE_STRING", "2")
    ),
    "texts_too_few": state(kind="TYPE_STRING", start=start(file("text"), "TYPE_STRING")),
    "text_odd": state(kind="TYPE_STRING", start=start(file("odd"), "TYPE_STRING")),
    "no_type": state().replace("data_type: TYPE_FP32", ""),
}
CONTROLS = signals("fp32_false_true", "0", "1")
MODELS = {
    **{name: batching(CONTROLS + text, rows=3) for name, text in STATES.items()},
    **{name: batching(text, rows=3) for name, text in {**REFUSED, **TAKEN, **ODD}.items()},
    "oldest": batching(OLDEST + STATES["numbers"], rows=3),
    "single": batching(STATES["numbers"]),
    "iterative": batching(f"iterative_sequence: true {STATES['numbers']}", rows=3),
}


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    with both_with(tmp_path_factory.mktemp("states"), MODELS, FILES) as engines:
        yield engines


@pytest.mark.rule("4.6-state", "trap-28")
@pytest.mark.parametrize("name", STATES)
def test_states(both: Engines, name: str) -> None:
    requests = [(1, "start"), (2, "start"), (2,), (1,), (1, "end"), (3, "start"), (2, "end")]
    requests.append((3, "end"))

    told = both.same(lambda engine: answers(engine, name, *requests, s=["a", "b"]))
    assert len(told[1][2]) == 2


@pytest.mark.rule("4.6-state")
@pytest.mark.parametrize("model", ["oldest", "single"])
def test_states_of_other_models(both: Engines, model: str) -> None:
    requests = [(5, "start"), (5,), (5, "start"), (5, "end")]
    rows = 0 if model == "single" else 1
    both.same(lambda engine: answers(engine, model, *requests, rows=rows))


@pytest.mark.rule("4.6-state", "4.6-iterative")
def test_states_of_a_request_that_comes_back(both: Engines) -> None:
    both.same(
        lambda engine: answers(engine, "iterative", (0,), parameters={"again": 2}, request_id="r")
    )


@pytest.mark.deviation("odd-state")
@pytest.mark.parametrize("name", ODD)
def test_odd_states(both: Engines, name: str) -> None:
    assert deviations.ODD_STATE.server in reasons(both.stub)[name]
    assert "error" in attempt(both.native, name, 1, "start end")


@pytest.mark.rule("4.6-control-errors")
@pytest.mark.parametrize("name", [*REFUSED, *TAKEN])
def test_what_does_not_load(both: Engines, name: str) -> None:
    def body(engine: Engine) -> Any:
        # The stub tells in which file.
        pattern = rf"Poll failed for model directory '{name}': (?:/\S*config.pbtxt: )?(.*)"
        polled = re.findall(pattern, engine.log())
        return [reasons(engine).get(name, ""), *polled[:1]]

    told = both.same(body)
    assert any(told) == (name in REFUSED)


@pytest.mark.rule("4.6-state-errors")
@pytest.mark.parametrize("name", ["other_type", "no_file", "short_file"])
def test_states_that_do_not_load(name: str, tmp_path: Path) -> None:
    """Servers of their own: the real one may crash when several such models do not load.

    The other texts are in ``tests/unit/test_sequence_states.py``.
    """
    models = {name: batching(REFUSED_STATES[name], rows=3)}
    with both_with(tmp_path, models, FILES) as engines:
        assert engines.same(lambda engine: _without_folder(reasons(engine)[name]))


def _without_folder(text: str) -> str:
    return re.sub(r"/\S*/(initial_state)", r"/\1", text)
