"""What the device can reach at most: the network's work counted, the device's limits measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gpu_jax import COMPUTE, Variables, classify, make_network
from gpu_timing import Runner, calls_for, seconds_per_call

ROUNDS = 3


class Work(NamedTuple):
    """One operation of the network."""

    name: str
    operations: int  # a multiplication and an addition are two
    traffic: int  # bytes: what it reads and writes, each once


class Limits(NamedTuple):
    """Of one device, in one dtype."""

    operations: float  # a second, of matrix products
    bandwidth: float  # bytes a second


def network_work(architecture: str, dtype: str, arrays: Variables, batch: int, size: int) -> list:
    """The Work of one batch, out of the traced network: nothing is computed."""
    from flax.traverse_util import unflatten_dict

    compute = jnp.dtype(COMPUTE[dtype][0])
    shapes = {
        name: jax.ShapeDtypeStruct(
            array.shape, compute if name.endswith("/kernel") else jnp.float32
        )
        for name, array in arrays.items()
    }
    network = make_network(architecture, dtype)
    images = jax.ShapeDtypeStruct((batch, size, size, 3), jnp.float32)

    def logits(variables: Variables, images: jax.Array) -> jax.Array:
        return classify(network, variables, images)

    return list(work(jax.make_jaxpr(logits)(unflatten_dict(shapes, sep="/"), images).jaxpr))


def work(jaxpr: Any) -> Iterator[Work]:
    """Convolutions, matrix products, pooling and shortcuts, in their order.

    Everything else is done to a number while it is at hand: it moves no bytes of its own. Of a
    shortcut's addition that holds for the sum, but what went past the block is read once more.
    """
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        arrays = [v.aval for v in equation.invars if getattr(v.aval, "ndim", 0)]
        result = equation.outvars[0].aval
        if name == "conv_general_dilated":
            kernel = arrays[1].shape
            outputs = kernel[equation.params["dimension_numbers"].rhs_spec[0]]
            operations = 2 * result.size * math.prod(kernel) // outputs
        elif name == "dot_general":
            contracted = equation.params["dimension_numbers"][0][0]
            operations = 2 * result.size * math.prod(arrays[0].shape[axis] for axis in contracted)
        elif name.startswith("reduce"):
            operations = 0
        elif name == "add" and len(arrays) == 2 and arrays[0].shape == arrays[1].shape != ():
            if result.ndim == 4:
                yield Work("shortcut", 0, size_in_bytes(result))
            continue
        else:
            for value in equation.params.values():
                inner = getattr(value, "jaxpr", value)  # closed, or open as it is
                if hasattr(inner, "eqns"):
                    yield from work(inner)
            continue
        if result.ndim:
            yield Work(name, operations, sum(map(size_in_bytes, [*arrays, result])))


def size_in_bytes(array: Any) -> int:
    return array.size * array.dtype.itemsize


def attainable(works: list[Work], limits: Limits, batch: int) -> tuple[float, float]:
    """Images/s: as if all the work overlapped, and operation after operation.

    The second is the limit of an engine that ends one layer before the next: each takes as long
    as its products or its bytes, whichever is more.
    """
    together = max(
        sum(each.operations for each in works) / limits.operations,
        sum(each.traffic for each in works) / limits.bandwidth,
    )
    in_turn = sum(
        max(each.operations / limits.operations, each.traffic / limits.bandwidth) for each in works
    )
    return batch / together, batch / in_turn


def best(make: Callable[[int], Runner], sizes: list[int], amount: Callable[[int], float]) -> dict:
    """Amount a second at the best of the sizes: the fastest of a few rounds, as a limit is."""
    reached = {}
    for size in sizes:
        runner = make(size)
        calls = calls_for(runner, 0.2)
        fastest = min(seconds_per_call(runner, calls) for _ in range(ROUNDS))
        reached[size] = amount(size) / fastest
    size = max(reached, key=reached.__getitem__)
    return {"rate": reached[size], "size": size}


def jax_limits(dtype: str, sizes: list[int], megabytes: int) -> tuple[dict, dict]:
    """Matrix peak and bandwidth as JAX reaches them."""

    def repeated(function: Callable, x: jax.Array, *arrays: jax.Array) -> Runner:
        """The first array becomes the answer, in the same memory: none is allocated meanwhile."""
        with jax.default_matmul_precision(COMPUTE[dtype][1]):
            program = (
                jax.jit(function, donate_argnums=0, keep_unused=True).lower(x, *arrays).compile()
            )
        answer = x

        def run(calls: int) -> None:
            nonlocal answer
            for _ in range(calls):
                answer = program(answer, *arrays)
                if jax.default_backend() == "cpu":
                    answer.block_until_ready()
            answer.block_until_ready()

        return Runner(run, lambda: np.asarray(answer))

    def product(size: int) -> Runner:
        shape, keys = (size, size), jax.random.split(jax.random.key(0))
        # Random, not zeros: those take less power, and a GPU then runs at a higher clock.
        a, b = (jax.random.normal(key, shape, COMPUTE[dtype][0]) for key in keys)
        return repeated(lambda answer, a, b: jnp.matmul(a, b), jnp.zeros_like(a), a, b)

    def copy(size: int) -> Runner:
        return repeated(jnp.negative, jnp.ones(size * 2**18, jnp.float32))

    return (
        best(product, sizes, lambda size: 2 * size**3),
        best(copy, [megabytes], lambda size: 2 * size * 2**20),
    )


def torch_limits(dtype: str, sizes: list[int], megabytes: int, *, gpu: bool) -> tuple[dict, dict]:
    """The same as PyTorch reaches them; TorchSide has set the precision."""
    import torch

    device = "cuda" if gpu else "cpu"
    kind = torch.bfloat16 if dtype == "bfloat16" else torch.float32

    def repeated(function: Callable[[], Any]) -> Runner:
        @torch.inference_mode()
        def run(calls: int) -> None:
            for _ in range(calls):
                function()
            if gpu:
                torch.cuda.synchronize()

        return Runner(run, lambda: np.asarray(0))

    def product(size: int) -> Runner:
        a, b, answer = (torch.randn(size, size, device=device).to(kind) for _ in range(3))
        return repeated(lambda: torch.mm(a, b, out=answer))

    def copy(size: int) -> Runner:
        source, target = (torch.ones(size * 2**18, device=device) for _ in range(2))
        return repeated(lambda: target.copy_(source))

    return (
        best(product, sizes, lambda size: 2 * size**3),
        best(copy, [megabytes], lambda size: 2 * size * 2**20),
    )
