"""Passes its inputs on to the model that MODEL_NAME names, and the answer back."""

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        # A name may be bytes, as it comes from the client.
        name = pb_utils.get_input_tensor_by_name(request, "MODEL_NAME").as_numpy()[0]
        inputs = [pb_utils.get_input_tensor_by_name(request, each) for each in ("INPUT0", "INPUT1")]
        response = pb_utils.InferenceRequest(
            model_name=name, requested_output_names=["OUTPUT0", "OUTPUT1"], inputs=inputs
        ).exec()
        if response.has_error():
            raise pb_utils.TritonModelException(response.error().message())
        return pb_utils.InferenceResponse(output_tensors=response.output_tensors())
