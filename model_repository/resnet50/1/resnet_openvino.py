"""OpenVINO as the compiler of a JAX function, for CPUs: XLA's convolutions are slower there.

JAX traces the function, and each step of it becomes a node of an ONNX model, which OpenVINO reads.
Needs the packages `openvino` and `onnx`.
"""

import sys

import jax
import numpy as np
from jax.extend.core import Literal
from onnx import helper, numpy_helper

PRECISIONS = {"float32": "f32", "bfloat16": "bf16"}


def compile_with_openvino(function, image, compute_dtype, threads):
    """A program for any number of images; `image` is the shape and dtype of a batch of one."""
    # On import it would report its use over the network, from a fork of this threaded process.
    sys.modules.setdefault("openvino_telemetry", None)
    import openvino

    core = openvino.Core()
    properties = {
        "INFERENCE_PRECISION_HINT": PRECISIONS[compute_dtype],
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",  # one batch at a time, with all of the threads
        "ENABLE_CPU_PINNING": False,  # else all instances have their threads on the first cores
    }
    model = core.read_model(to_onnx(function, image).SerializeToString())
    compiled = core.compile_model(model, "CPU", properties)
    return lambda images: compiled([images])[0]


def to_onnx(function, image):
    """ONNX model of a JAX function of images.

    What does not depend on the images is computed here, by JAX. Images and all other arrays of four
    dimensions are [n, height, width, channels] in JAX and [n, channels, height, width] in ONNX.
    """
    traced = jax.make_jaxpr(function)(image)
    graph = Graph()
    transposed = graph.add("Transpose", "images", perm=[0, 3, 1, 2])
    (logits,) = graph.run(traced.jaxpr, traced.consts, [transposed])
    inputs = [tensor("images", image)]
    outputs = [tensor(logits, traced.out_avals[0])]
    whole = helper.make_graph(graph.nodes, "classify", inputs, outputs, graph.constants)
    return helper.make_model(whole, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def tensor(name, one):
    """An input or output of any number of rows, each as in `one`."""
    element = helper.np_dtype_to_tensor_dtype(one.dtype)
    return helper.make_tensor_value_info(name, element, ["n", *one.shape[1:]])


class Graph:
    """The ONNX nodes of a jaxpr. A value is the name of a node's output, or an array if known."""

    def __init__(self):
        self.nodes, self.constants = [], []

    def run(self, jaxpr, consts, inputs):
        """The values of the jaxpr's outputs."""
        values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *inputs], strict=True))
        for step in jaxpr.eqns:
            given = [v.val if isinstance(v, Literal) else values[v] for v in step.invars]
            inner = step.params.get("jaxpr") or step.params.get("call_jaxpr")
            if inner:
                results = self.run(inner.jaxpr, inner.consts, given)
            elif any(isinstance(value, str) for value in given):
                results = [self.translate(step, given)]
            else:
                results = step.primitive.bind(*given, **step.params)
                results = results if step.primitive.multiple_results else [results]
            values.update(zip(step.outvars, results, strict=True))
        return [values[v] for v in jaxpr.outvars]

    def translate(self, step, given):
        """The output of the node that does what this step of the jaxpr does."""
        name, p = step.primitive.name, step.params
        match name:
            case "add" | "sub" | "mul" | "div" | "max":
                return self.add(name.capitalize(), *map(self.transpose, given))
            case "convert_element_type":
                element = helper.np_dtype_to_tensor_dtype(p["new_dtype"])
                return self.add("Cast", *given, to=element)
            case "conv_general_dilated":
                kernel = np.transpose(given[1], (3, 2, 0, 1))
                (top, bottom), (left, right) = p["padding"]
                pads, strides = [top, left, bottom, right], p["window_strides"]
                return self.add("Conv", given[0], kernel, pads=pads, strides=strides)
            case "reduce_window_max":
                _, (top, bottom), (left, right), _ = p["padding"]
                return self.add(
                    "MaxPool",
                    *given,
                    pads=[top, left, bottom, right],
                    kernel_shape=p["window_dimensions"][1:3],
                    strides=p["window_strides"][1:3],
                )
            case "reduce_sum":
                axes = [{0: 0, 1: 2, 2: 3, 3: 1}[axis] for axis in p["axes"]]
                return self.add("ReduceSum", *given, np.array(axes), keepdims=0)
            case "dot_general":
                return self.add("MatMul", *given)
        raise NotImplementedError(
            f"a JAX function has the step {name!r}; expected those of a ResNet; "
            f"add it to {__name__}, or set cpu_engine to xla."
        )

    def transpose(self, value):
        """A value for a step between arrays of one layout."""
        if isinstance(value, str) or np.ndim(value) != 4:
            return value
        return np.transpose(value, (0, 3, 1, 2))

    def add(self, operation, *inputs, **attributes):
        """Name of a new node's output."""
        names = []
        for value in inputs:
            names.append(value if isinstance(value, str) else f"constant {len(self.constants)}")
            if not isinstance(value, str):
                array = np.ascontiguousarray(value)
                self.constants.append(numpy_helper.from_array(array, names[-1]))
        output = f"{operation} {len(self.nodes)}"
        self.nodes.append(helper.make_node(operation, names, [output], **attributes))
        return output
