"""Takes a while, so that requests pile up; answers which call it was and how many were in it."""

import time

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        self.calls = 0

    def execute(self, requests):
        time.sleep(0.05)
        self.calls += 1
        responses = []
        for request in requests:
            rows = request.inputs()[0].shape()[0]
            call = np.tile(np.array([self.calls, len(requests)], dtype=np.int64), (rows, 1))
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("CALL", call)]))
        return responses
