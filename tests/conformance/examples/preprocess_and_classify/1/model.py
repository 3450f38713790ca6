"""One model after another, as an ensemble has them: encoded image in, scores of the classes out."""

import triton_python_backend_utils as pb_utils


def ask(model, request, tensor, output):
    response = pb_utils.InferenceRequest(
        model_name=model,
        inputs=[tensor],
        requested_output_names=[output],
        request_id=request.request_id(),
        trace=request.trace(),
    ).exec()
    if response.has_error():
        raise pb_utils.TritonModelException(response.error().message())
    return pb_utils.get_output_tensor_by_name(response, output).as_numpy()


class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            encoded = pb_utils.get_input_tensor_by_name(request, "INPUT").as_numpy()
            image = ask("preprocess", request, pb_utils.Tensor("INPUT_0", encoded), "OUTPUT_0")
            scores = ask("classify", request, pb_utils.Tensor("input", image), "output")
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT", scores)]))
        return responses
