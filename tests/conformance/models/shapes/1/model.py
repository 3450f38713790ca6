"""Tells what it sees of a request; answers with the inputs that are outputs, too."""

import json

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        seen = []
        echoed = []
        for tensor in request.inputs():
            array = tensor.as_numpy()
            seen.append([tensor.name(), tensor.shape(), str(array.dtype), array.shape])
            echoed.append(pb_utils.Tensor(tensor.name(), array))
        text = np.array([json.dumps(seen)], dtype=object)
        return pb_utils.InferenceResponse([pb_utils.Tensor("SEEN", text), *echoed])
