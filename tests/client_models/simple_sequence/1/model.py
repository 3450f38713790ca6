"""Gives back each number of a sequence, the first one plus 1."""

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        value, start = (
            pb_utils.get_input_tensor_by_name(request, name).as_numpy()
            for name in ("INPUT", "START")
        )
        return pb_utils.InferenceResponse(
            [pb_utils.Tensor("OUTPUT", value + start.reshape(value.shape))]
        )
