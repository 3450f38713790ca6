"""Turns the bytes of an encoded image into what image classifiers take: normalised and 224 wide."""

import io

import numpy as np
import triton_python_backend_utils as pb_utils
from PIL import Image

SIZE = 224
MEAN = np.array([0.485, 0.456, 0.406], np.float32)
DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)


def prepare(encoded):
    image = Image.open(io.BytesIO(encoded.tobytes())).convert("RGB")
    image = image.resize((SIZE, SIZE), Image.Resampling.BILINEAR)
    pixels = np.asarray(image, np.float32) / np.float32(255)
    return ((pixels - MEAN) / DEVIATION).transpose(2, 0, 1)


class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            encoded = pb_utils.get_input_tensor_by_name(request, "INPUT_0").as_numpy()
            # A transposed array is not contiguous: the tensor holds a copy that is.
            prepared = prepare(encoded)[None]
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT_0", prepared)]))
        return responses
