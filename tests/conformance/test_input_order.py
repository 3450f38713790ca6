"""The order of a request's inputs: what a model sees, and which of several faults is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from probing import examples

if TYPE_CHECKING:
    from comparing import Engines

NAMES = [f"IN{index}" for index in range(17)]
NAMES += ["image", "CODE", "B", "a_rather_long_name_of_an_input"]
picks = st.permutations(NAMES).flatmap(
    lambda names: st.integers(1, len(names)).map(lambda count: names[:count])
)


@pytest.mark.rule("2.5-input-order")
@examples(60)
@given(names=picks)
def test_what_a_model_sees(engines: Engines, names: list[str]) -> None:
    inputs = {name: np.ones(1, np.int32) for name in names}
    seen = engines.same(lambda engine: engine.infer("many_inputs", inputs)["NAMES"])
    assert {name.decode() for name in seen["values"]} == set(names)


@pytest.mark.rule("2.5-input-order", "4.2-hash-order")
@examples(60)
@given(names=picks)
def test_which_fault_is_told(engines: Engines, names: list[str]) -> None:
    inputs = {name: np.ones(1, np.int64) for name in names}
    assert "error" in engines.same(lambda engine: engine.infer("many_inputs", inputs)["NAMES"])
