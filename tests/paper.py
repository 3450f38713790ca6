"""ResNet as He et al. describe it (arXiv 1512.03385, table 1), as an ONNX graph.

Written from the paper and from the names in flaxmodels' weights files, not from flaxmodels' code,
so that its logits are a second opinion. As in every ImageNet checkpoint in use, a bottleneck
halves its image in the 3 x 3 convolution (version 1.5), where the paper does so in the first 1 x 1.
"""

import numpy as np
from onnx import TensorProto, helper, numpy_helper

# Blocks in each of the four stages, and the width and kernel of a block's convolutions.
BLOCKS = {
    "resnet18": ("basic", (2, 2, 2, 2)),
    "resnet34": ("basic", (3, 4, 6, 3)),
    "resnet50": ("bottleneck", (3, 4, 6, 3)),
}
EXPANSION = {"basic": 1, "bottleneck": 4}
EPSILON = 1e-5
MEAN, STANDARD_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Paper:
    """A ResNet with random weights: ``weights`` by flaxmodels' names, and the ONNX ``graph``.

    Scales, means and variances of the normalisations are random, too: fresh ones are all 0 or 1,
    and would hide that two of them were confused.
    """

    def __init__(self, architecture, *, classes, seed):
        self.weights, self._nodes, self._constants = {}, [], []
        self._random = np.random.default_rng(seed)
        kind, blocks = BLOCKS[architecture]
        width = 64

        value = self._add("Transpose", "image", perm=[0, 3, 1, 2])
        value = self._add("Sub", value, self._constant("mean", np.reshape(MEAN, (1, 3, 1, 1))))
        deviation = np.reshape(STANDARD_DEVIATION, (1, 3, 1, 1))
        value = self._add("Div", value, self._constant("deviation", deviation))
        value = self._conv_bn(value, "conv1", "bn1", 3, width, kernel=7, stride=2)
        value = self._add("Relu", value)
        value = self._add("MaxPool", value, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
        channels = width
        for stage, count in enumerate(blocks):
            for block in range(count):
                stride = 2 if stage > 0 and block == 0 else 1
                name = f"layer{stage + 1}/block{block}"
                value = self._block(
                    value, name, kind, channels=channels, width=width << stage, stride=stride
                )
                channels = (width << stage) * EXPANSION[kind]
        value = self._add("GlobalAveragePool", value)
        value = self._add("Flatten", value)
        kernel = self._normal("fc/weight", (channels, classes), 1 / np.sqrt(channels))
        value = self._add("MatMul", value, self._constant("fc/weight", kernel))
        bias = self._constant("fc/bias", self._normal("fc/bias", (classes,), 0.2))
        self._add("Add", value, bias, output="fc_out")

    def graph(self):
        """The ONNX model, serialised: image [n, h, w, 3] from 0 to 1 in, fc_out [n, classes]."""
        image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", "h", "w", 3])
        logits = helper.make_tensor_value_info("fc_out", TensorProto.FLOAT, ["n", None])
        graph = helper.make_graph(self._nodes, "resnet", [image], [logits], self._constants)
        opset = helper.make_opsetid("", 17)
        return helper.make_model(graph, opset_imports=[opset], ir_version=8).SerializeToString()

    def _block(self, value, name, kind, *, channels, width, stride):
        if kind == "basic":
            layers = ((width, 3, stride), (width, 3, 1))
        else:
            layers = ((width, 1, 1), (width, 3, stride), (width * 4, 1, 1))
        shortcut, inside = value, channels
        for index, (outside, kernel, step) in enumerate(layers, start=1):
            if index > 1:
                value = self._add("Relu", value)
            conv, norm = f"{name}/conv{index}", f"{name}/bn{index}"
            value = self._conv_bn(value, conv, norm, inside, outside, kernel=kernel, stride=step)
            inside = outside
        if stride != 1 or channels != inside:
            conv, norm = f"{name}/downsample/conv", f"{name}/downsample/bn"
            shortcut = self._conv_bn(
                shortcut, conv, norm, channels, inside, kernel=1, stride=stride
            )
        return self._add("Relu", self._add("Add", value, shortcut))

    def _conv_bn(self, value, conv, norm, inside, outside, *, kernel, stride):
        shape = (kernel, kernel, inside, outside)
        weight = self._normal(f"{conv}/weight", shape, np.sqrt(2 / (kernel * kernel * inside)))
        value = self._add(
            "Conv",
            value,
            self._constant(conv, weight.transpose(3, 2, 0, 1)),
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            pads=[kernel // 2] * 4,
        )
        statistics = {
            "scale": self._uniform(f"{norm}/scale", outside, 0.4, 1.2),
            "bias": self._normal(f"{norm}/bias", (outside,), 0.2),
            "mean": self._normal(f"{norm}/mean", (outside,), 0.2),
            "var": self._uniform(f"{norm}/var", outside, 0.5, 2),
        }
        constants = [self._constant(f"{norm}/{key}", array) for key, array in statistics.items()]
        return self._add("BatchNormalization", value, *constants, epsilon=EPSILON)

    def _normal(self, name, shape, spread):
        return self._keep(name, self._random.normal(0, spread, shape))

    def _uniform(self, name, size, low, high):
        return self._keep(name, self._random.uniform(low, high, size))

    def _keep(self, name, array):
        self.weights[name] = array.astype(np.float32)
        return self.weights[name]

    def _constant(self, name, array):
        self._constants.append(numpy_helper.from_array(np.float32(array), name))
        return name

    def _add(self, operation, *inputs, output=None, **attributes):
        output = output or f"{operation}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(operation, inputs, [output], **attributes))
        return output
