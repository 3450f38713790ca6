"""Answers with everything that a model is told."""

import json
import os

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        self.args = args

    def execute(self, requests):
        responses = []
        for request in requests:
            tensor = request.inputs()[0]
            array = tensor.as_numpy()
            facts = {
                "args": dict(sorted(self.args.items())),
                "model_dir": os.path.basename(pb_utils.get_model_dir()),
                "module": type(self).__module__,
                "request_id": request.request_id(),
                "correlation_id": request.correlation_id(),
                "flags": request.flags(),
                "timeout": request.timeout(),
                "parameters": json.loads(request.parameters()),
                "requested": sorted(request.requested_output_names()),
                "tensor": [tensor.name(), tensor.shape(), str(array.dtype), tensor.is_cpu()],
                "same": tensor.as_numpy() is array,
                "flags_of_array": [array.flags.writeable, array.flags.owndata],
            }
            text = np.array([[json.dumps(facts).encode()]], dtype=object)
            outputs = [pb_utils.Tensor("JSON", text), pb_utils.Tensor("OUT", array * 2)]
            responses.append(pb_utils.InferenceResponse(outputs))
        return responses
