"""Answers with the tensors of the request."""

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [
            pb_utils.InferenceResponse(sorted(request.inputs(), key=lambda tensor: tensor.name()))
            for request in requests
        ]
