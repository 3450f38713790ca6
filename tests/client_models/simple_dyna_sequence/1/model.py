"""Gives back each number of a sequence, the first plus 1, the last plus the sequence's id."""

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        value, start, end, sequence = (
            pb_utils.get_input_tensor_by_name(request, name).as_numpy()
            for name in ("INPUT", "START", "END", "CORRID")
        )
        more = start + end * sequence.astype(np.int32)
        return pb_utils.InferenceResponse(
            [pb_utils.Tensor("OUTPUT", value + more.reshape(value.shape))]
        )
