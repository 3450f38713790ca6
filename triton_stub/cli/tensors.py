"""Input tensors from what people write on a command line.

For an input ``NAME`` of the model's configuration:

- ``NAME=random``, ``NAME=random:3x224x224``: drawn, sizes that the configuration leaves open are 1
  or as given (without the batch dimension, or with it);
- ``NAME=0.5``: a number, or for BYTES a text, that fills the tensor;
- ``NAME=1,2,3``, ``NAME=[[1,2],[3,4]]``: JSON, and nan and inf; a flat list is laid out as the
  configuration says;
- ``NAME=array.npy``, ``NAME=values.json``, ``NAME=@photo.jpg``: a file. Any but these two kinds is
  one BYTES element.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from triton_stub import datatypes
from triton_stub.datatypes import BYTES, Datatype, format_shape

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from triton_stub.datatypes import Array

_RANDOM = "random"
# Small integers are indices and counts as well as numbers.
_LARGEST_INTEGER = 99
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_TEXT_LENGTH = 8


# In JSON they are spelled in one way alone.
_NO_NUMBERS = re.compile(r"\b(nan|inf|infinity)\b", re.IGNORECASE)
_SPELLED = {"nan": "NaN", "inf": "Infinity"}


def split(assignments: Sequence[str]) -> dict[str, str]:
    """``NAME=VALUE`` each, as a dict; ValueError for what is none, or comes twice."""
    found: dict[str, str] = {}
    for text in assignments:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise ValueError(
                f"{text!r}: expected NAME=VALUE, such as IN=random, IN=1,2,3 or IN=array.npy"
            )
        if name in found:
            raise ValueError(f"input {name!r} is given twice")
        found[name] = value
    return found


def request(
    model: Any, given: Mapping[str, str], *, batch_size: int | None, rng: np.random.Generator
) -> dict[str, Array]:
    """Input tensors for one request to a model, of whose configuration ``model`` is the message.

    What is not given is drawn, unless it is optional. ValueError if something does not fit.
    """
    entries = {entry.name: entry for entry in model.input}
    for name in given:
        if name not in entries:
            raise ValueError(_unknown(model, name))
    batches = model.max_batch_size > 0
    if batch_size is not None and not batches:
        raise ValueError(
            f"--batch-size: model '{model.name}' does not batch (max_batch_size: 0); leave it out"
        )
    read = {
        name: _Read(entry, given.get(name, _RANDOM), batches=batches)
        for name, entry in entries.items()
        if name in given or not entry.optional
    }
    rows = batch_size
    for name, each in read.items():
        if each.rows is None:
            continue
        if rows is not None and each.rows != rows:
            other = "--batch-size" if batch_size is not None else "another input"
            raise ValueError(f"input '{name}' has {each.rows} rows, {other} has {rows}")
        rows = each.rows
    return {name: each.array(rows or 1, rng) for name, each in read.items()}


def describe(entry: Any) -> str:
    """An input or output of a configuration in one word."""
    datatype = datatypes.from_number(entry.data_type)
    return f"{entry.name} ({datatype.name} {format_shape(entry.dims)})"


class _Read:
    """A value for one input; ``rows`` is its batch size, if it says one."""

    def __init__(self, entry: Any, text: str, *, batches: bool) -> None:
        self.name = entry.name
        self.datatype = datatypes.from_number(entry.data_type)
        self.dims = tuple(entry.dims)
        self.rows: int | None = None
        self._batches = batches
        self._array: Array | None = None
        kind, colon, sides = text.partition(":")
        if kind == _RANDOM and (colon or not sides):
            self.shape = self._one_row(self._sides(sides)) if colon else self._smallest()
            return
        array = self._laid_out(_converted(self.name, self.datatype, self._value(text)))
        self.shape = self._one_row(array.shape)
        self._array = array

    def array(self, rows: int, rng: np.random.Generator) -> Array:
        """The whole tensor, with a batch dimension if the model batches."""
        shape = (rows, *self.shape) if self._batches else self.shape
        if self._array is None:
            return _drawn(self.datatype, shape, rng)
        return np.ascontiguousarray(np.broadcast_to(self._array, shape))

    def _smallest(self) -> tuple[int, ...]:
        return tuple(1 if dim == -1 else dim for dim in self.dims)

    def _one_row(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """A shape without its batch dimension, of which this takes note."""
        if self._fits(shape):
            return shape
        if self._batches and shape and self._fits(shape[1:]):
            self.rows = shape[0]
            return shape[1:]
        also = f", or [-1,{format_shape(self.dims)[1:]}" if self._batches else ""
        raise ValueError(
            f"input '{self.name}': shape {format_shape(shape)} does not fit; the model takes "
            f"{format_shape(self.dims)}{also}"
        )

    def _fits(self, shape: tuple[int, ...]) -> bool:
        return len(shape) == len(self.dims) and all(
            dim in (-1, size) for dim, size in zip(self.dims, shape, strict=True)
        )

    def _laid_out(self, array: Array) -> Array:
        """A single element fills the tensor; a flat list becomes what the configuration says."""
        if not array.shape:
            filled: Array = np.empty(self._smallest(), array.dtype)
            filled[...] = array
            return filled
        known = math.prod(dim for dim in self.dims if dim != -1)
        is_flat = array.ndim == 1 and not self._fits(array.shape)
        fills = array.size == known or (-1 in self.dims and known and array.size % known == 0)
        if is_flat and fills and self.dims.count(-1) <= 1:
            return array.reshape(self.dims)
        return array

    def _sides(self, text: str) -> tuple[int, ...]:
        sides = text.split("x")
        if not all(side.isdecimal() for side in sides):
            raise ValueError(
                f"input '{self.name}': random:{text}: expected sizes, such as random:3x224x224"
            )
        return tuple(map(int, sides))

    def _value(self, text: str) -> Any:
        """What a text says: nested lists, a single element, or an array out of a file."""
        if text.startswith("@") or text.endswith((".npy", ".json")):
            return self._content(Path(text.removeprefix("@")))
        if self.datatype is BYTES and text[:1] not in ("[", '"'):
            return text
        try:
            return self._json(text if text[:1] in ("[", '"') or "," not in text else f"[{text}]")
        except OverflowError as error:
            raise ValueError(f"input '{self.name}': {error}") from None
        except (ValueError, RecursionError):
            raise ValueError(
                f"input '{self.name}': {_shortened(text)} is no value for {self.datatype.name}; "
                f"{self._expected(text)}"
            ) from None

    def _json(self, text: str) -> Any:
        """Parsed; also what others than JSON call numbers."""
        if self.datatype.numpy.kind not in "biuO":
            text = _NO_NUMBERS.sub(lambda word: _SPELLED[word[0][:3].lower()], text)
        return json.loads(text, parse_float=_finite)

    def _expected(self, text: str) -> str:
        if self.datatype is BYTES:
            return (
                'what begins with [ or " is JSON; for this very text write '
                f"{self.name}={_shortened(text)}, in '' if a shell reads it"
            )
        values = "true, true,false" if self.datatype.numpy.kind == "b" else "a number, 1,2,3"
        return f"expected random, {values}, JSON, or a file (.npy, .json)"

    def _content(self, path: Path) -> Any:
        try:
            if path.suffix == ".npy":
                return np.load(path)
            if path.suffix == ".json":
                return self._json(path.read_text(encoding="utf-8"))
            content = path.read_bytes()
        except (OSError, ValueError, EOFError, RecursionError, OverflowError) as error:
            raise ValueError(f"input '{self.name}': cannot read {path}: {error}") from None
        if self.datatype is BYTES:
            return content
        raise ValueError(
            f"input '{self.name}': {path} is neither .npy nor .json; a file of another kind can "
            f"only be an element of a BYTES input, and this one is {self.datatype.name}"
        )


def _unknown(model: Any, name: str) -> str:
    names = [entry.name for entry in model.input]
    near = difflib.get_close_matches(name, names, 1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    there = ", ".join(map(describe, model.input)) or "none"
    return f"model '{model.name}' has no input {name!r}{hint} (its inputs: {there})"


def _converted(name: str, datatype: Datatype, value: Any) -> Array:
    """A value as an array of a datatype, if none of it is lost."""
    if datatype is BYTES:
        return _texts(name, value)
    try:
        array = np.asarray(value)
    except ValueError:
        raise ValueError(_uneven(name)) from None
    wanted = datatype.numpy
    exact = _exact(value) if wanted.kind in "iu" else None
    array = array if exact is None else exact
    kind = array.dtype.kind
    whole = kind in "iu" or exact is not None or (not array.size and kind == "f")
    if wanted.kind == "b":
        fits = kind == "b"
    elif wanted.kind in "iu":
        info = np.iinfo(wanted)
        fits = whole and bool(((array >= info.min) & (array <= info.max)).all())
    else:
        fits = whole or kind == "f" or array.dtype == wanted
    if not fits:
        raise ValueError(
            f"input '{name}': {_shortened(value)} cannot be {datatype.name} without a loss; "
            f"{'expected true or false' if wanted.kind == 'b' else 'convert it first'}"
        )
    with np.errstate(over="ignore"):  # it is refused instead
        converted: Array = array.astype(wanted)
    if wanted.kind not in "biu" and (np.isinf(converted) & ~np.isinf(array)).any():
        raise ValueError(f"input '{name}': {_shortened(value)} is too large for {datatype.name}")
    return converted


def _exact(value: Any) -> Array | None:
    """Integers that have no type in common in NumPy, such as 0 and 2**63, as they are."""
    if isinstance(value, np.ndarray) or np.asarray(value).dtype.kind != "f":
        return None
    array: Array = np.asarray(value, dtype=object)
    return array if array.size and all(type(item) is int for item in array.flat) else None


def _texts(name: str, value: Any) -> Array:
    if isinstance(value, bytes):
        single: Array = np.empty((), dtype=object)
        single[()] = value
        return single
    array = np.asarray(value, dtype=object)
    flat = array.ravel()
    encoded = np.empty(flat.shape, dtype=object)
    if any(isinstance(item, list) for item in flat):  # numpy takes rows of one length apart
        raise ValueError(_uneven(name))
    for number, item in enumerate(flat):
        encoded[number] = item if isinstance(item, bytes) else str(item).encode()
    return encoded.reshape(array.shape)


def _uneven(name: str) -> str:
    return f"input '{name}': the lists in it are of different lengths"


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise OverflowError(f"{_shortened(text)} is too large for any number")
    return number


def _shortened(value: Any) -> str:
    text = str(value.dtype) if isinstance(value, np.ndarray) else json.dumps(value)
    return text if len(text) <= 40 else f"{text[:40]}…"


def _drawn(datatype: Datatype, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Floats from 0 to 1, integers from 0 to 99, booleans, or short words."""
    wanted = datatype.numpy
    if datatype is BYTES:
        words = np.empty(math.prod(shape), dtype=object)
        for number in range(words.size):
            letters = rng.integers(len(_LETTERS), size=_TEXT_LENGTH)
            words[number] = "".join(_LETTERS[each] for each in letters).encode()
        return words.reshape(shape)
    if wanted.kind == "b":
        return rng.integers(2, size=shape).astype(wanted)
    if wanted.kind in "iu":
        return rng.integers(_LARGEST_INTEGER + 1, size=shape).astype(wanted)
    return rng.random(shape).astype(wanted)
