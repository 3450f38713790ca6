"""The sum and the difference of two rows of sixteen numbers that are written as text."""

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        left, right = (
            pb_utils.get_input_tensor_by_name(request, name).as_numpy().astype(np.int64)
            for name in ("INPUT0", "INPUT1")
        )
        results = {"OUTPUT0": left + right, "OUTPUT1": left - right}
        return pb_utils.InferenceResponse(
            [
                pb_utils.Tensor(name, values.astype(np.bytes_).astype(np.object_))
                for name, values in results.items()
            ]
        )
