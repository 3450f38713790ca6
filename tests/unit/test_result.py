"""The answer to a request."""

import numpy as np
import pytest

from triton_stub.core.result import Result

RESULT = Result({"b": np.zeros(1), "a": np.ones(2)}, "model", "3")


def test_outputs_by_name():
    assert (RESULT["a"] == [1, 1]).all()


def test_names_are_in_the_models_order():
    assert list(RESULT) == list(RESULT.keys()) == ["b", "a"]
    assert len(RESULT) == 2
    assert "a" in RESULT
    assert "c" not in RESULT


def test_a_result_makes_a_dict():
    assert set(dict(RESULT)) == {"a", "b"}


def test_a_name_that_is_not_there_tells_those_that_are():
    with pytest.raises(KeyError, match=r"model 'model' sent no output 'c'; it sent \['b', 'a'\]"):
        RESULT["c"]
