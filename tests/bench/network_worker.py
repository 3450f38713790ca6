"""One engine of ``network.py``, in a process and a Python of its own: classifies what it is told.

    python network_worker.py ENGINE ARCHITECTURE WEIGHTS.h5

A task is a line of JSON, and so is the answer to it: ``{"batch": 8, "seconds": 1.0}`` has it call
the network for so long, ``{"images": "in.npy", "logits": "out.npy"}`` once, to compare the logits.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import sys
import time
import types
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
MODEL = HERE.parents[1] / "model_repository/resnet50/1"
SHAPE, CLASSES, SEED = (224, 224, 3), 1000, 5
LEAST_CALLS = 3


def main() -> None:
    engine, architecture, weights = sys.argv[1:]
    make = ENGINES[engine](architecture, Path(weights))
    programs = {}
    print(json.dumps({"version": make.version}), flush=True)
    for line in sys.stdin:
        task = json.loads(line)
        images = np.load(task["images"]) if "images" in task else random_images(task["batch"])
        if len(images) not in programs:
            programs[len(images)] = make(images)
            for _ in range(2):
                programs[len(images)](images)
        if "images" in task:
            np.save(task["logits"], programs[len(images)](images))
            answer = {}
        else:
            answer = {"images_per_second": speed(programs[len(images)], images, task["seconds"])}
        print(json.dumps(answer), flush=True)


def random_images(batch):
    return np.random.default_rng(1).random((batch, *SHAPE), np.float32)


def speed(program, images, seconds):
    """Images a second over so long, and at least a few calls."""
    start, calls = time.perf_counter(), 0
    while calls < LEAST_CALLS or time.perf_counter() - start < seconds:
        program(images)
        calls += 1
    return calls * len(images) / (time.perf_counter() - start)


class Engine:
    """Makes a program for a batch of images; ``version`` says of what."""

    def __init__(self, version, make):
        self.version, self._make = version, make

    def __call__(self, images):
        return self._make(images)


def network_of(architecture, dtype="float32"):
    import flaxmodels

    name = architecture.replace("resnet", "ResNet")
    return getattr(flaxmodels, name)(
        output="logits", pretrained=None, num_classes=CLASSES, dtype=dtype
    )


def served(architecture, weights, *, dtype="float32", cpu_engine="xla"):
    """What model_repository's model compiles, with its own functions."""
    os.environ["JAX_PLATFORMS"] = "cpu"
    pretend_backend()
    import jax
    import jax.numpy as jnp

    model, reading, weighing = map(
        importlib.import_module, ("model", "resnet_options", "resnet_weights")
    )
    model.keep_freed_memory()
    network = network_of(architecture, dtype)
    options = {"weights": weights.name, "compute_dtype": dtype}
    variables = weighing.load_variables(network, SHAPE, options, weights.parent)

    def classify(variables, images):
        return weighing.apply_folded(network, variables, images).astype(jnp.float32)

    if cpu_engine == "openvino":
        compiling = importlib.import_module("resnet_openvino")
        one = jax.ShapeDtypeStruct((1, *SHAPE), np.float32)
        threads = reading.share_of_cores("", [])
        function = functools.partial(classify, variables)
        program = compiling.compile_with_openvino(function, one, dtype, threads)
        version = f"jax {jax.__version__}, openvino {sys.modules['openvino'].__version__[:8]}"
        return Engine(version, lambda _: program)

    def make(images):
        # What ``classify`` of the model does with such a batch.
        calls = model.split_rows(len(images), reading.read_buckets("", len(images), "CPU"))
        programs = {
            size: model.compile_with_xla(classify, device_variables, images[:size], "cpu")
            for size in set(calls)
        }
        starts = np.cumsum([0, *calls])

        def run(images):
            running = [
                programs[size](images[start : start + size])
                for start, size in zip(starts, calls, strict=False)
            ]
            return np.concatenate([np.asarray(logits) for logits in running])

        return run

    device_variables = jax.device_put(variables)
    return Engine(f"jax {jax.__version__}", make)


def unfolded(architecture, weights):
    """flaxmodels' network as it is, with jit and the parameters as arguments."""
    os.environ["JAX_PLATFORMS"] = "cpu"
    import jax

    network, variables = network_of(architecture), from_h5(weights, network_of(architecture))

    def make(images):
        function = jax.jit(functools.partial(network.apply, train=False))
        program = function.lower(variables, images).compile()
        return lambda images: np.asarray(program(variables, images))

    return Engine(f"jax {jax.__version__}", make)


def from_h5(weights, network):
    """flaxmodels' variables, on JAX's device."""
    import jax
    from flax.traverse_util import unflatten_dict

    return jax.device_put(unflatten_dict(read_flat(weights, network), sep="/"))


def read_flat(weights, network):
    """Arrays by their Flax names, read as the model reads them."""
    pretend_backend()
    import jax
    from flax.traverse_util import flatten_dict

    leaves = jax.eval_shape(
        lambda: network.init(jax.random.key(0), np.zeros((1, *SHAPE), np.float32), train=False)
    )
    shapes = {name: leaf.shape for name, leaf in flatten_dict(leaves, sep="/").items()}
    reading = importlib.import_module("resnet_weights")
    return reading.read_arrays(network, shapes, {"weights": weights.name}, weights.parent)


def pretend_backend():
    """Have the model's files importable: none of what is used here talks to Triton."""
    sys.modules["triton_python_backend_utils"] = types.ModuleType("triton_python_backend_utils")
    sys.path.append(str(MODEL))


def paper(architecture):
    """The same network as an ONNX model of its own, with the same weights."""
    sys.path.append(str(HERE.parent))
    return importlib.import_module("paper").Paper(architecture, classes=CLASSES, seed=SEED).graph()


def onnx_runtime(architecture, _):
    import onnxruntime

    session = onnxruntime.InferenceSession(paper(architecture), providers=["CPUExecutionProvider"])
    version = f"onnxruntime {onnxruntime.__version__}"
    return Engine(version, lambda _: lambda images: session.run(None, {"image": images})[0])


def openvino(architecture, _, *, precision="f32"):
    sys.modules["openvino_telemetry"] = None
    import openvino

    core, graph = openvino.Core(), paper(architecture)

    def make(images):
        model = core.read_model(graph)
        model.reshape(list(images.shape))
        hints = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
        compiled = core.compile_model(model, "CPU", hints)
        return lambda images: compiled([images])[0]

    return Engine(f"openvino {openvino.__version__[:8]}", make)


def torch_compiled(architecture, weights, *, dtype="float32"):
    """The network of gpu_torch.py, folded, channels_last, frozen: what did best on CPUs."""
    import torch
    from gpu_torch import ResNet, ready

    arrays = read_flat(weights, network_of(architecture))
    network = ready(ResNet(arrays, getattr(torch, dtype)), device=torch.device("cpu"), folded=True)
    compiled = torch.compile(network, options={"freezing": True}, fullgraph=True, dynamic=False)

    def make(_):
        @torch.inference_mode()
        def run(images):
            return compiled(torch.from_numpy(images)).numpy()

        return run

    return Engine(f"torch {torch.__version__}", make)


ENGINES = {
    "xla": served,
    "xla bfloat16": functools.partial(served, dtype="bfloat16"),
    "unfolded": unfolded,
    "cpu_engine openvino": functools.partial(served, cpu_engine="openvino"),
    "cpu_engine openvino bfloat16": functools.partial(
        served, cpu_engine="openvino", dtype="bfloat16"
    ),
    "ONNX Runtime": onnx_runtime,
    "OpenVINO": openvino,
    "OpenVINO bfloat16": functools.partial(openvino, precision="bf16"),
    "torch.compile": torch_compiled,
    "torch.compile bfloat16": functools.partial(torch_compiled, dtype="bfloat16"),
}


if __name__ == "__main__":
    main()
