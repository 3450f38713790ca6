"""Fails as it is asked to."""

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        tensors = [request.inputs()[0].as_numpy() for request in requests]
        asked = {how for tensor in tensors for how in tensor.ravel().tolist()}
        if b"raise" in asked:
            raise ValueError("as asked")
        if b"too few" in asked:
            return []
        return [self.answer(tensor) for tensor in tensors]

    def answer(self, tensor):
        if b"error" in tensor:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError("as asked"))
        if b"nothing" in tensor:
            return pb_utils.InferenceResponse([])
        return pb_utils.InferenceResponse([pb_utils.Tensor("OUT", tensor)])
