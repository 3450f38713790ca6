"""Adds two inputs, and tells how long that took."""

import time

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        start = time.perf_counter_ns()
        a = pb_utils.get_input_tensor_by_name(request, "A")
        b = pb_utils.get_input_tensor_by_name(request, "B")
        total = pb_utils.Tensor("SUM", a.as_numpy() + b.as_numpy())
        own = np.array([time.perf_counter_ns() - start])
        return pb_utils.InferenceResponse([total, pb_utils.Tensor("OWN_NS", own)])
