"""Gives back every tensor that it gets, of any datatype."""

import json

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        json.loads(request.parameters())
        tensors = [
            pb_utils.Tensor.from_dlpack(f"OUT_{tensor.name()}", tensor.to_dlpack())
            if tensor.name() == "BF16"
            else pb_utils.Tensor(f"OUT_{tensor.name()}", tensor.as_numpy())
            for tensor in request.inputs()
        ]
        return pb_utils.InferenceResponse(tensors)
