"""The same network in PyTorch, with the same weights, and the ways to run it."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from gpu_jax import BYTES_FROM_HOST, FROM_HOST, ON_DEVICE, as_floats
from gpu_timing import Runner, Way
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

PINNED = "float32, host, pinned"
BYTES_PINNED = "uint8, host, pinned"
EPSILON = 1e-5


class Normalised(nn.Module):
    """A convolution and its BatchNorm, Conv_n and BatchNorm_n of a Flax scope."""

    def __init__(self, arrays: dict[str, np.ndarray], scope: str, number: int, stride: int) -> None:
        super().__init__()
        kernel = arrays[f"params/{scope}Conv_{number}/kernel"]  # height, width, in, out
        height, _, inputs, outputs = kernel.shape
        self.conv = nn.Conv2d(inputs, outputs, height, stride, height // 2, bias=False)
        self.conv.weight.data = torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy())
        self.norm = nn.BatchNorm2d(outputs, eps=EPSILON)
        norm = f"{scope}BatchNorm_{number}"
        self.norm.weight.data = torch.from_numpy(arrays[f"params/{norm}/scale"])
        self.norm.bias.data = torch.from_numpy(arrays[f"params/{norm}/bias"])
        self.norm.running_mean = torch.from_numpy(arrays[f"batch_stats/{norm}/mean"])
        self.norm.running_var = torch.from_numpy(arrays[f"batch_stats/{norm}/var"])

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))


class Bottleneck(nn.Module):
    """1x1, 3x3 with the stride (version 1.5), 1x1, and what goes past them."""

    def __init__(self, arrays: dict[str, np.ndarray], number: int) -> None:
        super().__init__()
        scope = f"Bottleneck_{number}/"
        shortcut = f"params/{scope}Conv_3/kernel" in arrays
        stride = 2 if shortcut and number else 1
        self.first = Normalised(arrays, scope, 0, 1)
        self.second = Normalised(arrays, scope, 1, stride)
        self.third = Normalised(arrays, scope, 2, 1)
        self.shortcut = Normalised(arrays, scope, 3, stride) if shortcut else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.second(torch.relu(self.first(x))))
        return torch.relu(self.third(y) + self.shortcut(x))


class ResNet(nn.Module):
    """ResNet50 or deeper, out of flaxmodels' variables by their Flax names.

    Takes images as JAX does, [n, height, width, 3]; seen as [n, 3, height, width] they are in
    PyTorch's channels_last, without a copy.
    """

    mean: Tensor
    spread: Tensor

    def __init__(self, arrays: dict[str, np.ndarray], dtype: torch.dtype) -> None:
        super().__init__()
        kernels = [n for n in arrays if n.startswith("params/Bottleneck") and "/Conv_2/" in n]
        if not kernels:
            raise ValueError(
                "the network has no Bottleneck; expected ResNet50, 101 or 152; ask for it"
            )
        self.first = Normalised(arrays, "", 0, 2)
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.blocks = nn.Sequential(*(Bottleneck(arrays, n) for n in range(len(kernels))))
        weights, bias = arrays["params/Dense_0/kernel"], arrays["params/Dense_0/bias"]
        self.dense = nn.Linear(*weights.shape)
        self.dense.weight.data = torch.from_numpy(weights.T.copy())
        self.dense.bias.data = torch.from_numpy(bias)
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]))
        self.register_buffer("spread", torch.tensor([0.229, 0.224, 0.225]))
        self.dtype = dtype

    def forward(self, images: Tensor) -> Tensor:
        if images.dtype == torch.uint8:
            images = images.float() / 255
        x = ((images - self.mean) / self.spread).permute(0, 3, 1, 2).to(self.dtype)
        x = self.blocks(self.pool(torch.relu(self.first(x))))
        return self.dense(x.mean((2, 3))).float()


def ready(network: ResNet, *, device: torch.device, folded: bool) -> ResNet:
    """A copy for inference: on the device, channels_last, products in its dtype.

    BatchNorm's own arrays stay float32, as they do in JAX.
    """
    network = copy.deepcopy(network).eval().requires_grad_(requires_grad=False)
    for module in network.modules():
        if folded and isinstance(module, Normalised):
            module.conv, module.norm = fuse_conv_bn_eval(module.conv, module.norm), nn.Identity()
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.to(network.dtype)
    return network.to(device, memory_format=torch.channels_last)


class TorchSide:
    """The ways that PyTorch has, of one dtype, on a GPU or the CPU."""

    def __init__(self, dtype: str, arrays: dict[str, np.ndarray], *, gpu: bool) -> None:
        self.device = torch.device("cuda" if gpu else "cpu")
        if gpu and not torch.cuda.is_available():
            raise RuntimeError(
                "JAX computes on a GPU, but this torch finds none; expected one that does; "
                "install torch for CUDA"
            )
        tf32 = dtype != "float32"
        torch.set_float32_matmul_precision("high" if tf32 else "highest")
        torch.backends.cudnn.allow_tf32 = tf32
        torch.backends.cudnn.benchmark = True
        # Every way compiles the same `forward`; by default the ninth would run uncompiled.
        torch._dynamo.reset()
        torch._dynamo.config.recompile_limit = 64
        network = ResNet(arrays, torch.bfloat16 if dtype == "bfloat16" else torch.float32)
        self.plain = ready(network, device=self.device, folded=False)
        self.folded = ready(network, device=self.device, folded=True)

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def compiled(self, network: nn.Module, mode: str, *, frozen: bool = False) -> Any:
        """torch.compile for fixed shapes; whatever it cannot compile is an error."""
        if not frozen:
            return torch.compile(network, mode=mode, fullgraph=True, dynamic=False)
        options = {**torch._inductor.list_mode_options(mode), "freezing": True}
        return torch.compile(network, options=options, fullgraph=True, dynamic=False)

    def resident(self, make: Callable[[], Any], images: np.ndarray) -> Runner:
        """Images are on the device before; logits stay there."""
        network, there = make(), torch.from_numpy(images).to(self.device)

        @torch.inference_mode()
        def run(calls: int) -> None:
            for _ in range(calls):
                network(there)
            self.wait()

        @torch.inference_mode()
        def logits() -> np.ndarray:
            return network(there).cpu().numpy()

        return Runner(run, logits)

    @torch.inference_mode()
    def graph(self, network: nn.Module, images: np.ndarray) -> Runner:
        """The eager network's kernels, recorded once and replayed."""
        if self.device.type != "cuda":
            raise RuntimeError("CUDA graphs need a GPU")
        there = torch.from_numpy(images).to(self.device)
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):  # libraries start and tune before anything is recorded
            for _ in range(3):
                network(there)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        # JAX's threads may call CUDA meanwhile.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            answer = network(there)

        def run(calls: int) -> None:
            for _ in range(calls):
                graph.replay()
            torch.cuda.synchronize()

        def logits() -> np.ndarray:
            run(1)
            return answer.cpu().numpy()

        return Runner(run, logits)

    def fetched(self, make: Callable[[], Any], images: np.ndarray, *, pinned: bool) -> Runner:
        """Images from the host, logits to the host, one batch after the other."""
        if pinned and self.device.type != "cuda":
            raise RuntimeError("pinned memory needs a GPU")
        network, here = make(), torch.from_numpy(images)
        here = here.pin_memory() if pinned else here

        @torch.inference_mode()
        def logits() -> np.ndarray:
            return network(here.to(self.device, non_blocking=pinned)).cpu().numpy()

        def run(calls: int) -> None:
            for _ in range(calls):
                logits()

        return Runner(run, logits)

    def ways(self, images: np.ndarray, *, detail: bool, modes: tuple[str, ...]) -> Iterator[Way]:
        """All of them for these uint8 images; with `detail` also transfers and later modes."""
        floats = as_floats(images)
        yield Way("PyTorch", "eager", ON_DEVICE, partial(self.resident, lambda: self.plain, floats))
        make = partial(self.graph, self.folded, floats)
        yield Way("PyTorch", "folded, CUDA graph", ON_DEVICE, make)
        for mode in modes[: None if detail else 1]:
            for network, name, frozen in (
                (self.plain, f"compile, {mode}", False),
                (self.folded, f"folded, compile, {mode}, frozen", True),
            ):
                maker = partial(self.compiled, network, mode, frozen=frozen)
                yield Way("PyTorch", name, ON_DEVICE, partial(self.resident, maker, floats))
        if not detail:
            return
        name, maker = "folded, eager", lambda: self.folded
        if modes:
            name = f"folded, compile, {modes[0]}, frozen"
            maker = partial(self.compiled, self.folded, modes[0], frozen=True)
        for feed, batch, pinned in (
            (FROM_HOST, floats, False),
            (PINNED, floats, True),
            (BYTES_FROM_HOST, images, False),
            (BYTES_PINNED, images, True),
        ):
            make = partial(self.fetched, maker, batch, pinned=pinned)
            yield Way("PyTorch", name, feed, make)


def profile(run: Callable[[int], object], calls: int, *, gpu: bool) -> Counter[str]:
    """Milliseconds a call of every kernel (on a CPU: of every operator's own part)."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    activities += [torch.profiler.ProfilerActivity.CUDA] if gpu else []
    with torch.profiler.profile(activities=activities) as profiler:
        run(calls)
    spent: Counter[str] = Counter()
    for event in profiler.key_averages():
        us = event.self_device_time_total if gpu else event.self_cpu_time_total
        spent[event.key] += us / 1000 / calls
    return +spent
