"""``from_config``: Hypothesis strategy for the requests that a model's configuration allows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, Any

import hypothesis.extra.numpy as st_numpy
import hypothesis.strategies as st
import numpy as np
from hypothesis.errors import InvalidArgument

from triton_stub import datatypes
from triton_stub.datatypes import BF16, BYTES, Datatype
from triton_stub.errors import ConfigError
from triton_stub.testing.configs import read_config

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from triton_stub.datatypes import Array
    from triton_stub.testing.configs import ConfigLike

    Request = dict[str, Array]
    #: A strategy for a whole tensor, or a function from the batch size to one.
    Override = st.SearchStrategy[Any] | Callable[[int], st.SearchStrategy[Any]]
    #: A strategy for one element, or keywords of ``hypothesis.extra.numpy.from_dtype``.
    Elements = st.SearchStrategy[Any] | Mapping[str, Any]

# Up to so many elements each is drawn by itself; it costs some 20 µs.
_DENSE = 64
# Of a larger tensor only so many are drawn, and spread over it.
_POOL = 16
_LAST_SEED = 2**32 - 1
# Its bits are the upper half of a float32's: 0x7F7F is the largest finite one.
_BF16_MAX = float(np.uint16(0x7F7F).view(BF16.numpy))


def from_config(
    config: ConfigLike,
    *,
    overrides: Mapping[str, Override] | None = None,
    elements: Mapping[str, Elements] | None = None,
    min_side: int = 1,
    max_side: int | None = None,
    max_batch_size: int | None = None,
    allow_nan: bool = False,
    allow_infinity: bool = False,
) -> st.SearchStrategy[Request]:
    """Strategy for valid requests to a model: dicts from input names to numpy arrays.

    ::

        @given(triton_stub.testing.from_config("model_repository/resnet50"))
        def test_contract(triton, request):
            result = triton.infer("resnet50", request)

    ``@given`` fills the right-most argument, here ``request``; pytest sees only ``triton``.

    All inputs of a request have the same batch dimension, 1 to the model's ``max_batch_size``.
    Sizes that the configuration leaves open (``-1``) are drawn for each input by itself: the server
    does not relate them, either. Where a model does, override the inputs, or draw from a dict of
    the configuration with the sizes filled in. Optional inputs are sometimes absent. BYTES inputs
    are object arrays of ``bytes``, BF16 inputs ``ml_dtypes.bfloat16`` arrays.

    Elements of small tensors are drawn one by one. A tensor of more than 64 elements, an image say,
    is made of at most 16 drawn elements and a drawn seed that says which goes where; so it costs
    milliseconds, obeys ``elements``, and shrinks to one value everywhere, and that to zero.

    Args:
        config: path of a model's folder or of a ``config.pbtxt``, the dict that
            ``triton.config(model)`` returns, or a ``ModelConfig`` message.
        overrides: for an input's name, a strategy for its whole tensor, batch dimension first. The
            rest of the request takes over its batch size. To take over the request's, as two
            overridden inputs must, give a function from the batch size (0 on a model without
            batching) to a strategy.
        elements: for an input's name, a strategy for its elements, or keywords of
            ``hypothesis.extra.numpy.from_dtype``: ``{"image": {"min_value": 0, "max_value": 1}}``.
        min_side: smallest size for a ``-1`` in the configuration; 0 asks for empty tensors, too.
        max_side: largest such size; ``min_side + 7`` unless given.
        max_batch_size: draw no larger batches, though the model takes them.
        allow_nan: draw NaN for floating-point inputs, unless ``elements`` says what to draw.
        allow_infinity: draw infinities likewise.

    Raises:
        InvalidArgument: when the test runs, if the configuration cannot be read, no request can
            fit it, or an argument makes no sense.
    """
    given: dict[str, tuple[Any, Any]] = {
        "overrides": (overrides, None),
        "elements": (elements, None),
        "min_side": (min_side, 1),
        "max_side": (max_side, None),
        "max_batch_size": (max_batch_size, None),
        "allow_nan": (allow_nan, False),
        "allow_infinity": (allow_infinity, False),
    }
    spelled = [f"{name}={value!r}" for name, (value, default) in given.items() if value != default]
    plan = _Plan(
        ", ".join([repr(config), *spelled]),
        config=config,
        overrides=overrides or {},
        elements=elements or {},
        min_side=min_side,
        max_side=min_side + 7 if max_side is None else max_side,
        max_batch_size=max_batch_size,
        allow_nan=allow_nan,
        allow_infinity=allow_infinity,
    )
    return _request(plan)


@dataclass(frozen=True, slots=True)
class _Input:
    """One input of the configuration and what its elements are drawn from."""

    name: str
    datatype: Datatype
    dims: tuple[int, ...]
    optional: bool
    elements: Elements


class _Plan:
    """The arguments of ``from_config``, and, once a test draws, what follows from them.

    No dataclass, whose fields Hypothesis would print in place of our ``__repr__``.
    """

    def __init__(
        self,
        text: str,
        *,
        config: ConfigLike,
        overrides: Mapping[str, Override],
        elements: Mapping[str, Elements],
        min_side: int,
        max_side: int,
        max_batch_size: int | None,
        **float_keywords: bool,
    ) -> None:
        self.text = text
        self.config = config
        self.overrides = overrides
        self.elements = elements
        self.min_side = min_side
        self.max_side = max_side
        self.max_batch_size = max_batch_size
        self.float_keywords = float_keywords

    def __repr__(self) -> str:
        # The strategy's own repr, and Hypothesis's reports, say from_config(...) with this inside.
        return self.text

    @cached_property
    def model(self) -> Any:
        """The configuration; InvalidArgument if it is none, or none that a request can fit."""
        try:
            model = read_config(self.config)
        except ConfigError as error:
            raise InvalidArgument(str(error)) from None
        names = [entry.name for entry in model.input]
        _check_sides(self.min_side, self.max_side)
        if self.max_batch_size is not None and self.max_batch_size < 1:
            raise InvalidArgument(f"max_batch_size={self.max_batch_size}: expected at least 1")
        for what, keys in (("overrides", self.overrides), ("elements", self.elements)):
            for key in keys:
                if key not in names:
                    raise InvalidArgument(
                        f"{what} names {key!r}, but the inputs of model '{model.name}' are {names}"
                    )
        for key in self.overrides.keys() & self.elements.keys():
            raise InvalidArgument(
                f"input {key!r} is in overrides, which draw whole tensors, and in elements, which "
                "draw what is in them; give one of the two"
            )
        if len(set(names)) < len(names):
            raise InvalidArgument(
                f"model '{model.name}' has several inputs of the same name ({names}); a server "
                "loads it, but no request to it can be right"
            )
        if not names and model.max_batch_size:
            raise InvalidArgument(
                f"model '{model.name}' batches (max_batch_size: {model.max_batch_size}) but has no "
                "input that could say how large a batch is; a server answers no request to it"
            )
        return model

    @cached_property
    def inputs(self) -> list[_Input]:
        """The inputs in the order of the configuration."""
        inputs = []
        for entry in self.model.input:
            datatype = datatypes.from_number(entry.data_type)
            elements = self.elements.get(entry.name)
            if elements is None:
                elements = _default_elements(datatype, **self.float_keywords)
            dims = tuple(entry.dims)
            inputs.append(_Input(entry.name, datatype, dims, entry.optional, elements))
        return inputs

    @property
    def largest_batch(self) -> int:
        """0 on a model without batching."""
        limit: int = self.model.max_batch_size
        return limit if self.max_batch_size is None else min(limit, self.max_batch_size)


def _check_sides(min_side: int, max_side: int) -> None:
    if min_side < 0 or max_side < min_side:
        raise InvalidArgument(
            f"min_side={min_side}, max_side={max_side}: expected 0 <= min_side <= max_side"
        )


def _draw_request(draw: st.DrawFn, plan: _Plan) -> Request:
    present = _draw_present(draw, plan)
    request: Request = {}
    batch_size = None if plan.largest_batch else 0
    for each in present:
        override = plan.overrides.get(each.name)
        if isinstance(override, st.SearchStrategy):
            request[each.name] = value = draw(override)
            if batch_size != 0:
                batch_size = _same_batch(each.name, value, batch_size)
    if batch_size is None:
        batch_size = draw(st.integers(1, plan.largest_batch))
    for each in present:
        if each.name not in request:
            override = plan.overrides.get(each.name)
            if override is None:
                request[each.name] = _draw_tensor(draw, plan, each, batch_size)
            else:
                request[each.name] = draw(_called(each.name, override, batch_size))
    return {each.name: request[each.name] for each in present}


# What Hypothesis prints is the name of the function that people call.
_draw_request.__name__ = "from_config"
_request = st.composite(_draw_request)


def _draw_present(draw: st.DrawFn, plan: _Plan) -> list[_Input]:
    optional = [each.name for each in plan.inputs if each.optional]
    present = {name for name in optional if draw(st.booleans())}
    if plan.largest_batch and not present and len(optional) == len(plan.inputs):
        # A batch of nothing has no size, and the server refuses it.
        present = {draw(st.sampled_from(optional))}
    return [each for each in plan.inputs if not each.optional or each.name in present]


def _same_batch(name: str, value: Any, batch_size: int | None) -> int:
    shape = np.shape(value)
    if not shape:
        raise InvalidArgument(
            f"overrides[{name!r}] drew {value!r}, which has no batch dimension; expected the whole "
            "tensor with the batch dimension first"
        )
    if batch_size not in (None, shape[0]):
        raise InvalidArgument(
            f"overrides[{name!r}] drew a batch of {shape[0]} where another override drew one of "
            f"{batch_size}; give functions of the batch size instead: "
            f"overrides={{{name!r}: lambda batch_size: ...}}"
        )
    size: int = shape[0]
    return size


def _called(name: str, override: Override, batch_size: int) -> st.SearchStrategy[Any]:
    strategy = override(batch_size) if callable(override) else override
    if not isinstance(strategy, st.SearchStrategy):
        raise InvalidArgument(
            f"overrides[{name!r}] is {override!r}; expected a strategy for the whole tensor, or a "
            "function from the batch size to one"
        )
    return strategy


def _draw_tensor(draw: st.DrawFn, plan: _Plan, each: _Input, batch_size: int) -> Array:
    sides = st.integers(plan.min_side, plan.max_side)
    shape = tuple(draw(sides) if dim == -1 else dim for dim in each.dims)
    if batch_size:
        shape = (batch_size, *shape)
    # Hypothesis knows no bfloat16; a float32 becomes the nearest one.
    dtype = np.dtype(np.float32) if each.datatype is BF16 else each.datatype.numpy
    if prod(shape) <= _DENSE:
        array: Array = draw(st_numpy.arrays(dtype, shape, elements=each.elements))
    else:
        array = _draw_large(draw, dtype, shape, each.elements)
    if each.datatype is BF16:
        with np.errstate(over="ignore"):
            return array.astype(BF16.numpy)
    return array


def _draw_large(
    draw: st.DrawFn, dtype: np.dtype[Any], shape: tuple[int, ...], elements: Elements
) -> Array:
    pool: Array = draw(
        st_numpy.arrays(dtype, st.integers(1, _POOL), elements=elements, fill=st.nothing())
    )
    if len(pool) == 1:
        return np.full(shape, pool[0], dtype)
    places = np.random.default_rng(draw(st.integers(0, _LAST_SEED)))
    return pool[places.integers(len(pool), size=shape, dtype=np.uint8)]


def _default_elements(datatype: Datatype, *, allow_nan: bool, allow_infinity: bool) -> Elements:
    if datatype is BYTES:
        return st.binary()
    if datatype is not BF16:
        if datatype.numpy.kind != "f":
            return {}
        return {"allow_nan": allow_nan, "allow_infinity": allow_infinity}
    # Finite float32 that stay finite as bfloat16.
    strategy = st.floats(-_BF16_MAX, _BF16_MAX, width=32)
    if allow_infinity:
        strategy |= st.sampled_from([float("inf"), float("-inf")])
    return strategy | st.just(float("nan")) if allow_nan else strategy
