"""pybind11's manners: what its classes, methods and enums do that plain Python's do not.

How to imitate a class of the backend::

    class Metric(pybind.PybindObject):
        __slots__ = ("_name", ...)                       # no attributes of the model's own
        __module__ = "c_python_backend_utils"

        @pybind.constructor(name=STR, kind=(instance_of(MetricKind), MetricKind.GAUGE))
        def __init__(self, name: str, kind: MetricKind) -> None: ...

        @pybind.method("float")                          # what the signature says it returns
        def value(self) -> float: ...

        @pybind.method("None", FLOAT)                    # positional only: "arg0" in the signature
        def set(self, number: float, /) -> None: ...

        @pybind.method("object", decoupled=(BOOL, False))        # by place or by name, a default
        def exec(self, decoupled: bool) -> object: ...

A static method is ``@staticmethod`` above ``@pybind.function(...)``, which has no self, and a
function of a module is the latter alone. A class that models cannot make has
``__init__ = pybind.no_constructor``. The decorated function gets every argument by place, converted
by its caster (see ``casters``); arguments that do not fit raise pybind11's TypeError, and
``__doc__`` begins with its line of the signature. The texts are those of pybind11 2.12, which the
newest Triton is built with.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import (
    Any,
    Final,
    Generic,
    NamedTuple,
    NoReturn,
    SupportsIndex,
    TypeVar,
    cast,
)

from triton_stub.pb_utils.casters import REFUSED, Caster

Function = TypeVar("Function", bound=Callable[..., Any])
T = TypeVar("T")
MODULE = "c_python_backend_utils"
_MISSING: Final = object()
_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: made by a class statement
_NOTE = """

Did you forget to `#include <pybind11/stl.h>`? Or <pybind11/complex.h>,
<pybind11/functional.h>, <pybind11/chrono.h>, etc. Some automatic
conversions are optional and require extra headers to be included
when compiling your pybind11 module."""


# Classes


class StaticProperty(Generic[T]):
    """An attribute of a class that is made anew whenever it is asked for, and cannot be set."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make

    def __get__(self, instance: object, owner: type) -> T:
        return self._make()


def _c_name(kind: type) -> str:
    """What C calls a class where it complains of its objects."""
    name: str = type.__dict__["__name__"].__get__(kind)
    return name


class pybind11_type(type):  # noqa: N801 - pybind11's name
    """The metaclass. In C the backend's classes are called by module and name."""

    __module__ = "pybind11_builtins"

    def __new__(  # noqa: D102
        cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **keywords: Any
    ) -> pybind11_type:
        # type(name, bases, {}) takes it from the caller, which would be this function.
        module = namespace.setdefault("__module__", sys._getframe(1).f_globals["__name__"])
        if module == MODULE:
            name = f"{MODULE}.{name}"
        elif "__init__" in namespace and not module.startswith(f"{__package__}."):  # a model's
            namespace["__init__"] = _initialising(namespace["__init__"])
        return super().__new__(cls, name, bases, namespace, **keywords)

    @property
    def __name__(cls) -> str:  # type: ignore[override]
        """The name without the module."""
        return _c_name(cls).rpartition(".")[2]

    def __setattr__(cls, name: str, value: Any) -> None:
        if type(cls.__dict__.get(name)) is StaticProperty:
            raise AttributeError("property of 'pybind11_type' object has no setter")
        super().__setattr__(name, value)


def _initialising(init: Function) -> Function:
    """A derived class's ``__init__``, which must call that of the class it is derived from."""

    @functools.wraps(init)
    def call(self: Any, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        own = [kind for kind in type(self).__mro__ if kind.__module__ == MODULE]
        if not any(hasattr(self, slot) for kind in own for slot in vars(kind)["__slots__"]):
            raise TypeError(f"{_c_name(own[0])}.__init__() must be called when overriding __init__")

    return cast("Function", call)


class PybindObject(metaclass=pybind11_type):
    """Base of the imitated classes: no ``__dict__``, no copies, no pickles."""

    __slots__ = ("__weakref__",)

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError(f"cannot pickle {_c_name(type(self))!r} object")


def no_constructor(self: PybindObject, *_args: Any, **_kwargs: Any) -> NoReturn:
    """The constructor of a class that only the backend itself makes objects of."""
    raise TypeError(f"{MODULE}.{type(self).__name__}: No constructor defined!")


# Methods


class _Parameter(NamedTuple):
    name: str  # empty: positional only
    caster: Caster
    default: Any = _MISSING


class Signature:
    """Parameters without self, as text and as what reads the arguments of a call."""

    def __init__(
        self, casters: tuple[Caster, ...], named: dict[str, Caster | tuple[Caster, Any]]
    ) -> None:
        parameters = [_Parameter("", caster) for caster in casters]
        for name, given in named.items():
            # A Caster is a tuple, too.
            parts = (given,) if isinstance(given, Caster) else given
            parameters.append(_Parameter(name, *parts))
        self.parameters = tuple(parameters)
        self._loads = tuple(parameter.caster.load for parameter in parameters)
        # What is left of the values after so many that were given, if all of that has a default.
        defaults = [parameter.default for parameter in parameters]
        self._left = {
            given: defaults[given:]
            for given in range(len(parameters) + 1)
            if _MISSING not in defaults[given:]
        }
        self.text = ", ".join(
            f"{name or f'arg{place}'}: {caster.text}"
            + ("" if default is _MISSING else f" = {default!r}")
            for place, (name, caster, default) in enumerate(parameters)
        )

    def with_self(self, owner: type) -> str:
        """The parameters of a method."""
        own = f"self: {_full_name(owner)}"
        return f"{own}, {self.text}" if self.text else own

    def read(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any] | None:
        """The value of each parameter; None if the arguments do not fit."""
        values: list[Any] = []
        # What is given by place; more than there are parameters cannot be bound.
        for load, value in zip(self._loads, args):  # noqa: B905 - it takes longer to say so
            loaded = load(value)
            if loaded is REFUSED:
                return None
            values.append(loaded)
        given = len(args)
        if not kwargs:  # nearly always
            left = self._left.get(given)
            return None if left is None else values + left
        # What is left, by name or by default; a name that is not used fits nothing.
        unused = len(kwargs)
        for name, caster, default in self.parameters[given:]:
            if name in kwargs:
                unused -= 1
                loaded = caster.load(kwargs[name])
            else:
                loaded = REFUSED if default is _MISSING else default
            if loaded is REFUSED:
                return None
            values.append(loaded)
        return None if unused or given > len(self.parameters) else values


def method(
    returns: str, /, *casters: Caster, **named: Caster | tuple[Caster, Any]
) -> Callable[[Function], Function]:
    """Declares a method: what it returns, and its parameters without self."""
    signature = Signature(casters, named)

    def bind(owner: type, function: Callable[..., Any]) -> Callable[..., Any]:
        name = function.__name__
        text = f"({signature.with_self(owner)}) -> {returns}"

        def error(self: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> TypeError:
            given = args if self is _MISSING else (self, *args)
            return signature_error(name, text, given, kwargs)

        def call_alone(self: Any = _MISSING, /, *args: Any, **kwargs: Any) -> Any:
            # Most methods, and the fast ones.
            if args or kwargs or not isinstance(self, owner):
                raise error(self, args, kwargs)
            return function(self)

        def call(self: Any = _MISSING, /, *args: Any, **kwargs: Any) -> Any:
            values = signature.read(args, kwargs) if isinstance(self, owner) else None
            if values is None:
                raise error(self, args, kwargs)
            return function(self, *values)

        return _named(call if signature.parameters else call_alone, text, function)

    return cast("Callable[[Function], Function]", _declares(bind))


def constructor(
    *casters: Caster, **named: Caster | tuple[Caster, Any]
) -> Callable[[Function], Function]:
    """Declares ``__init__``: its parameters without self."""
    signature = Signature(casters, named)

    return cast(
        "Callable[[Function], Function]",
        _declares(lambda owner, function: bound_constructor(owner, signature, function)),
    )


def function(
    returns: str, /, *casters: Caster, **named: Caster | tuple[Caster, Any]
) -> Callable[[Function], Function]:
    """Declares a function of a module, or a static method: what it returns, and its parameters."""
    signature = Signature(casters, named)
    return _function(f"({signature.text}) -> {returns}", signature)


def _function(text: str, signature: Signature) -> Callable[[Function], Function]:
    def bind(function: Callable[..., Any]) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            values = signature.read(args, kwargs)
            if values is None:
                raise signature_error(function.__name__, text, args, kwargs)
            return function(*values)

        return _named(call, text, function)

    return bind


def misbound(returns: str, self: Caster, /, *casters: Caster) -> Callable[[Any], Any]:
    """Declares what C++ has as a method although it has no object: its first argument is "self".

    So it is called on the class, and on an object only with that object as the first argument.
    """
    signature = Signature((self, *casters), {})
    rest = Signature(casters, {}).text
    return _function(f"(self: {self.text}, {rest}) -> {returns}", signature)


def signature_error(
    function: str,
    signature: str,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    kind: str = "function",
) -> TypeError:
    """The error for arguments that fit no overload; ``kind`` is ``function`` or ``constructor``."""
    invoked = ", ".join(map(_shown, args))
    if kwargs:
        keywords = ", ".join(f"{name}={_shown(value)}" for name, value in kwargs.items())
        invoked += f"{'; ' if args else ''}kwargs: {keywords}"
    text = (
        f"{function}(): incompatible {kind} arguments. The following argument types are "
        f"supported:\n    1. {signature}\n\nInvoked with: {invoked}"
    )
    return TypeError(text + _NOTE if "std::" in text else text)


def cast_error(value: Any) -> RuntimeError:
    """The error of a value that a method tries to convert, and that does not let itself."""
    return RuntimeError(
        f"Unable to cast Python instance of type {type(value)} to C++ type '?' (#define "
        "PYBIND11_DETAILED_ERROR_MESSAGES or compile in debug mode for details)"
    )


_Bind = Callable[[type, Callable[..., Any]], Callable[..., Any]]


def type_name(kind: type) -> str:
    """What C calls a type: with its module if it is written in C itself."""
    name = _c_name(kind)
    if kind.__flags__ & _HEAP_TYPE or kind.__module__ == "builtins":
        return name
    return f"{kind.__module__}.{name}"


class _Declared:
    """Stands in a class statement until the class is there, which its signatures name."""

    def __init__(self, bind: _Bind, function: Callable[..., Any]) -> None:
        self._bind = bind
        self._function = function

    def __set_name__(self, owner: type, name: str) -> None:
        setattr(owner, name, self._bind(owner, self._function))


def _declares(bind: _Bind) -> Any:
    return lambda function: _Declared(bind, function)


def bound_constructor(
    owner: type, signature: Signature, function: Callable[..., Any]
) -> Callable[..., Any]:
    """``__init__`` of a class that is there already."""
    text = f"{_full_name(owner)}({signature.text})"

    def call(self: Any, /, *args: Any, **kwargs: Any) -> None:
        values = signature.read(args, kwargs)
        if values is None:
            raise signature_error("__init__", text, args, kwargs, kind="constructor")
        function(self, *values)

    return _named(call, f"({signature.with_self(owner)}) -> None", function, "__init__")


def _named(
    call: Callable[..., Any], text: str, function: Callable[..., Any], name: str = ""
) -> Callable[..., Any]:
    call.__name__ = name or function.__name__
    call.__qualname__ = function.__qualname__
    call.__module__ = MODULE
    # pybind11's own form of a function that has a text, too.
    call.__doc__ = f"{call.__name__}{text}\n" + (
        f"\n{function.__doc__}\n" if function.__doc__ else ""
    )
    return call


def _full_name(owner: type) -> str:
    return f"{owner.__module__}.{owner.__qualname__}"


def _shown(value: Any) -> str:
    try:
        return repr(value)
    except Exception:  # noqa: BLE001 - pybind11 swallows whatever it is
        return "<repr raised Error>"
