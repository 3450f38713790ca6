"""Any interleaving of sequences: what each request finds, and which are refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from comparing import Engines
from hypothesis import given
from hypothesis import strategies as st
from probing import examples
from sequence_models import ask, attempt, batching, both_with, corrid, signals

SIGNALS = signals("int32_false_true", "2", "3")
STATE = (
    'state { input_name: "STATE" output_name: "O" data_type: TYPE_INT32 dims: [ 2 ] initial_state '
    '{ name: "start" data_type: TYPE_INT32 dims: [ 2 ] zero_data: true } } '
)
# A model, and how many sequences it has at a time. With ids that are texts 2.51 has no such input.
MODELS = {
    "direct": (batching(SIGNALS + STATE, rows=3), 3),
    "direct_ids": (batching(SIGNALS + corrid("TYPE_UINT32"), rows=3), 3),
    "direct_instances": (batching(SIGNALS, rows=2, instances=2), 4),
    "single": (batching(SIGNALS, instances=3), 3),
    "oldest": (batching(f"{SIGNALS} oldest {{ max_candidate_sequences: 3 }}", rows=2), 3),
    "oldest_instances": (
        batching(f"{STATE} oldest {{ max_candidate_sequences: 2 }}", rows=3, instances=2),
        4,
    ),
}
IDS = (1, 2, 3, 2**64 - 1, "1", "two", "three", "")


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    configs = {name: config for name, (config, _) in MODELS.items()}
    configs["iterative"] = batching(f"iterative_sequence: true {SIGNALS} {STATE}", rows=3)
    with both_with(tmp_path_factory.mktemp("sequences"), configs) as engines:
        yield engines


@pytest.fixture(scope="module")
def numbers() -> dict[tuple[str, str], int]:
    """Instances by engine and name, numbered as they come: which is the first, is chance."""
    return {}


@st.composite
def interleaved(
    draw: Any, ids: tuple[int | str, ...], most: int, *, has_rows: bool
) -> list[dict[str, Any]]:
    """Requests of which none has to wait for another; what is open at the end, ends."""
    open_ids: list[int | str] = []
    requests = []
    for _ in range(draw(st.integers(1, 14))):
        sequence = draw(st.sampled_from((*ids, 0)))
        flags = draw(st.sampled_from(("start", "start", "", "", "end", "start end")))
        rows = draw(st.sampled_from((1,) * 9 + (2,))) if has_rows else 0
        x = draw(st.lists(st.integers(-9, 9), min_size=1, max_size=3))
        s = draw(st.sampled_from((None, None, ["a", "b"])))
        if rows < 2 and sequence:
            is_known = sequence in open_ids
            if "start" in flags and not is_known and len(open_ids) == most:
                continue
            if "end" in flags and is_known:
                open_ids.remove(sequence)
            elif flags == "start" and not is_known:
                open_ids.append(sequence)
        requests.append({"sequence": sequence, "flags": flags, "rows": rows, "x": x, "s": s})
    rows = 1 if has_rows else 0
    return requests + [{"sequence": each, "flags": "end", "rows": rows} for each in open_ids]


@pytest.mark.rule(
    "4.6-flags", "4.6-start", "4.6-sticky", "4.6-slot-order", "4.6-null", "4.6-oldest"
)
@pytest.mark.parametrize("model", MODELS)
@examples(60)
@given(data=st.data())
def test_interleaved_sequences(
    both: Engines, numbers: dict[tuple[str, str], int], model: str, data: st.DataObject
) -> None:
    ids = tuple(each for each in IDS if isinstance(each, int) or "ids" not in model)
    if "ids" in model:
        ids += (2**32 + 1,)
    requests = data.draw(interleaved(ids, MODELS[model][1], has_rows=model != "single"))
    told = [
        [_numbered(attempt(engine, model, **each), engine.name, numbers) for each in requests]
        for engine in both
    ]
    assert told[0] == told[1]


@pytest.mark.rule("4.6-iterative", "4.6-state")
@examples(60)
@given(
    requests=st.lists(
        st.tuples(
            st.sampled_from((0, "", 7, "seven")),
            st.sampled_from(("start", "", "start")),
            st.integers(0, 3),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_iterative_requests(both: Engines, requests: list[tuple[int | str, str, int]]) -> None:
    told = []
    for engine in both:
        begin = ask(engine, "iterative")[2][-1][0]  # ids count from where they are
        answers = []
        for sequence, flags, again in requests:
            more: dict[str, Any] = {"request_id": "r", "parameters": {"again": again}}
            answers.append(attempt(engine, "iterative", sequence, flags, **more))
            # When it is executed, the sequence before has ended: that comes after its answer.
            ask(engine, "iterative")
        # Whether a slot is free by the time the next request comes, is chance: so are the gaps.
        own = [each if isinstance(each, dict) else each[2][each[1]] for each in answers]
        told.append([_after(begin, each) for each in own])
    assert told[0] == told[1]


def _numbered(told: Any, engine: str, numbers: dict[tuple[str, str], int]) -> Any:
    if isinstance(told, dict):
        return told
    instance, *rest = told
    return [numbers.setdefault((engine, instance), _next(numbers, engine, instance)), *rest]


def _next(numbers: dict[tuple[str, str], int], engine: str, instance: str) -> int:
    model = instance.rpartition("_")[0]
    return sum(each[0] == engine and each[1].rpartition("_")[0] == model for each in numbers)


def _after(begin: int, told: Any) -> Any:
    if isinstance(told, dict):
        return told
    sequence, *rest = told
    return [sequence - begin if isinstance(sequence, int) and sequence > begin else sequence, *rest]
