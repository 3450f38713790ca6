"""pybind11's manners, shared by the imitated classes."""

import copy
import json
import pickle
import weakref

import numpy as np
import pytest

from triton_stub.pb_utils import InferenceResponse, Tensor, TritonError, pybind
from triton_stub.pb_utils.logger import LogLevel

OBJECTS = [
    Tensor("T", np.zeros(1)),
    InferenceResponse(),
    TritonError("text"),
]
every_object = pytest.mark.parametrize("thing", OBJECTS, ids=lambda thing: type(thing).__name__)


@every_object
def test_an_object_is_neither_copied_nor_pickled(thing):
    text = f"cannot pickle 'c_python_backend_utils.{type(thing).__name__}' object"
    for attempt in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError) as caught:
            attempt(thing)
        assert str(caught.value) == text


@every_object
def test_an_object_takes_no_new_attributes(thing):
    with pytest.raises(AttributeError):
        thing.note = "mine"


@every_object
def test_an_object_is_equal_to_itself_alone_and_may_be_referred_to_weakly(thing):
    assert thing == thing  # noqa: PLR0124
    assert thing != OBJECTS
    assert weakref.ref(thing)() is thing
    assert repr(thing).startswith(f"<c_python_backend_utils.{type(thing).__name__} object at 0x")


def test_a_model_may_subclass():
    class Named(Tensor):
        def __init__(self):
            super().__init__("mine", np.zeros(1))

    assert Named().name() == "mine"


@pytest.mark.parametrize("member", [TritonError.NOT_FOUND, LogLevel.ERROR])
def test_an_enum_is_equal_to_its_number_but_is_none(member):
    assert member == 2
    assert int(member) == 2
    assert hash(member) == hash(2)
    assert ["a", "b", "c"][member] == "c"
    assert not isinstance(member, int)
    assert member != "2"
    with pytest.raises(TypeError):
        member + 1
    with pytest.raises(TypeError):
        member < 3  # noqa: B015
    with pytest.raises(TypeError):
        json.dumps(member)


def test_enums_of_different_kinds_compare_by_number():
    assert TritonError.NOT_FOUND == LogLevel.ERROR
    assert TritonError.NOT_FOUND != LogLevel.INFO


def test_how_an_enum_prints():
    assert repr(TritonError.INTERNAL) == "<__ErrorCode.INTERNAL: 1>"
    assert str(TritonError.INTERNAL) == f"{TritonError.INTERNAL}" == "__ErrorCode.INTERNAL"
    assert type(TritonError.INTERNAL).__qualname__ == "TritonError.__ErrorCode"
    assert repr(LogLevel.INFO) == "<LogLevel.INFO: 0>"


@pytest.mark.parametrize(
    ("args", "kwargs", "invoked"),
    [
        ((), {}, ""),
        ((1, "a"), {}, "1, 'a'"),
        ((), {"x": None}, "kwargs: x=None"),
        ((1,), {"x": 2, "y": 3}, "1; kwargs: x=2, y=3"),
    ],
)
def test_a_signature_error_shows_how_it_was_called(args, kwargs, invoked):
    error = pybind.signature_error("log", "(message: str) -> None", args, kwargs)
    assert str(error) == (
        "log(): incompatible function arguments. The following argument types are supported:\n"
        f"    1. (message: str) -> None\n\nInvoked with: {invoked}"
    )


@pytest.mark.parametrize(
    ("value", "text"), [("a", "a"), (b"a", "a"), (b"\xff", "\udcff"), (None, None), (3, None)]
)
def test_a_string_parameter_takes_bytes_too(value, text):
    assert pybind.to_str(value) == text


@pytest.mark.parametrize(
    ("value", "items"),
    [
        ([1], [1]),
        ((1,), [1]),
        (range(2), [0, 1]),
        (np.array([1], object), [1]),
        ("a", None),
        (b"a", None),
        ({}, None),
        ({1}, None),
        (iter([1]), None),
        (None, None),
    ],
)
def test_a_list_parameter_takes_what_is_indexed_by_number(value, items):
    assert pybind.to_list(value) == items


@pytest.mark.parametrize(
    ("args", "kwargs", "bound"),
    [
        ((1,), {}, {"a": 1, "b": 0}),
        ((1, 2), {}, {"a": 1, "b": 2}),
        ((), {"b": 2, "a": 1}, {"a": 1, "b": 2}),
        ((), {}, None),
        ((1, 2, 3), {}, None),
        ((1,), {"a": 2}, None),
        ((1,), {"c": 2}, None),
    ],
)
def test_arguments_are_matched_by_place_and_name(args, kwargs, bound):
    assert pybind.bind(("a", "b"), {"b": 0}, args, kwargs) == bound
