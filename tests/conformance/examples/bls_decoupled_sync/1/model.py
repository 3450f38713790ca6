"""Adds up all that square_int32 sends for IN, which is the square of IN."""

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        responses = pb_utils.InferenceRequest(
            model_name="square_int32",
            inputs=[pb_utils.get_input_tensor_by_name(request, "IN")],
            requested_output_names=["OUT"],
        ).exec(decoupled=True)
        total = np.zeros(1, np.int32)
        for response in responses:
            if response.has_error():
                raise pb_utils.TritonModelException(response.error().message())
            # The last one has no tensors: it only says that it is the last.
            if response.output_tensors():
                total += pb_utils.get_output_tensor_by_name(response, "OUT").as_numpy()
        return pb_utils.InferenceResponse([pb_utils.Tensor("SUM", total)])
