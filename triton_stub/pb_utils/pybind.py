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

import copyreg
from collections.abc import Callable
from typing import Any, Final, NamedTuple, NoReturn, SupportsIndex, TypeVar, cast

from triton_stub.pb_utils.casters import REFUSED, UINT32, Caster

Function = TypeVar("Function", bound=Callable[..., Any])
_MODULE = "c_python_backend_utils"
_REQUIRED: Final = object()
_NOTE = """

Did you forget to `#include <pybind11/stl.h>`? Or <pybind11/complex.h>,
<pybind11/functional.h>, <pybind11/chrono.h>, etc. Some automatic
conversions are optional and require extra headers to be included
when compiling your pybind11 module."""


# Classes


class _PybindType(type):
    """The metaclass. C calls its classes by module and name where it complains of their objects."""

    def __new__(
        cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **keywords: Any
    ) -> _PybindType:
        # What a model derives from them has a plain name.
        full = f"{_MODULE}.{name}" if namespace.get("__module__") == _MODULE else name
        return super().__new__(cls, full, bases, namespace, **keywords)

    @property
    def __name__(cls) -> str:  # type: ignore[override]
        """The name without the module."""
        return type.__dict__["__name__"].__get__(cls).rpartition(".")[2]

    def __setattr__(cls, name: str, value: Any) -> None:
        if isinstance(cls.__dict__.get(name), _StaticProperty):
            raise AttributeError("property of 'pybind11_type' object has no setter")
        super().__setattr__(name, value)


_PybindType.__name__ = _PybindType.__qualname__ = "pybind11_type"
_PybindType.__module__ = "pybind11_builtins"


class PybindObject(metaclass=_PybindType):
    """Base of the imitated classes: no ``__dict__``, no copies, no pickles."""

    __slots__ = ("__weakref__",)

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        kind = type(self)
        full = f"{_MODULE}.{kind.__name__}" if kind.__module__ == _MODULE else kind.__name__
        raise TypeError(f"cannot pickle {full!r} object")


def no_constructor(self: PybindObject, *_args: Any, **_kwargs: Any) -> NoReturn:
    """The constructor of a class that only the backend itself makes objects of."""
    raise TypeError(f"{_MODULE}.{type(self).__name__}: No constructor defined!")


# Methods


class _Parameter(NamedTuple):
    name: str  # empty: positional only
    caster: Caster
    default: Any = _REQUIRED


class _Signature:
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
        self.text = ", ".join(
            f"{name or f'arg{place}'}: {caster.text}"
            + ("" if default is _REQUIRED else f" = {default!r}")
            for place, (name, caster, default) in enumerate(parameters)
        )

    def read(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any] | None:
        """The value of each parameter; None if the arguments do not fit."""
        given, taken = len(args), 0
        values: list[Any] = []
        for place, (name, caster, default) in enumerate(self.parameters):
            if place < given:
                value = args[place]
            elif name in kwargs:
                value = kwargs[name]
                taken += 1
            elif default is _REQUIRED:
                return None
            else:
                values.append(default)
                continue
            value = caster.load(value)
            if value is REFUSED:
                return None
            values.append(value)
        if given > len(self.parameters) or taken != len(kwargs):
            return None
        return values


def method(
    returns: str, /, *casters: Caster, **named: Caster | tuple[Caster, Any]
) -> Callable[[Function], Function]:
    """Declares a method: what it returns, and its parameters without self."""
    signature = _Signature(casters, named)

    def bind(owner: type, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        parameters = ", ".join(filter(None, (f"self: {_full_name(owner)}", signature.text)))
        text = f"({parameters}) -> {returns}"

        def call_without(
            self: Any = _REQUIRED, /, *args: Any, **kwargs: Any
        ) -> Any:  # the fast way of most methods
            if args or kwargs or not isinstance(self, owner):
                given = args if self is _REQUIRED else (self, *args)
                raise signature_error(name, text, given, kwargs)
            return function(self)

        def call(self: Any = _REQUIRED, /, *args: Any, **kwargs: Any) -> Any:
            values = signature.read(args, kwargs) if isinstance(self, owner) else None
            if values is None:
                given = args if self is _REQUIRED else (self, *args)
                raise signature_error(name, text, given, kwargs)
            return function(self, *values)

        return _named(call if signature.parameters else call_without, name, text, function)

    return cast("Any", lambda function: _Declared(bind, function))


def constructor(
    *casters: Caster, **named: Caster | tuple[Caster, Any]
) -> Callable[[Function], Function]:
    """Declares ``__init__``: its parameters without self."""
    signature = _Signature(casters, named)

    def bind(owner: type, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        own = _full_name(owner)

        def call(self: Any, /, *args: Any, **kwargs: Any) -> None:
            values = signature.read(args, kwargs)
            if values is None:
                text = f"{own}({signature.text})"
                raise signature_error(name, text, args, kwargs, kind="constructor")
            function(self, *values)

        parameters = ", ".join(filter(None, (f"self: {own}", signature.text)))
        return _named(call, name, f"({parameters}) -> None", function)

    return cast("Any", lambda function: _Declared(bind, function))


def function(
    returns: str, /, *casters: Caster, **named: Caster | tuple[Caster, Any]
) -> Callable[[Function], Function]:
    """Declares a function of a module, or a static method: what it returns, and its parameters."""
    signature = _Signature(casters, named)
    text = f"({signature.text}) -> {returns}"

    def bind(function: Callable[..., Any]) -> Callable[..., Any]:
        name = function.__name__

        def call(*args: Any, **kwargs: Any) -> Any:
            values = signature.read(args, kwargs)
            if values is None:
                raise signature_error(name, text, args, kwargs)
            return function(*values)

        return _named(call, name, text, function)

    return cast("Any", bind)


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


class _Declared:
    """Stands in a class statement until the class is there, which its signatures name."""

    def __init__(
        self,
        bind: Callable[[type, str, Callable[..., Any]], Callable[..., Any]],
        function: Callable[..., Any],
    ) -> None:
        self._bind = bind
        self._function = function

    def __set_name__(self, owner: type, name: str) -> None:
        setattr(owner, name, self._bind(owner, name, self._function))


def _named(
    call: Callable[..., Any], name: str, text: str, function: Callable[..., Any]
) -> Callable[..., Any]:
    call.__name__ = name
    call.__qualname__ = function.__qualname__
    call.__module__ = _MODULE
    # pybind11's own form of a function that has a text, too.
    call.__doc__ = f"{name}{text}\n" + (f"\n{function.__doc__}\n" if function.__doc__ else "")
    return call


def _full_name(owner: type) -> str:
    return f"{owner.__module__}.{owner.__qualname__}"


def _shown(value: Any) -> str:
    try:
        return repr(value)
    except Exception:  # noqa: BLE001 - pybind11 swallows whatever it is
        return "<repr raised Error>"


# Enums


class member:  # noqa: N801 - it reads as a keyword: ``INFO: ClassVar[LogLevel] = member(0)``
    """A member of an enum's class statement, by its number."""

    def __init__(self, number: int) -> None:
        self.number = number


class PybindEnum(PybindObject):
    """A ``pybind11::enum_``: equal to its number and convertible to it, but no ``int``.

    Any number makes an object, of its own each time: members are compared with ``==``, and one
    that is no member's is called ``???``.
    """

    __slots__ = ("_number",)
    _number: int

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        members = {k: v.number for k, v in vars(cls).items() if isinstance(v, member)}
        if not members:
            return  # derived by a model: the members are the base's
        cls._names: dict[int, str] = {}
"""
