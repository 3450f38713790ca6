"""JSON as RapidJSON writes it; the conformance suite compares it with the server's."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triton_stub.pb_utils.compact_json import compact

DOUBLES = [
    (0.0, "0.0"), (-0.0, "-0.0"), (2.0, "2.0"), (-1.5, "-1.5"), (0.1, "0.1"), (1e-5, "0.00001"),
    (1.5e-6, "0.0000015"), (1e-6, "0.000001"), (1e-7, "1e-7"), (1.25e-7, "1.25e-7"),
    (1e16, "10000000000000000.0"), (1e20, "100000000000000000000.0"), (1e21, "1e21"),
    (float("nan"), "NaN"), (float("inf"), "Infinity"), (float("-inf"), "-Infinity"),
    (1.25e22, "1.25e22"), (-1e300, "-1e300"), (123456.75, "123456.75"), (5e-324, "5e-324"),
]  # fmt: skip


@pytest.mark.parametrize(("value", "text"), DOUBLES)
def test_doubles(value, text):
    assert compact({"a": value}) == f'{{"a":{text}}}'


def test_others():
    members = {"b": True, "c": False, "i": -(2**63), "t": 'ü"\\\n\x1f/\x7f', "\t": ""}
    assert compact(members) == (
        '{"b":true,"c":false,"i":-9223372036854775808,"t":"ü\\"\\\\\\n\\u001F/\x7f","\\t":""}'
    )
    assert compact({}) == "{}"


@given(
    st.dictionaries(
        st.text(),
        st.text()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False),
    )
)
def test_it_is_json(members):
    assert json.loads(compact(members)) == members
