"""What arguments become before a method of the backend gets them."""

import collections
import decimal
import types

import numpy as np
import pytest

from triton_stub.pb_utils import casters
from triton_stub.pb_utils.casters import REFUSED, instance_of, list_of, pair_of


class WithIndex:
    def __index__(self):
        return 3


class WithInt:
    def __int__(self):
        return 4


class WithFloat:
    def __float__(self):
        return 1.5


class WithBool:
    def __bool__(self):
        return True


class Failing:
    def __index__(self):
        raise ZeroDivisionError

    def __bool__(self):
        raise ZeroDivisionError

    def __float__(self):
        raise ZeroDivisionError


class Items:
    def __len__(self):
        return 2

    def __getitem__(self, index):
        return "ab"[index]


class Text(str):
    __slots__ = ()

    def __str__(self):
        return "another"


def takes(caster, value, loaded):
    result = caster.load(value)
    assert result == loaded
    assert type(result) is type(loaded)


def refuses(caster, value):
    assert caster.load(value) is REFUSED


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a", "a"),
        ("ü", "ü"),
        (b"a", "a"),
        (bytearray(b"a"), "a"),
        (b"\xff", "\udcff"),
        (np.str_("a"), "a"),
        (np.bytes_(b"a"), "a"),
        (Text("one"), "one"),
        (Text("ü"), "ü"),
    ],
)
def test_text(value, text):
    takes(casters.STR, value, text)


@pytest.mark.parametrize("value", [None, 3, ["a"], memoryview(b"a"), "\udcff", Items()])
def test_no_text(value):
    refuses(casters.STR, value)


def test_text_that_is_no_utf8_fails_on_its_way_back():
    assert casters.returned("ü") == "ü"
    with pytest.raises(UnicodeDecodeError):
        casters.returned("\udcff")


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (3, 3),
        (True, 1),
        (np.int8(3), 3),
        (np.bool_(True), 1),
        (np.float32(2.5), 2),
        (np.array(3), 3),
        (decimal.Decimal("3.7"), 3),
        (WithIndex(), 3),
        (WithInt(), 4),
    ],
)
def test_numbers(value, number):
    takes(casters.UINT32, value, number)


@pytest.mark.parametrize(
    "value", [None, 1.0, np.float64(1), "1", b"1", 1j, [1], Failing(), WithFloat(), float("nan")]
)
def test_no_numbers(value):
    refuses(casters.UINT32, value)


@pytest.mark.parametrize(
    ("caster", "least", "most"),
    [
        (casters.INT32, -(2**31), 2**31 - 1),
        (casters.UINT32, 0, 2**32 - 1),
        (casters.INT64, -(2**63), 2**63 - 1),
        (casters.UINT64, 0, 2**64 - 1),
    ],
)
def test_the_range_of_numbers(caster, least, most):
    takes(caster, least, least)
    takes(caster, most, most)
    refuses(caster, least - 1)
    refuses(caster, most + 1)


@pytest.mark.parametrize(
    ("value", "truth"),
    [(True, True), (0, False), (2.5, True), (np.bool_(False), False), (WithBool(), True)],
)
def test_truth(value, truth):
    takes(casters.BOOL, value, truth)


@pytest.mark.parametrize("value", [None, "", "a", [], {}, Items(), Failing(), np.zeros(2)])
def test_no_truth(value):
    refuses(casters.BOOL, value)


@pytest.mark.parametrize(
    ("value", "number"),
    [(1, 1.0), (True, 1.0), (1.5, 1.5), (np.float32(1.5), 1.5), (WithFloat(), 1.5),
     (WithIndex(), 3.0), (decimal.Decimal("1.5"), 1.5)],
)  # fmt: skip
def test_floats(value, number):
    takes(casters.FLOAT, value, number)


@pytest.mark.parametrize("value", [None, "1", 1j, 10**400, WithInt(), Failing(), [1.0]])
def test_no_floats(value):
    refuses(casters.FLOAT, value)


def test_objects():
    for value in (None, 3, "a"):
        assert casters.OBJECT.load(value) is value
    refuses(casters.NOT_NONE, None)
    takes(casters.NOT_NONE, 3, 3)


def test_arrays():
    array = np.zeros(2).view(np.recarray)
    assert casters.NDARRAY.load(array) is array
    for value in ([1], np.float32(1), None, memoryview(b"a")):
        refuses(casters.NDARRAY, value)


def test_instances():
    caster = instance_of(WithInt)
    assert caster.text == f"{__name__}.WithInt"
    assert instance_of(WithInt, text="c::Name").text == "c::Name"
    value = type("Derived", (WithInt,), {})()
    assert caster.load(value) is value
    assert caster.load(None) is None
    refuses(instance_of(WithInt, none=False), None)
    refuses(caster, 3)


@pytest.mark.parametrize(
    ("value", "items"),
    [
        (["a"], ["a"]),
        (("a", b"b"), ["a", "b"]),
        (range(0), []),
        (np.array(["a"], object), ["a"]),
        (bytearray(), []),
        (collections.deque("a"), ["a"]),
        (collections.UserList("a"), ["a"]),
        (Items(), ["a", "b"]),
    ],
)
def test_lists(value, items):
    takes(list_of(casters.STR), value, items)


@pytest.mark.parametrize(
    "value",
    ["a", b"a", {}, {"a"}, {}.keys(), iter(["a"]), None, 3, ["a", 3], (None,), bytearray(b"a"),
     collections.OrderedDict(), types.MappingProxyType({}), (item for item in "a")],
)  # fmt: skip
def test_no_lists(value):
    refuses(list_of(casters.STR), value)


def test_a_list_without_a_length():
    with pytest.raises(TypeError, match="unsized"):
        list_of(casters.STR).load(np.array("a"))


def test_a_list_says_what_of():
    assert list_of(casters.STR).text == "list[str]"


def test_pairs():
    caster = pair_of(casters.INT32, casters.STR)
    assert caster.text == "tuple[int, str]"
    takes(caster, (1, "a"), (1, "a"))
    takes(caster, [True, b"a"], (1, "a"))
    for value in ((1,), (1, "a", 2), (1.0, "a"), ("a", 1), None, 3, {1, "a"}):
        refuses(caster, value)
