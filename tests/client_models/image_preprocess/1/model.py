"""Reads image files in the binary PPM format, and scales them to what the classifier takes."""

import numpy as np
import triton_python_backend_utils as pb_utils

SIZE = 299


class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        files = pb_utils.get_input_tensor_by_name(request, "FILE").as_numpy()
        images = np.stack([self.read(file) for file in files.ravel()])
        return pb_utils.InferenceResponse([pb_utils.Tensor("IMAGE", images)])

    def read(self, file):
        kind, width, height, maximum = file.split(maxsplit=4)[:4]
        if kind != b"P6":
            raise ValueError(f"expected a binary PPM file; found one that begins with {kind!r}")
        width, height = int(width), int(height)
        pixels = np.frombuffer(file[-3 * width * height :], np.uint8).reshape(height, width, 3)
        rows, columns = (np.arange(SIZE) * size // SIZE for size in (height, width))
        nearest = pixels[rows][:, columns]
        return nearest.astype(np.float32) / (float(maximum) / 2) - 1
