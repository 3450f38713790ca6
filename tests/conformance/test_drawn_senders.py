"""Any execute: what it sends for each request of a batch, and what it returns in the end."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from comparing import Engines
from hypothesis import given
from hypothesis import strategies as st
from probing import examples
from programs import both_with_programs, run

from triton_stub.engines.engine import Engine

# Calls of one request's sender, and what may be returned for it then. Left out is what the real
# server does not survive, or never answers: deviations.FAILED_AFTER_END, FAILED_WHILE_OPEN,
# NO_ANSWER.
REFUSED = ("flags=2", "", "flags=1", "3", "response(0), 9", "None, 2**32")
ANSWERS = (["response({}), 1"], ["response({})", "flags=1"], ["error('no {}'), 1"], ["None"])
RETURNED = ("response('r{}')", "error('e{}')")
WRONG = ("'text'", "3", "tensor(1)")
ENDINGS = (
    "return out",
    "return tuple(out)",
    "return out[1:]",
    "return [*out, None]",
    "return {}",
    "raise ValueError('boom')",
    "raise SystemExit(3)",
)


@st.composite
def outcomes(draw: Any) -> str:
    """A program for a batch of three: none of them is answered twice, nobody is forgotten."""
    lines = ["out = []", "told = []"]
    # Whoever fails after an answer was sent kills the real server.
    fails = draw(st.booleans())
    for number in range(3):
        calls = draw(st.lists(st.sampled_from(REFUSED), max_size=3))
        last = "None"
        if fails:
            last = draw(st.sampled_from((*RETURNED, *WRONG, "None"))).format(number)
        else:
            answer = draw(st.sampled_from((*ANSWERS, None)))
            if answer is None or answer == ["None"]:
                last = draw(st.sampled_from(RETURNED)).format(number)
            else:
                calls += [call.format(number) for call in answer]
                calls += draw(st.lists(st.sampled_from((*REFUSED, "response(7)")), max_size=2))
        lines.append(f"s = requests[{number}].get_response_sender()")
        lines += [f"told.append(attempt(lambda: s.send({call})))" for call in calls]
        lines.append(f"out.append({last})")
    lines.append("self.kept['told'] = told")
    lines.append(draw(st.sampled_from(ENDINGS[1:])) if fails else ENDINGS[0])
    return "\n".join(lines)


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    with both_with_programs(tmp_path_factory.mktemp("drawn"), "three") as engines:
        yield engines


def three(engine: Engine, program: str) -> list[str]:
    """The answers to the three requests of one batch; which of them is which, nobody knows."""
    with ThreadPoolExecutor(3) as pool:
        return sorted(map(str, pool.map(lambda _: run(engine, "three", program), range(3))))


@pytest.mark.rule(
    "3.4-order-of-checks", "3.4-whole-batch", "3.4-none-element", "trap-20", "trap-21"
)
@examples(100)
@given(program=outcomes())
def test_any_outcome_of_a_batch(programs: Engines, program: str) -> None:
    def body(engine: Engine) -> Any:
        telling = "return [response(*self.kept['told'])] * 1 + [response(0), response(0)]"
        return three(engine, program), three(engine, telling)

    programs.same(body)
