"""Gives back what it gets; clients load and unload it, with other configurations and files."""

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [
            pb_utils.InferenceResponse(
                [
                    pb_utils.Tensor(
                        "OUT", pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()
                    )
                ]
            )
            for request in requests
        ]
