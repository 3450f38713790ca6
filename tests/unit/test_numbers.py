"""Numbers that clients write as text."""

import pytest

from triton_stub.endpoints import numbers


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("007", 7),
        ("+7", 7),
        ("-7", -7),
        ("0" * 5000 + "7", 7),
        ("-" + "0" * 5000, 0),
        (str(2**64), 2**64),
        ("9" * 20, 10**20 - 1),
        ("9" * 21, 10**20),
        ("1" * 5000, 10**20),
        ("-" + "1" * 5000, -(10**20)),
    ],
)
def test_numbers_of_any_length(text, number):
    assert numbers.read(text) == number
