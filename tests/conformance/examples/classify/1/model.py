"""Stands in for a trained network: class 0, 1 or 2 is the colour of which the image has most."""

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            images = pb_utils.get_input_tensor_by_name(request, "input").as_numpy()
            scores = np.zeros((len(images), 1000), np.float32)
            scores[:, :3] = images.mean((2, 3))
            scores[:, 3:] = scores[:, :3].min() - 1
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("output", scores)]))
        return responses
