"""pybind11's manners: classes, methods and enums that are declared like the backend's."""

import copy
import json
import pickle
import weakref
from typing import ClassVar

import numpy as np
import pytest

from triton_stub.pb_utils import InferenceResponse, Tensor, TritonError, pybind
from triton_stub.pb_utils.casters import BOOL, OBJECT, STR, UINT32, instance_of
from triton_stub.pb_utils.enums import PybindEnum, member
from triton_stub.pb_utils.logger import LogLevel


class Colour(PybindEnum):
    __slots__ = ()
    __module__ = "c_python_backend_utils"

    RED: ClassVar = member(0)
    BLUE: ClassVar = member(4)


class Thing(pybind.PybindObject):
    __slots__ = ("given",)
    __module__ = "c_python_backend_utils"

    @pybind.constructor(STR, colour=(instance_of(Colour, none=False), Colour.RED))
    def __init__(self, name, colour):
        self.given = (name, colour)

    @pybind.method("str")
    def name(self):
        """The name."""
        return self.given[0]

    @pybind.method("object", UINT32, loud=(BOOL, False), note=OBJECT)
    def call(self, number, loud, note):
        return number, loud, note

    @staticmethod
    @pybind.function("int", number=UINT32)
    def same(number):
        return number

    @pybind.misbound("object", STR, OBJECT)
    def made(name, source):  # noqa: N805
        return name, source


class Hidden(pybind.PybindObject):
    __slots__ = ()
    __module__ = "c_python_backend_utils"

    __init__ = pybind.no_constructor


def refusal(call, *args, **kwargs):
    with pytest.raises(TypeError) as caught:
        call(*args, **kwargs)
    return str(caught.value)


def mismatch(function, signature, invoked, kind="function"):
    return (
        f"{function}(): incompatible {kind} arguments. The following argument types are "
        f"supported:\n    1. {signature}\n\nInvoked with: {invoked}"
    )


# Methods


@pytest.mark.parametrize(
    ("args", "kwargs", "result"),
    [
        ((1, True, "n"), {}, (1, True, "n")),
        ((1,), {"note": None}, (1, False, None)),
        ((1,), {"note": 2, "loud": 1}, (1, True, 2)),
        ((1, 0), {"note": 2}, (1, False, 2)),
    ],
)
def test_arguments_come_by_place_or_name_and_converted(args, kwargs, result):
    assert Thing("x").call(*args, **kwargs) == result


@pytest.mark.parametrize(
    ("args", "kwargs", "invoked"),
    [
        ((), {}, ""),
        ((1,), {}, ", 1"),
        ((-1,), {"note": 0}, ", -1; kwargs: note=0"),
        ((1, False, None, 4), {}, ", 1, False, None, 4"),
        ((1, False, None), {"note": 1}, ", 1, False, None; kwargs: note=1"),
        ((), {"arg0": 1, "note": 2}, "; kwargs: arg0=1, note=2"),
        ((1,), {"note": 2, "other": 3}, ", 1; kwargs: note=2, other=3"),
        ((1,), {"": 2, "note": 2}, ", 1; kwargs: =2, note=2"),
    ],
)
def test_arguments_that_do_not_fit(args, kwargs, invoked):
    thing = Thing("x")
    signature = (
        "(self: c_python_backend_utils.Thing, arg0: int, loud: bool = False, note: object) -> "
        "object"
    )
    assert refusal(thing.call, *args, **kwargs) == mismatch("call", signature, f"{thing}{invoked}")


@pytest.mark.parametrize(
    ("args", "kwargs", "invoked"),
    [((), {}, ""), ((3,), {}, "3"), ((), {"self": 3}, "kwargs: self=3")],
)
def test_a_method_wants_an_object_of_its_class(args, kwargs, invoked):
    signature = "(self: c_python_backend_utils.Thing) -> str"
    assert refusal(Thing.name, *args, **kwargs) == mismatch("name", signature, invoked)


def test_a_method_without_parameters_takes_none():
    thing = Thing("x")
    assert thing.name() == Thing.name(thing) == "x"
    signature = "(self: c_python_backend_utils.Thing) -> str"
    assert refusal(thing.name, 1) == mismatch("name", signature, f"{thing}, 1")


def test_a_constructor_shows_no_self():
    assert Thing(b"x", colour=Colour.BLUE).given == ("x", Colour.BLUE)
    signature = (
        "c_python_backend_utils.Thing(arg0: str, colour: c_python_backend_utils.Colour = "
        "<Colour.RED: 0>)"
    )
    for args, kwargs, invoked in [
        ((), {}, ""),
        (("x", 4), {}, "'x', 4"),
        (("x",), {"colour": None}, "'x'; kwargs: colour=None"),
        ((), {"name": "x"}, "kwargs: name='x'"),
    ]:
        told = mismatch("__init__", signature, invoked, "constructor")
        assert refusal(Thing, *args, **kwargs) == told


def test_static_methods_have_no_self():
    assert Thing.same(number=3) == Thing("x").same(3) == 3
    assert refusal(Thing.same) == mismatch("same", "(number: int) -> int", "")


def test_a_misbound_method_takes_its_self_for_an_argument():
    thing = Thing("x")
    assert Thing.made("n", 1) == ("n", 1)
    signature = "(self: str, arg0: object) -> object"
    assert refusal(thing.made, 1) == mismatch("made", signature, f"{thing}, 1")
    assert refusal(Thing.made, self="n", arg0=1) == mismatch(
        "made", signature, "kwargs: self='n', arg0=1"
    )


def test_signatures_are_the_first_line_of_the_help():
    assert Thing.name.__doc__ == "name(self: c_python_backend_utils.Thing) -> str\n\nThe name.\n"
    assert Thing.same.__doc__ == "same(number: int) -> int\n"
    assert Thing.__init__.__doc__ == (
        "__init__(self: c_python_backend_utils.Thing, arg0: str, "
        "colour: c_python_backend_utils.Colour = <Colour.RED: 0>) -> None\n"
    )
    assert (Thing.name.__name__, Thing.name.__module__) == ("name", "c_python_backend_utils")


def test_what_has_no_constructor():
    for args in ((), (1, 2)):
        assert refusal(Hidden, *args) == "c_python_backend_utils.Hidden: No constructor defined!"


def test_an_argument_that_cannot_be_shown():
    class Mute:
        def __repr__(self):
            raise ValueError

    assert refusal(Thing, Mute()).endswith("Invoked with: <repr raised Error>")


def test_the_note_of_pybind11_for_whoever_compiles_it():
    assert "#include <pybind11/stl.h>" in refusal(Thing.same, "std::")
    assert "#include" not in refusal(Thing.same, "std")


def test_a_value_that_cannot_be_cast():
    assert str(pybind.cast_error(3)).startswith(
        "Unable to cast Python instance of type <class 'int'> to C++ type '?'"
    )


# Classes


OBJECTS = [Tensor("T", np.zeros(1)), InferenceResponse(), TritonError("text"), Thing("x")]
every_object = pytest.mark.parametrize("thing", OBJECTS, ids=lambda thing: type(thing).__name__)


@every_object
def test_an_object_is_neither_copied_nor_pickled(thing):
    text = f"cannot pickle 'c_python_backend_utils.{type(thing).__name__}' object"
    for attempt in (copy.copy, copy.deepcopy, pickle.dumps):
        assert refusal(attempt, thing) == text


@every_object
def test_an_object_takes_no_new_attributes(thing):
    kind = type(thing).__name__
    with pytest.raises(AttributeError) as caught:
        thing.note = "mine"
    assert str(caught.value) == f"'c_python_backend_utils.{kind}' object has no attribute 'note'"


@every_object
def test_an_object_is_equal_to_itself_alone_and_may_be_referred_to_weakly(thing):
    assert thing == thing  # noqa: PLR0124
    assert thing != OBJECTS
    assert weakref.ref(thing)() is thing
    assert repr(thing).startswith(f"<c_python_backend_utils.{type(thing).__name__} object at 0x")


def test_a_class_has_its_own_name_and_pybind11s_metaclass():
    assert (Thing.__name__, Thing.__qualname__) == ("Thing", "Thing")
    assert repr(Thing) == "<class 'c_python_backend_utils.Thing'>"
    assert repr(type(Thing)) == "<class 'pybind11_builtins.pybind11_type'>"


def test_a_model_may_subclass():
    class Named(Tensor):
        def __init__(self):
            super().__init__("mine", np.zeros(1))
            self.note = 3

    named = Named()
    assert (named.name(), named.note, Named.__module__) == ("mine", 3, __name__)
    assert refusal(pickle.dumps, named) == "cannot pickle 'Named' object"
    assert type("Made", (Tensor,), {}).__module__ == __name__


def test_a_subclass_that_forgets_the_constructor():
    forgetful = type("Forgetful", (Thing,), {"__init__": lambda self: None})
    assert refusal(forgetful) == (
        "c_python_backend_utils.Thing.__init__() must be called when overriding __init__"
    )


# Enums


@pytest.mark.parametrize("one", [TritonError.NOT_FOUND, LogLevel.ERROR])
def test_an_enum_is_equal_to_its_number_but_is_none(one):
    assert one == 2
    assert int(one) == 2
    assert hash(one) == hash(2)
    assert ["a", "b", "c"][one] == "c"
    assert not isinstance(one, int)
    assert one != "2"
    with pytest.raises(TypeError):
        one + 1
    with pytest.raises(TypeError):
        one < 3  # noqa: B015
    with pytest.raises(TypeError):
        json.dumps(one)


def test_enums_of_different_kinds_compare_by_number():
    assert TritonError.NOT_FOUND == LogLevel.ERROR
    assert TritonError.NOT_FOUND != LogLevel.INFO


def test_how_an_enum_prints():
    assert repr(TritonError.INTERNAL) == "<__ErrorCode.INTERNAL: 1>"
    assert str(TritonError.INTERNAL) == f"{TritonError.INTERNAL}" == "__ErrorCode.INTERNAL"
    assert type(TritonError.INTERNAL).__qualname__ == "TritonError.__ErrorCode"
    assert repr(LogLevel.INFO) == "<LogLevel.INFO: 0>"
    assert (Colour.BLUE.name, Colour.BLUE.value) == ("BLUE", 4)
    assert Colour.__doc__ == "Members:\n\n  RED\n\n  BLUE"


def test_any_number_makes_an_enum():
    assert Colour(4) == Colour.BLUE
    assert Colour(4) is not Colour.BLUE
    assert repr(Colour(value=2)) == "<Colour.???: 2>"
    signature = "c_python_backend_utils.Colour(value: int)"
    assert refusal(Colour, -1) == mismatch("__init__", signature, "-1", "constructor")


def test_members_are_a_new_dict_every_time():
    assert Colour.__members__ == {"RED": 0, "BLUE": 4}
    assert Colour.__members__ is not Colour.__members__


def test_enums_are_copied_and_pickled():
    for one in (Colour.BLUE, Colour(7), TritonError.CANCELLED):
        assert copy.copy(one) == copy.deepcopy(one) == one
        again = pickle.loads(pickle.dumps(one))
        assert (type(again), again) == (type(one), one)


def test_a_code_of_an_error_is_a_new_object_every_time_and_cannot_be_set():
    assert TritonError.INTERNAL is not TritonError.INTERNAL
    with pytest.raises(AttributeError, match="property of 'pybind11_type' object has no setter"):
        TritonError.INTERNAL = 3


def test_a_derived_enum_has_the_members_of_its_base():
    derived = type("Derived", (Colour,), {})
    assert repr(derived(4)) == "<Derived.BLUE: 4>"
    assert derived.RED is Colour.RED
