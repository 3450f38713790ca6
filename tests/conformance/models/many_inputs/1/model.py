"""Answers the names of its inputs, in the order in which it gets them."""

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            names = [tensor.name().encode() for tensor in request.inputs()]
            tensor = pb_utils.Tensor("NAMES", np.array(names, dtype=object))
            responses.append(pb_utils.InferenceResponse([tensor]))
        return responses
