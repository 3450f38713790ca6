"""The network in JAX: its variables, BatchNorm folded, and the ways to run it."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import flax.linen as nn
import flaxmodels
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from flaxmodels.resnet.ops import BatchNorm
from gpu_timing import Runner, Way

# What a network computes in, and how a float32 product is made: exact, or what the GPU likes.
COMPUTE = {
    "float32": ("float32", "highest"),
    "tf32": ("float32", "default"),
    "bfloat16": ("bfloat16", "default"),
}
# Sets of compiler options that are worth a try on a GPU: --xla-flags takes others.
GPU_FLAGS = (
    "xla_gpu_autotune_level=5",
    "xla_gpu_enable_triton_gemm=false",
    "xla_gpu_cudnn_gemm_fusion_level=2",
    "xla_gpu_experimental_enable_conv_fusion=true",
    "xla_gpu_enable_command_buffer=CONVOLUTION",
    "xla_gpu_enable_latency_hiding_scheduler=true",
    "xla_gpu_force_conv_nhwc=true",
    "xla_gpu_force_conv_nchw=true",
)
EPSILON = 1e-5  # of flaxmodels' BatchNorm
ON_DEVICE = "device"
FROM_HOST = "float32, host"
BYTES_FROM_HOST = "uint8, host"
OVERLAPPED = "float32, host, overlapped"
BYTES_OVERLAPPED = "uint8, host, overlapped"

Variables = dict[str, Any]
Classify = Callable[[nn.Module, Variables, jax.Array], jax.Array]


def make_network(architecture: str, dtype: str) -> nn.Module:
    """flaxmodels' network of that name, such as ResNet50, for one of COMPUTE's dtypes."""
    maker = getattr(flaxmodels, architecture)
    return maker(output="logits", pretrained=None, dtype=COMPUTE[dtype][0])


def random_variables(network: nn.Module) -> Variables:
    """Seeded numpy arrays by Flax names: "params/Conv_0/kernel", the same for every engine.

    BatchNorm's are random too, or folding it would not be put to the test.
    """
    images = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    init = partial(network.init, train=False)
    shapes = flatten_dict(jax.eval_shape(init, jax.random.key(0), images), sep="/")
    generator = np.random.default_rng(0)
    arrays = {}
    for name, leaf in sorted(shapes.items()):
        if name.endswith("/kernel"):
            spread = np.sqrt(np.float32(np.prod(leaf.shape[:-1])))
            arrays[name] = generator.standard_normal(leaf.shape, np.float32) / spread
        elif name.endswith(("/scale", "/var")):
            arrays[name] = generator.uniform(0.5, 1.5, leaf.shape).astype(np.float32)
        else:
            arrays[name] = 0.1 * generator.standard_normal(leaf.shape, np.float32)
    return arrays


def random_images(batch: int, size: int) -> np.ndarray:
    """Seeded uint8 images [batch, size, size, 3]; as float32 they are divided by 255.

    Each has a brightness and a colour of its own. To a network noise looks like any other noise:
    rows in a wrong order would pass for the right ones.
    """
    generator = np.random.default_rng(1)
    bounds = generator.integers(1, 257, (batch, 1, 1, 3))  # of red, green and blue
    return generator.integers(0, bounds, (batch, size, size, 3), np.uint8)


def as_floats(images: np.ndarray) -> np.ndarray:
    return images.astype(np.float32) / np.float32(255)


def fold(arrays: Variables) -> Variables:
    """BatchNorm's factors moved into the kernels; of BatchNorm itself a bias is left.

    Conv_2 of a block and BatchNorm_2 of the same block belong together.
    """
    folded = {}
    for name, array in arrays.items():
        if "Conv_" in name:
            norm = name.removesuffix("/kernel").replace("Conv_", "BatchNorm_")
            stats = norm.replace("params/", "batch_stats/", 1)
            factor = arrays[f"{norm}/scale"] / np.sqrt(arrays[f"{stats}/var"] + EPSILON)
            folded[name] = array * factor
            folded[f"{norm}/bias"] = arrays[f"{norm}/bias"] - arrays[f"{stats}/mean"] * factor
        elif "BatchNorm_" not in name:
            folded[name] = array
    return folded


def classify(network: nn.Module, variables: Variables, images: jax.Array) -> jax.Array:
    """Logits in float32 of images in float32 [0, 1] or uint8."""
    if images.dtype == jnp.uint8:
        images = images.astype(jnp.float32) / 255
    return network.apply(variables, images, train=False).astype(jnp.float32)


def classify_folded(network: nn.Module, variables: Variables, images: jax.Array) -> jax.Array:
    """The same with the variables that `fold` made."""

    def add_bias(call: Callable, args: tuple, kwargs: dict, context: Any) -> jax.Array:
        if isinstance(context.module, BatchNorm) and context.method_name == "__call__":
            bias = context.module.get_variable("params", "bias")
            return args[0] + bias.astype(args[0].dtype)
        return call(*args, **kwargs)

    with nn.intercept_methods(add_bias):
        return classify(network, variables, images)


def read_flags(text: str) -> dict[str, bool | int | str]:
    """Compiler options of "name=value,name=value"; Python's types, as XLA asks for them."""
    options: dict[str, bool | int | str] = {}
    for pair in text.split(","):
        name, equals, value = pair.strip().removeprefix("--").partition("=")
        if not (name.startswith("xla_") and equals and value):
            raise ValueError(
                f"XLA flags {text!r}; expected xla_...=value,xla_...=value; correct it"
            )
        options[name] = {"true": True, "false": False}.get(value.lower(), value)
        if value.removeprefix("-").isdecimal():
            options[name] = int(value)
    return options


class JaxSide:
    """The ways that JAX has, of one dtype, on the default device."""

    def __init__(self, architecture: str, dtype: str, arrays: Variables) -> None:
        self.dtype = dtype
        self.network = make_network(architecture, dtype)
        self.plain, self.folded = self.on_device(arrays), self.on_device(fold(arrays))
        # A GPU takes calls into a queue; on a CPU several would share the cores.
        self.queues = jax.default_backend() != "cpu"
        self.programs: dict[object, Any] = {}

    def on_device(self, arrays: Variables) -> Variables:
        """Kernels in the type that convolutions compute in, the rest in float32."""
        compute = jnp.dtype(COMPUTE[self.dtype][0])
        return jax.device_put(
            unflatten_dict(
                {
                    name: array.astype(compute if name.endswith("/kernel") else np.float32)
                    for name, array in arrays.items()
                },
                sep="/",
            )
        )

    def compile(self, way: Classify, variables: Variables, like: Any, flags: str = "") -> Any:
        """A program of (variables, images) for images of that shape and dtype."""
        key = (way, like.shape, like.dtype, flags)
        if key not in self.programs:
            images = jax.ShapeDtypeStruct(like.shape, like.dtype)
            with jax.default_matmul_precision(COMPUTE[self.dtype][1]):
                lowered = jax.jit(partial(way, self.network)).lower(variables, images)
            options = read_flags(flags) if flags else None
            self.programs[key] = lowered.compile(compiler_options=options)
        return self.programs[key]

    def compile_constant(self, like: Any) -> Any:
        """The folded program with its weights inside: what XLA makes of constants."""
        images = jax.ShapeDtypeStruct(like.shape, like.dtype)
        with jax.default_matmul_precision(COMPUTE[self.dtype][1]):
            function = jax.jit(partial(classify_folded, self.network, self.folded))
            return function.lower(images).compile()

    def plain_jit(self, images: np.ndarray) -> Runner:
        return self.resident(
            partial(self.compile(classify, self.plain, images), self.plain), images
        )

    def folded_jit(self, images: np.ndarray, flags: str = "") -> Runner:
        program = self.compile(classify_folded, self.folded, images, flags)
        return self.resident(partial(program, self.folded), images)

    def folded_constants(self, images: np.ndarray) -> Runner:
        return self.resident(self.compile_constant(images), images)

    def resident(self, program: Callable[[jax.Array], jax.Array], images: np.ndarray) -> Runner:
        """Images are on the device before; logits stay there."""
        there = jax.device_put(images)

        def run(calls: int) -> None:
            for _ in range(calls):
                logits = program(there)
                if not self.queues:
                    logits.block_until_ready()
            logits.block_until_ready()

        return Runner(run, lambda: np.asarray(program(there)))

    def fetched(self, images: np.ndarray) -> Runner:
        """Images from the host, logits to the host, one batch after the other."""
        program = partial(self.compile(classify_folded, self.folded, images), self.folded)

        def run(calls: int) -> None:
            for _ in range(calls):
                np.asarray(program(jax.device_put(images)))

        return Runner(run, lambda: np.asarray(program(jax.device_put(images))))

    def overlapped(self, images: np.ndarray) -> Runner:
        """The same work, but the next batch travels while the present one is computed."""
        program = partial(self.compile(classify_folded, self.folded, images), self.folded)

        def run(calls: int) -> np.ndarray:
            present, before = jax.device_put(images), None
            for call in range(calls):
                logits = program(present)
                logits.copy_to_host_async()
                if call + 1 < calls:
                    present = jax.device_put(images)
                if before is not None:
                    np.asarray(before)
                before = logits
            return np.asarray(before)

        return Runner(run, lambda: run(2))

    def ways(
        self, images: np.ndarray, *, detail: bool, flag_sets: tuple[str, ...]
    ) -> Iterator[Way]:
        """All of them for these uint8 images; with `detail` also steps and transfers."""
        self.programs.clear()  # those of another batch size
        floats = as_floats(images)
        yield Way("JAX", "jit", ON_DEVICE, partial(self.plain_jit, floats))
        yield Way("JAX", "folded", ON_DEVICE, partial(self.folded_jit, floats))
        if not detail:
            return
        yield Way("JAX", "folded, constants", ON_DEVICE, partial(self.folded_constants, floats))
        for flags in flag_sets:
            make = partial(self.folded_jit, floats, flags)
            yield Way("JAX", f"folded, {flags}", ON_DEVICE, make)
        yield Way("JAX", "folded", FROM_HOST, partial(self.fetched, floats))
        yield Way("JAX", "folded", OVERLAPPED, partial(self.overlapped, floats))
        yield Way("JAX", "folded", BYTES_FROM_HOST, partial(self.fetched, images))
        yield Way("JAX", "folded", BYTES_OVERLAPPED, partial(self.overlapped, images))


def profile(run: Callable[[int], object], calls: int) -> Counter[str]:
    """Milliseconds a call of every kernel, by JAX's own profiler.

    A GPU's kernels are on its streams; on a CPU XLA's thunks are, summed over threads.
    """
    kernels: Counter[str] = Counter()
    thunks: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            run(calls)
        for path in Path(folder).rglob("*.xplane.pb"):
            for plane in jax.profiler.ProfileData.from_file(str(path)).planes:
                for line in plane.lines:
                    if "/device:GPU" in plane.name and line.name.startswith("Stream"):
                        spent = kernels
                    elif line.name.startswith("tf_XLA"):
                        spent = thunks
                    else:
                        continue
                    for event in line.events:
                        if "ThunkExecutor" not in event.name:  # it waits for the others
                            spent[event.name] += event.duration_ns / 1e6 / calls
    return kernels or thunks
